"""Images with the class of every pixel: ADE20K and shapes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.classification import Split
from atmviz.data.images import ImageSet, find_dataset, load_image, load_mask
from atmviz.data.shapes import SHAPE_CLASSES, Shapes
from atmviz.errors import DatasetError, join_limited
from atmviz.geometry import MIN_SIZE_PX, Preprocessing, resized_size

_MAX_ASPECT = 4  # longer over shorter side that a resized image keeps; beyond it the longer side is 4 times `size`
_MAX_SHARE = 0.75  # of one class in a training crop
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
    """Images [3, H, W], normalised, and masks [H, W], uint8: the class of every pixel, 255 where none counts.

    Attributes:
        classes: Their names, by label.
        notes: Lines for people on what was left out, and where masks were found.
    """

    def __init__(
        self, source: Any, classes: Sequence[str], transform: Callable[[np.ndarray, np.ndarray], dict[str, Any]]
    ) -> None:
        self.source, self.classes, self.transform = source, tuple(classes), transform
        self.notes: list[str] = getattr(source, "notes", [])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.source[index]
        image, mask = (item.image, item.semantic_mask) if isinstance(self.source, Shapes) else item
        return self.transform(image, mask)

    def path(self, index: int) -> str:
        """A name of the image for people."""
        if isinstance(self.source, Shapes):
            return f"{index:05d}"
        return Path(self.source.images.names[index]).with_suffix("").as_posix()


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
    """A dataset for training (with an augmentation: views of `size` px) or evaluation (whole images).

    Args:
        name: "ade20k" or "shapes".
        split: "train" or "val".
        size: Side of the training view; in evaluation the shorter side of the resized image, whose mask keeps its
            own size. Scenes of shapes are drawn at it.
        data_dir: Folder of the dataset, see `find_dataset`.
        scales: In evaluation, the sizes of the views as factors of `size`.
        seed: Of the scenes of shapes.

    Raises:
        DatasetError: no such dataset, images without masks; when read, a mask that does not fit its image.
    """
    transform: Callable[[np.ndarray, np.ndarray], dict[str, Any]] = (
        WholeViews(size, scales) if augmentation is None else RandomView(size, augmentation)
    )
    if name == "shapes":
        classes = ("background", *SHAPE_CLASSES)
        return SegmentationImages(Shapes(size, split=split, seed=seed), classes, transform)
    if name == "ade20k":
        return SegmentationImages(ADE20K(find_dataset(name, _path(data_dir), split)), ade20k_classes(), transform)
    raise DatasetError(f"no dataset {name!r} to segment: expected ade20k or shapes")


def _path(data_dir: str | Path | None) -> Path | None:
    return Path(data_dir) if data_dir else None


def ade20k_classes() -> tuple[str, ...]:
    """The 150 names, from the dataset's objectInfo150.txt (the first of each line's synonyms)."""
    return tuple(resources.files("atmviz.data").joinpath("ade20k_classes.txt").read_text("utf-8").split("\n")[:-1])


def find_masks(folder: Path) -> tuple[Path, str]:
    """Where the masks of a folder of images lie, and a line for people where that is beside the target of a link."""
    places = [root.parents[1] / "annotations" / root.name for root in (folder, folder.resolve())]
    if os.path.isdir(places[1]) and not os.path.isdir(places[0]):
        return places[1], f"{folder} is a link: taking the annotations {places[1]} beside its target"
    return places[0], ""


class ADE20K(Dataset):
    """Images as [H, W, 3] and masks as [H, W], uint8: classes 0 to 149; 255 for what the files call 0, "other".

    Raises:
        DatasetError: images without an annotation; when read, a mask of another size than its image, of several
            channels, or with labels over 150.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.masks, beside = find_masks(images.root)
        self.notes = [*filter(None, [images.note, beside])]
        if lacking := [name for name in images.names if not self.mask(name).is_file()]:
            raise DatasetError(
                f"{len(lacking)} of {len(images)} images have no mask in {self.masks} ({join_limited(lacking, 3)}): "
                "expected annotations/{training,validation}/*.png beside images; unpack them too"
            )

    def __len__(self) -> int:
        return len(self.images)

    def mask(self, name: str) -> Path:
        """The annotation of an image."""
        return (self.masks / name).with_suffix(".png")

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = load_image(self.images.path(index), upright=False)
        file = self.mask(self.images.names[index])
        mask = load_mask(file)
        if mask.shape != image.shape[:2]:
            raise DatasetError(
                f"mask {file} is {' x '.join(map(str, mask.shape))}, its image {image.shape[0]} x {image.shape[1]}: "
                "expected one label per pixel; unpack both again"
            )
        if mask.max(initial=0) > 150:
            raise DatasetError(
                f"mask {file} has labels up to {int(mask.max())}, expected 0 to 150: "
                "take ADEChallengeData2016, not the full ADE20K"
            )
        return image, np.where(mask == 0, IGNORE_INDEX, mask - 1).astype(np.uint8)


class WholeViews:
    """The whole image with its shorter side at `size` px times each scale, and image and mask as they are.

    Source: mmsegmentation's test pipeline.
    """

    def __init__(self, size: int, scales: Sequence[float]) -> None:
        self.size, self.scales = size, scales

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        views = [normalize(_resize(image, _view_size(image, self.size, scale))) for scale in self.scales]
        return {"views": views, "image": normalize(image), "mask": torch.from_numpy(mask)}


class RandomView:
    """A crop of size x size px of the image resized at random, flipped and recoloured. Source: mmsegmentation 0.11.

    Where the view overhangs the image, pixels are the mean colour's and do not count; one class covers at most three
    quarters of it, if ten tries find such a place.
    """

    def __init__(self, size: int, augmentation: ViewAugmentation) -> None:
        self.size, self.augmentation = size, augmentation

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        a = self.augmentation
        size = _view_size(image, self.size, _uniform(a.scale_min, a.scale_max))
        image, mask = self._crop(_resize(image, size), _resize(mask, size, cv2.INTER_NEAREST))
        if _happens(a.hflip):
            image, mask = image[:, ::-1], mask[:, ::-1]
        image = recolored(image, a.photometric)
        padding = (0, self.size - image.shape[1], 0, self.size - image.shape[0])  # right and bottom
        pad = torch.nn.functional.pad
        labels = torch.from_numpy(np.ascontiguousarray(mask))
        return {"image": pad(normalize(image), padding), "mask": pad(labels, padding, value=IGNORE_INDEX)}

    def _crop(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = mask.shape
        if (height, width) == (self.size, self.size):
            return image, mask
        for _ in range(_CROP_TRIES):
            top = int(torch.randint(max(0, height - self.size) + 1, ()))
            left = int(torch.randint(max(0, width - self.size) + 1, ()))
            place = slice(top, top + self.size), slice(left, left + self.size)
            counts = np.bincount(mask[place].ravel(), minlength=256)[:IGNORE_INDEX]
            if counts.max() < _MAX_SHARE * counts.sum():
                break
        return image[place], mask[place]


def recolored(image: np.ndarray, probability: float) -> np.ndarray:
    """Brightness, contrast, saturation and hue of an image [H, W, 3], uint8, each changed with this probability.

    Contrast changes before the two others or after them. Values are cut to uint8 after each step.

    Source: mmsegmentation 0.11's `PhotoMetricDistortion`, which changes no order of channels, whatever its text says.
    """
    rest = (_contrasted, _saturated, _turned) if _happens(0.5) else (_saturated, _turned, _contrasted)
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


def _turned(image: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(torch.randint(-18, 18, ()))) % 180  # of 180 for a whole turn
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _linear(values: np.ndarray, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (values.astype(np.float32) * factor + shift).clip(0, 255).astype(np.uint8)


def _happens(probability: float) -> bool:
    return torch.rand(()).item() < probability


def _uniform(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def normalize(image: np.ndarray) -> Tensor:
    """float32 [3, H, W] with ImageNet's mean and deviation from uint8 [H, W, 3]."""
    scaled = F.to_dtype(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.float32, scale=True)
    return F.normalize(scaled, list(Preprocessing.mean), list(Preprocessing.std))


def _view_size(image: np.ndarray, size: int, scale: float) -> tuple[int, int]:
    """(height, width) of an image that is resized to `size` times `scale`; none under what networks need, 32 px."""
    height, width = resized_size(image.shape[:2], int(size * scale), int(_MAX_ASPECT * size * scale))
    return max(MIN_SIZE_PX, height), max(MIN_SIZE_PX, width)


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(image, size[::-1], interpolation=interpolation)
