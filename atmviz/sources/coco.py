"""COCO's instances: boxes, classes and masks of objects. Torch-free."""

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from atmviz.errors import AtmvizError, DatasetError, join_limited
from atmviz.sources.coco_json import Annotation, Instances, read_instances
from atmviz.sources.datasets import DATASETS
from atmviz.sources.decoding import load_image
from atmviz.sources.files import ImageFiles, file_fingerprint
from atmviz.sources.source import Object, Truth


class CocoInstances:
    """What COCO's instances file knows of the images of a folder; read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def file(self) -> tuple[Path, str]:
        """The instances file, `annotations/instances_val2017.json` beside `val2017`, and a line for people.

        If the folder is a link, the file beside the link is preferred to the one beside its target; the line says where
        the latter is taken.
        """
        folder = self.folder
        for root in (folder, folder.resolve()):
            for base in (root.parent, root.parent.parent):
                file = base / "annotations" / f"instances_{root.name}.json"
                if os.path.isfile(file):
                    beside = f"{folder} is a link: taking the annotations {file} beside its target"
                    return file, "" if base in folder.parents else beside
        raise DatasetError(
            f"no annotations of {folder}: expected {folder.parent}/annotations/instances_{folder.name}.json; "
            f"unpack annotations_trainval2017.zip ({DATASETS['coco'].layout})"
        )

    @cached_property
    def content(self) -> Instances:
        """The content of the file."""
        return read_instances(self.file[0])

    @cached_property
    def _by_name(self) -> dict[str, list[dict[str, Any]]]:
        records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self.content.records:
            records[record["file_name"]].append(record)
        return records

    def truth(self, images: ImageFiles, index: int) -> Truth | None:
        """Return the objects of an image, crowds left out; None for an image that the file does not list.

        Where masks overlap, `instances` shows the smaller object. Objects without a visible pixel are left out.
        """
        records = self._by_name.get(images.names[index], [])
        if not records:
            return None
        size = size_of(records[0])
        listed = chain.from_iterable(map(self.checked_annotations, records))
        annotations = [annotation for annotation in listed if not annotation.get("iscrowd")]
        masks = [coco_masks().decode(run_lengths(annotation, size)) for annotation in annotations]
        instances = np.zeros(size, np.int32)
        for k in sorted(range(len(masks)), key=lambda k: -int(masks[k].sum())):
            instances[masks[k] > 0] = k + 1
        visible = np.unique(instances[instances > 0])
        labels = {category: label for label, category in enumerate(self.content.category_ids)}
        shown = [annotations[k - 1] for k in visible.tolist()]
        objects = tuple(Object(labels[thing["category_id"]], box_within(thing, size)) for thing in shown)
        numbers = np.zeros(len(masks) + 1, np.int32)
        numbers[visible] = np.arange(1, len(visible) + 1)
        return Truth(instances=numbers[instances], objects=objects)

    def require(self, images: ImageFiles) -> str:
        """Raise DatasetError where the file is missing, damaged, or lists images that are not there."""
        names = set(images.names)  # of a sample, the others are still in the folder
        records = [
            record
            for record in self.content.records
            if record["file_name"] in names or not (images.folder / record["file_name"]).is_file()
        ]
        self.require_files(images, records)
        return self.file[1]

    def fingerprint(self, images: ImageFiles, index: int) -> str:
        """Return size and time of the file."""
        return file_fingerprint(self.file[0])

    def require_files(self, images: ImageFiles, records: Sequence[dict[str, Any]]) -> None:
        """Raise DatasetError where images of these records are not there, or there are no records."""
        names = set(images.names)
        if missing := [record["file_name"] for record in records if record["file_name"] not in names]:
            raise DatasetError(
                f"{len(missing)} of the {len(records)} images in {self.file[0]} are not in {images.root} "
                f"({join_limited(missing, 3)}): unpack the images again, or take the annotations of this split"
            )
        if not records:
            raise DatasetError(f"{self.file[0]} has no image with objects: expected instances to learn from")

    def read(self, images: ImageFiles, record: dict[str, Any]) -> tuple[np.ndarray, list[Annotation]]:
        """Return an image [H, W, 3], as it lies in its file, and its annotations.

        Raises:
            DatasetError: an image or a mask of another size than the record says.
        """
        image = load_image(images.folder / record["file_name"], upright=False)
        height, width = size_of(record)
        if image.shape[:2] != (height, width):
            raise DatasetError(
                f"image {record['file_name']} is {image.shape[0]} x {image.shape[1]} px, {self.file[0]} says "
                f"{height} x {width}: take images and annotations of one release"
            )
        return image, self.checked_annotations(record)

    def checked_annotations(self, record: dict[str, Any]) -> list[Annotation]:
        """Return the annotations of an image; raise DatasetError where a stored mask has another size."""
        annotations = self.content.annotations[record["id"]]
        for annotation in annotations:
            segmentation = annotation["segmentation"]
            if isinstance(segmentation, dict) and tuple(segmentation["size"]) != size_of(record):
                raise DatasetError(
                    f"annotation {annotation.get('id')} of {record['file_name']} has a mask of {segmentation['size']} "
                    f"px, its image {list(size_of(record))}: correct {self.file[0]}"
                )
        return annotations


def size_of(record: dict[str, Any]) -> tuple[int, int]:
    """Return (height, width) px of an image by its record."""
    return record["height"], record["width"]


def box_within(annotation: Annotation, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the part of a box (left, top, right, bottom) on an image of `size` (height, width) px."""
    left, top, width, height = annotation["bbox"]
    return max(left, 0), max(top, 0), min(left + width, size[1]), min(top + height, size[0])


def is_learned(annotation: Annotation, size: tuple[int, int]) -> bool:
    """Return whether a detector learns from it: no crowd, and a pixel or more on the image, as in mmdetection."""
    left, top, right, bottom = box_within(annotation, size)
    return not annotation.get("iscrowd") and right - left >= 1 and bottom - top >= 1


def run_lengths(annotation: Annotation, size: tuple[int, int]) -> dict[str, Any]:
    """Return the mask of an annotation as compressed run lengths, for an image of `size` (height, width) px.

    Polygons of under three points, which have no area, are left out.
    """
    masks = coco_masks()
    if "mask" in annotation:
        return masks.encode(np.asfortranarray(annotation["mask"], dtype=np.uint8))
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if sum(map(_perimeter, polygons)) > 4 * (size[0] + 1) * (size[1] + 1):  # the backend walks along all of it
            raise DatasetError(
                f"annotation {annotation.get('id')} has polygons longer than the edges of all pixels of its image of "
                f"{size[0]} x {size[1]} px: correct it"
            )
        return masks.merge(masks.frPyObjects(polygons, *size))
    if isinstance(segmentation["counts"], list):
        return masks.frPyObjects(segmentation, *size)
    return segmentation


def _perimeter(polygon: Sequence[float]) -> float:
    """Length of a closed polygon as the backend walks it: the longer of the steps across and down, px."""
    points = np.asarray(polygon).reshape(-1, 2)
    return np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()


def coco_masks() -> Any:
    """Return the COCO backend's functions for masks.

    Raises:
        AtmvizError: it is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise AtmvizError(
            "no faster-coco-eval, which detectors' data and evaluation need: pip install 'atmviz[coco]'"
        ) from None
    return mask
