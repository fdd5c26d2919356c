"""What every source of images offers: names, pixels, and what is known of each image. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np

from atmviz.errors import DatasetError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Object:
    """One visible object.

    Attributes:
        label: Class number among the dataset's object classes.
        box: (left, top, right, bottom), px; right and bottom are exclusive.
        length_px: Length along the object's axis, hidden parts included; None where the source does not know it.
        elongation: Length over width of the whole outline; None where the source does not know it.
        angle: Direction of the axis, radians, clockwise from the right; None where the source does not know it.
    """

    label: int
    box: Box
    length_px: float | None = None
    elongation: float | None = None
    angle: float | None = None


@dataclass(frozen=True)
class Truth:
    """What is known of one image, in the pixels that `Source.read` gives.

    Attributes:
        label: Class of the image.
        segments: Class of each pixel, [H, W], uint8; 255 where none is given.
        instances: Object of each pixel, [H, W]: 0 for none, k for `objects[k - 1]`.
        objects: The objects, each with at least one pixel of `instances` where that is given.
    """

    label: int | None = None
    segments: np.ndarray | None = None
    instances: np.ndarray | None = None
    objects: Sequence[Object] = ()


class Source(Protocol):
    """An ordered collection of images."""

    @property
    def title(self) -> str:
        """Short name for titles and file names, e.g. "ade20k"."""

    @property
    def root(self) -> str:
        """Folder that names are relative to; "" where there are no files."""

    @property
    def sampling(self) -> Mapping[str, int]:
        """How the images were chosen, e.g. {"limit": 5000, "seed": 0, "of": 50000}; empty for all of a folder."""

    @property
    def note(self) -> str:
        """One line for people on what was left out; "" where nothing was."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the name of an image as recordings list it, with "/" between parts."""

    def read(self, index: int) -> np.ndarray:
        """Return an image as RGB, uint8, [H, W, 3], upright; raise DatasetError where it cannot be read."""

    def truth(self, index: int) -> Truth | None:
        """Return what is known of an image, None where nothing is; raise DatasetError for damaged annotations."""

    def require_truth(self) -> str:
        """Raise DatasetError where annotations are missing; return a line for people on where they are, or ""."""

    def fingerprint(self, index: int) -> str:
        """Return a text that changes when the pixels of an image change."""

    def sample(self, limit: int, seed: int) -> Self:
        """Return `limit` of the images: a random sample in the source's order, or the first ones of drawn scenes."""


def draw_sample(of: int, limit: int, seed: int) -> tuple[list[int], Mapping[str, int]]:
    """Return `limit` random numbers below `of` in ascending order, and the `Source.sampling` that says so."""
    chosen = np.sort(np.random.default_rng(seed).permutation(of)[:limit])
    return chosen.tolist(), {"limit": limit, "seed": seed, "of": of}


def read_labeled(source: Source, index: int) -> tuple[np.ndarray, Truth]:
    """Return an image [H, W, 3] and what is known of it; raise DatasetError where their sizes differ."""
    image, truth = source.read(index), source.truth(index) or Truth()
    for labels in (truth.segments, truth.instances):
        if labels is not None and labels.shape != image.shape[:2]:
            raise DatasetError(
                f"mask of {source.name(index)} is {' x '.join(map(str, labels.shape))}, its image "
                f"{image.shape[0]} x {image.shape[1]}: expected one label per pixel; take both of one release"
            )
    return image, truth


# EXIF orientation -> t: rows become columns (transpose), then r: rows are reversed, then c: columns are reversed
_TURNS = {2: "c", 3: "rc", 4: "r", 5: "t", 6: "tc", 7: "trc", 8: "tr"}


def turn_truth(truth: Truth, orientation: int) -> Truth:
    """Turn segments, instances and boxes as EXIF orientation 1 to 8 turns the image.

    >>> turn_truth(Truth(segments=np.array([[1, 2, 3]])), 6).segments.tolist()
    [[1], [2], [3]]
    """
    shape = next((part.shape for part in (truth.segments, truth.instances) if part is not None), None)
    if orientation not in _TURNS or shape is None:
        return truth
    turn = _TURNS[orientation]
    return replace(
        truth,
        segments=None if truth.segments is None else _turn(truth.segments, turn),
        instances=None if truth.instances is None else _turn(truth.instances, turn),
        objects=tuple(replace(thing, box=_turn_box(thing.box, shape, turn)) for thing in truth.objects),
    )


def _turn(pixels: np.ndarray, turn: str) -> np.ndarray:
    pixels = pixels.T if "t" in turn else pixels
    return np.ascontiguousarray(pixels[:: -1 if "r" in turn else 1, :: -1 if "c" in turn else 1])


def _turn_box(box: Box, shape: tuple[int, ...], turn: str) -> Box:
    left, top, right, bottom = box
    height, width = shape
    if "t" in turn:
        left, top, right, bottom, height, width = top, left, bottom, right, width, height
    if "r" in turn:
        top, bottom = height - bottom, height - top
    if "c" in turn:
        left, right = width - right, width - left
    return left, top, right, bottom
