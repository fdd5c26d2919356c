"""Images with the class of every pixel: ADE20K and shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.fitting import normalize_image
from atmviz.geometry import MIN_SIZE_PX, resized_size
from atmviz.sources.datasets import class_names, require_dataset
from atmviz.sources.opening import open_source
from atmviz.sources.source import Source, Split, read_labeled

View = Callable[[np.ndarray, np.ndarray], dict[str, Any]]
_MAX_ASPECT = 4  # longer over shorter side that a resized image keeps; beyond it the longer side is 4 times `size`
_MAX_FRACTION = 0.75  # of one class in a training crop
_CROP_TRIES = 10


@dataclass(frozen=True)
class ViewAugmentation:
    """How training views vary; the defaults change nothing.

    Attributes:
        scale_min, scale_max: Range of the shorter side before the crop, as a factor of the crop's side.
        hflip: Probability of a horizontal flip.
        photometric: Probability of each change of brightness, contrast, saturation and hue.
    """

    scale_min: float = 1.0
    scale_max: float = 1.0
    hflip: float = 0.0
    photometric: float = 0.0


class SegmentationImages(Dataset):
    """Images [3, H, W], normalized, and masks [H, W], uint8: the class of every pixel, 255 where none counts.

    Attributes:
        classes: Names, by label.
        notes: Lines for people on what was left out, and where masks are.
    """

    def __init__(self, source: Source, classes: Sequence[str], transform: View) -> None:
        self.source, self.classes, self.transform = source, tuple(classes), transform
        self.notes = [*filter(None, [source.note, source.require_truth()])]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, truth = read_labeled(self.source, index)
        return self.transform(image, truth.segments)  # type: ignore[arg-type]


def open_segmentation(
    name: str,
    split: Split,
    size: int,
    *,
    data_dir: str | Path | None = None,
    augmentation: ViewAugmentation | None = None,
    scales: Sequence[float] = (1.0,),
    seed: int = 0,
) -> SegmentationImages:
    """Open a dataset for training (with an augmentation: views of `size` px) or evaluation (whole images).

    Args:
        name: "ade20k" or "shapes".
        split: "train" or "val".
        size: Side of the training view; in evaluation the shorter side of the resized image, whose mask keeps its
            own size. Scenes of shapes are drawn at this size.
        data_dir: Folder of the dataset, see `open_source`.
        augmentation: How training views vary; None for evaluation.
        scales: In evaluation, the sizes of the views as factors of `size`.
        seed: Seed of the scenes of shapes.

    Raises:
        SettingsError: no such dataset.
        DatasetError: images without masks; when read, a mask that does not fit its image.
    """
    require_dataset(name, "segment")
    source = open_source(name, data_dir=data_dir, split=split, size=size, seed=seed, upright=False)
    view: View = partial(whole_views, size=size, scales=scales)
    if augmentation is not None:
        view = partial(random_view, size=size, augmentation=augmentation)
    return SegmentationImages(source, class_names(name, "segment"), view)


def whole_views(image: np.ndarray, mask: np.ndarray, size: int, scales: Sequence[float]) -> dict[str, Any]:
    """Return `views` [3, H, W] with the shorter side at `size` px times each scale, and the full `image` and `mask`.

    Source: mmsegmentation's test pipeline.
    """
    views = [normalize_image(_resize(image, _view_size(image, size, scale))) for scale in scales]
    return {"views": views, "image": normalize_image(image), "mask": torch.from_numpy(mask)}


def random_view(image: np.ndarray, mask: np.ndarray, size: int, augmentation: ViewAugmentation) -> dict[str, Any]:
    """Return `image` [3, size, size] and `mask` [size, size] of a crop, randomly resized, flipped and recolored.

    Outside the image, pixels have the mean color and do not count. One class covers at most three quarters of the crop,
    if ten tries find such a crop.

    Source: mmsegmentation 0.11.
    """
    a = augmentation
    resized = _view_size(image, size, _uniform(a.scale_min, a.scale_max))
    image, mask = _crop(_resize(image, resized), _resize(mask, resized, cv2.INTER_NEAREST), size)
    if _happens(a.hflip):
        image, mask = image[:, ::-1], mask[:, ::-1]
    image = recolored(image, a.photometric)
    padding = (0, size - image.shape[1], 0, size - image.shape[0])  # right and bottom
    pad = torch.nn.functional.pad
    labels = torch.from_numpy(np.ascontiguousarray(mask))
    return {"image": pad(normalize_image(image), padding), "mask": pad(labels, padding, value=IGNORE_INDEX)}


def _crop(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = mask.shape
    if (height, width) == (size, size):
        return image, mask
    for _ in range(_CROP_TRIES):
        top = int(torch.randint(max(0, height - size) + 1, ()))
        left = int(torch.randint(max(0, width - size) + 1, ()))
        crop = slice(top, top + size), slice(left, left + size)
        counts = np.bincount(mask[crop].ravel(), minlength=256)[:IGNORE_INDEX]
        if counts.max() < _MAX_FRACTION * counts.sum():
            break
    return image[crop], mask[crop]


def recolored(image: np.ndarray, probability: float) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of an image [H, W, 3], uint8, each with this probability.

    Contrast changes before saturation and hue, or after them. Values are clipped to uint8 after each step.

    Source: mmsegmentation 0.11's `PhotoMetricDistortion`, which never swaps channels, although its text says so.
    """
    rest = (_contrasted, _saturated, _hue_shifted) if _happens(0.5) else (_saturated, _hue_shifted, _contrasted)
    for change in (_brightened, *rest):
        if _happens(probability):
            image = change(image)
    return image


def _brightened(image: np.ndarray) -> np.ndarray:
    return _linear(image, shift=_uniform(-32, 32))


def _contrasted(image: np.ndarray) -> np.ndarray:
    return _linear(image, factor=_uniform(0.5, 1.5))


def _saturated(image: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = _linear(hsv[..., 1], factor=_uniform(0.5, 1.5))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _hue_shifted(image: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(torch.randint(-18, 18, ()))) % 180  # OpenCV's hue has 180 steps
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _linear(values: np.ndarray, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (values.astype(np.float32) * factor + shift).clip(0, 255).astype(np.uint8)


def _happens(probability: float) -> bool:
    return torch.rand(()).item() < probability


def _uniform(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def _view_size(image: np.ndarray, size: int, scale: float) -> tuple[int, int]:
    """Return (height, width) of an image resized to `size` times `scale`, at least 32 px, which networks need."""
    height, width = resized_size(image.shape[:2], int(size * scale), int(_MAX_ASPECT * size * scale))
    return max(MIN_SIZE_PX, height), max(MIN_SIZE_PX, width)


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(image, size[::-1], interpolation=interpolation)
