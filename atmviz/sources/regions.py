"""Objects of masks: the connected regions of one value; and a folder of masks as labels of images. Torch-free."""

import os
from pathlib import Path

import cv2
import numpy as np

from atmviz.architecture import IGNORE_INDEX
from atmviz.errors import DatasetError, join_limited
from atmviz.sources.decoding import load_mask
from atmviz.sources.files import ImageFiles, file_fingerprint
from atmviz.sources.source import Object, Truth

_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")


def with_regions(truth: Truth | None) -> Truth:
    """Return what is known of an image, with the regions of its classes as objects where it tells no objects apart.

    A region is what pixels of one class make that touch by sides or corners.
    """
    truth = truth or Truth()
    if truth.instances is not None or truth.segments is None:
        return truth
    return regions_of(truth.segments, nothing=IGNORE_INDEX)


def regions_of(values: np.ndarray, nothing: int) -> Truth:
    """Return the connected regions of a mask [H, W] as objects, whose labels are the values.

    Args:
        values: Whole numbers.
        nothing: The value of pixels that belong to no object.
    """
    pieces = _touching_pieces(values)
    label, place = np.empty(pieces.max() + 1, values.dtype), np.full(pieces.max() + 1, -1)
    label[pieces], place[pieces] = values, np.arange(values.size).reshape(values.shape)
    objects = np.lexsort((place, label))
    objects = objects[((label != nothing) & (place >= 0))[objects]]
    numbers = np.zeros(len(label), np.int32)
    numbers[objects] = np.arange(1, len(objects) + 1)
    nowhere = (0.0, 0.0, 0.0, 0.0)  # boxes of regions are not asked for
    return Truth(instances=numbers[pieces], objects=tuple(Object(each, nowhere) for each in label[objects].tolist()))


def _touching_pieces(values: np.ndarray) -> np.ndarray:
    """Return a number for each pixel, [H, W], equal where pixels of one value touch by sides or corners.

    All values are searched at once, on a grid of pixels and of the sides between them: a mask may have thousands.
    """
    sides = np.zeros((2 * values.shape[0] - 1, 2 * values.shape[1] - 1), np.uint8)
    sides[::2, ::2] = 1
    sides[::2, 1::2] = values[:, 1:] == values[:, :-1]
    sides[1::2, ::2] = values[1:] == values[:-1]
    count, pieces = cv2.connectedComponents(sides, connectivity=4)
    pieces = np.ascontiguousarray(pieces[::2, ::2])
    ends = []
    for here, there in ((np.s_[1:, 1:], np.s_[:-1, :-1]), (np.s_[1:, :-1], np.s_[:-1, 1:])):
        corners = (values[here] == values[there]) & (pieces[here] != pieces[there])
        ends.append([pieces[here][corners], pieces[there][corners]])
    first, second = np.concatenate(ends, axis=1)
    joined = np.arange(count)
    while (joined[first] != joined[second]).any():
        low, high = np.sort([joined[first], joined[second]], axis=0)
        np.minimum.at(joined, high, low)
        while (joined[joined] != joined).any():
            joined = joined[joined]
    return joined[pieces]


class FolderMasks:
    """Masks in a folder, named like the images: pixels of one value that touch are an object, 0 is none.

    Masks lie as the pixels of the image's file do, before the rotation that EXIF asks for.

    Args:
        folder: The folder; a mask of `a/b.jpg` is `a/b.png` in it, or .tif, .bmp or .gif.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mask(self, name: str) -> Path | None:
        """Return the path of an image's mask; None where there is none."""
        paths = ((self.folder / name).with_suffix(suffix) for suffix in _SUFFIXES)
        return next((path for path in paths if os.path.isfile(path)), None)

    def truth(self, images: ImageFiles, index: int) -> Truth:
        """Return the objects of an image; raise DatasetError for a missing or damaged mask."""
        path = self.mask(images.names[index])
        if path is None:
            raise DatasetError(f"no mask of {images.names[index]} in {self.folder}: expected a PNG of that name")
        return regions_of(load_mask(path), nothing=0)

    def fingerprint(self, images: ImageFiles, index: int) -> str:
        """Return size and time of an image's mask; "" where there is none."""
        path = self.mask(images.names[index])
        return file_fingerprint(path) if path else ""

    def require(self, images: ImageFiles) -> str:
        """Raise DatasetError if images have no mask, or are their own."""
        if own := [
            name
            for k, name in enumerate(images.names)
            if os.path.realpath(self.mask(name) or "") == os.path.realpath(images.path(k))
        ]:
            raise DatasetError(
                f"{len(own)} of {len(images)} images would be their own masks ({join_limited(own, 3)}): expected masks "
                "in another folder"
            )
        if missing := [name for name in images.names if not self.mask(name)]:
            raise DatasetError(
                f"{len(missing)} of {len(images)} images have no mask in {self.folder} ({join_limited(missing, 3)}): "
                "expected a PNG of the same name for each; add them, or leave these images out"
            )
        return ""
