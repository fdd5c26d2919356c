"""Photographs of a page, and outlines of the objects on them. Torch-free."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from atmviz.errors import DatasetError
from atmviz.events import Events
from atmviz.recording.again import images_of
from atmviz.recording.label_quantities import MAX_OBJECTS
from atmviz.recording.labels import with_labels
from atmviz.recording.store import Recording
from atmviz.sources import Source
from atmviz.sources.regions import with_regions

_MAX_BYTES, _LONGER_PX = 100_000, 900


def jpeg_of(image: np.ndarray) -> str:
    """Return an image [H, W, 3], uint8 RGB, as a data URL of a JPEG of at most 100 kB before base64."""
    scale = min(1, _LONGER_PX / max(image.shape[:2]))
    while True:
        size = [max(1, round(scale * side)) for side in image.shape[1::-1]]
        small = Image.fromarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image)
        for quality in (90, 80, 70):
            small.save(written := io.BytesIO(), "JPEG", quality=quality)
            if written.tell() <= _MAX_BYTES:
                return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
        scale *= 0.8


def outlines_of(instances: np.ndarray) -> list[list[int]]:
    """Return outlines of the largest objects of a mask [H, W]: x and y of corners by turns, px.

    Args:
        instances: Object of each pixel: 0 for none.
    """
    areas = np.bincount(instances.ravel())
    areas[0] = 0
    found: list[list[int]] = []
    for number in np.argsort(-areas, kind="stable")[: min(MAX_OBJECTS, np.count_nonzero(areas))]:
        contours, _ = cv2.findContours((instances == number).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        tolerance = max(instances.shape) / 500
        found += [cv2.approxPolyDP(contour, tolerance, closed=True).ravel().tolist() for contour in contours]
    return [outline for outline in found if len(outline) > 4]


def photos_of(recording: Recording, names: Sequence[str], events: Events) -> list[dict[str, Any]]:
    """Return the photograph of each image, its height and width in px, and outlines; None for one that is gone.

    Args:
        recording: A recording.
        names: Names of its images.
        events: Receives why there are no photographs.
    """
    try:
        images: Source = images_of(recording)
        if recording.attrs.get("labels"):
            images, _ = with_labels(images, recording.attrs.get("masks") or "auto")
        index_of = {images.name(index): index for index in range(len(images))}
        return [_photo(images, index_of[name], bool(recording.attrs.get("labels"))) for name in names]
    except DatasetError as error:
        events.message(f"the page shows no photographs: {error}")
        return [{"photo": None, "image": recording.attrs["input_size"], "outlines": []} for _ in names]


def _photo(images: Source, index: int, labeled: bool) -> dict[str, Any]:
    image = images.read(index)
    truth = with_regions(images.truth(index)) if labeled else None
    instances = truth.instances if truth else None
    outlines = [] if instances is None else outlines_of(instances)
    return {"photo": jpeg_of(image), "image": list(image.shape[:2]), "outlines": outlines}
