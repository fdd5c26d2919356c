"""What objects tokens belong to: the truth of an image, fitted to the network as its pixels are. Torch-free.

Legend: H, W height and width of the network's input, px; K objects.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atmviz.errors import DatasetError, SettingsError
from atmviz.geometry import Placement
from atmviz.recording.label_quantities import MAX_OBJECTS, OBJECT_FIELDS
from atmviz.sources import Source
from atmviz.sources.files import ImageFiles, called
from atmviz.sources.regions import FolderMasks, with_regions
from atmviz.sources.source import Truth

_TRIED = 64


class ImageLabels(NamedTuple):
    """The objects of an image, as the network sees it.

    Attributes:
        instances: Object of each pixel of the input, [H, W], int32: 0 for none, 1 for the largest, and so on.
        objects: [64, fields], float64, see `OBJECT_FIELDS`; of the largest objects.
    """

    instances: np.ndarray
    objects: np.ndarray


def with_labels(images: Source, labels: str | None) -> tuple[Source, dict[str, str | None]]:
    """Return images whose truth tells objects apart, and what a recording says of it; unchanged without labels.

    Args:
        images: The images.
        labels: "auto" for what the dataset knows, a folder of masks, or None.

    Raises:
        SettingsError: nothing is known of these images, or they are drawn and masks were given.
        DatasetError: masks or annotations are missing, or none can be read.
    """
    if labels is None:
        return images, {"labels": None, "masks": None}
    folder = None if labels == "auto" else called(Path(labels))
    if folder is not None:
        if not folder.is_dir():
            raise SettingsError(f"got labels {labels}, expected auto or a folder of masks")
        if not isinstance(images, ImageFiles):
            raise SettingsError(f"got masks for {images.title}, whose objects are known: take labels auto")
        images = replace(images, labels=FolderMasks(folder))
    images.require_truth()
    known = _known_truth(images)
    if known is None:
        raise SettingsError(f"no objects are known of {images.title}: name a folder of masks, or record without labels")
    what = "objects" if known.instances is not None else "connected regions of one class"
    if folder is None:
        return images, {"labels": f"{what} of {images.title}", "masks": None}
    return images, {"labels": f"connected regions of the masks of {folder.name}", "masks": str(folder)}


def _known_truth(images: Source) -> Truth | None:
    """Return the first truth of the first images that tells objects apart; raise DatasetError if none can be read."""
    error: DatasetError | None = None
    for index in range(min(len(images), _TRIED)):
        try:
            truth = images.truth(index)
        except DatasetError as reason:
            error = error or reason
            continue
        if truth and (truth.instances is not None or truth.segments is not None):
            return truth
    if error:
        raise error
    return None


def fit_labels(truth: Truth | None, placement: Placement) -> ImageLabels:
    """Return the objects of an image as the network sees them: nearest neighbor, in the geometry of its pixels."""
    truth = with_regions(truth)
    objects = np.zeros((MAX_OBJECTS, len(OBJECT_FIELDS)))
    objects[:, 0] = -1
    if truth.instances is None:
        return ImageLabels(np.zeros(placement.size, np.int32), objects)
    rows, columns = (_original_px(placement, axis) for axis in (0, 1))
    instances = truth.instances[rows[:, None], columns]
    areas = np.bincount(instances.ravel(), minlength=len(truth.objects) + 1)
    areas[0] = 0
    largest = np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]
    numbers = np.zeros(len(areas), np.int32)
    numbers[largest] = np.arange(1, len(largest) + 1)
    instances = numbers[instances]
    shown = largest[:MAX_OBJECTS]
    objects[: len(shown), 1] = areas[shown]
    for axis, field in ((1, 2), (0, 3)):
        objects[: len(shown), field] = _extents(instances, axis)[: len(shown)]
    scale = np.sqrt(np.prod(placement.resized) / np.prod(placement.image))
    for row, k in zip(objects, shown.tolist(), strict=False):
        thing = truth.objects[k - 1]
        row[0] = thing.label
        row[4:] = (thing.length_px or 0) * scale, thing.elongation or 0, thing.angle or 0
    return ImageLabels(instances, objects)


def _original_px(placement: Placement, axis: int) -> np.ndarray:
    """Return the pixel of the original in which the center of each input pixel lies, along an axis."""
    centers = 2 * (np.arange(placement.size[axis]) + placement.origin[axis]) + 1  # in half pixels of the resized image
    return np.minimum(centers * placement.image[axis] // (2 * placement.resized[axis]), placement.image[axis] - 1)


def _extents(instances: np.ndarray, axis: int) -> np.ndarray:
    """Return the standard deviation of the pixel positions of each object along an axis, [K], px."""
    positions, numbers = np.indices(instances.shape)[axis].ravel(), instances.ravel()
    count = np.maximum(np.bincount(numbers), 1)
    mean = np.bincount(numbers, positions) / count
    squares = np.bincount(numbers, (positions - mean[numbers]) ** 2)
    return np.sqrt(squares / count)[1:]
