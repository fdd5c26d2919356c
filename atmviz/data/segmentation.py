"""Images with the class of every pixel: ADE20K and shapes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from atmviz.data.classification import Split
from atmviz.data.images import ImageSet, find_dataset, load_image, load_mask
from atmviz.data.shapes import SHAPE_CLASSES, Shapes
from atmviz.errors import DatasetError, some_of
from atmviz.geometry import MIN_SIZE_PX, Preprocessing
from atmviz.variants import IGNORED

MAX_ASPECT = 4  # longer over shorter side that a resized image keeps; beyond it the longer side is 4 times `size`
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
        self, source: Any, classes: Sequence[str], transform: Callable[[Tensor, Tensor], dict[str, Any]]
    ) -> None:
        self.source, self.classes, self.transform = source, tuple(classes), transform
        self.notes: list[str] = getattr(source, "notes", [])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.source[index]
        image, mask = (item.image, item.semantic_mask) if isinstance(self.source, Shapes) else item
        return self.transform(_to_tensor(image), torch.from_numpy(mask))

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
    transform: Callable[[Tensor, Tensor], dict[str, Any]] = (
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
                f"{len(lacking)} of {len(images)} images have no mask in {self.masks} ({some_of(lacking, 3)}): "
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
        return image, np.where(mask == 0, IGNORED, mask - 1).astype(np.uint8)


class WholeViews:
    """The whole image with its shorter side at `size` px times each scale, and image and mask as they are.

    Source: mmsegmentation's test pipeline.
    """

    def __init__(self, size: int, scales: Sequence[float]) -> None:
        self.sizes = [round(size * scale) for scale in scales]

    def __call__(self, image: Tensor, mask: Tensor) -> dict[str, Any]:
        views = [normalize(_resize(image, resized_size(image.shape[-2:], size))) for size in self.sizes]
        return {"views": views, "image": normalize(image), "mask": mask}


class RandomView:
    """A crop of size x size px of the image resized at random, flipped and recoloured. Source: mmsegmentation.

    Where the view overhangs the image, pixels are the mean colour's and do not count; one class covers at most three
    quarters of it, if ten tries find such a place.
    """

    def __init__(self, size: int, augmentation: ViewAugmentation) -> None:
        self.size, self.augmentation = size, augmentation
        self.recolor = v2.RandomPhotometricDistort(p=augmentation.photometric)

    def __call__(self, image: Tensor, mask: Tensor) -> dict[str, Any]:
        a = self.augmentation
        if a.scale_min < a.scale_max or a.scale_min != 1 or min(image.shape[-2:]) != self.size:
            factor = torch.empty(1).uniform_(a.scale_min, a.scale_max).item()
            target = resized_size(image.shape[-2:], round(self.size * factor))
            image, mask = (
                _resize(image, target),
                F.resize(tv_tensors.Mask(mask), list(target), v2.InterpolationMode.NEAREST),
            )
        image, mask = self._crop(image, mask)
        if a.hflip and torch.rand(1).item() < a.hflip:
            image, mask = image.flip(-1), mask.flip(-1)
        if a.photometric:
            image = self.recolor(tv_tensors.Image(image))
        image, mask = normalize(image), mask.as_subclass(Tensor)
        right, bottom = self.size - image.shape[-1], self.size - image.shape[-2]
        padding = (0, right, 0, bottom)
        pad = torch.nn.functional.pad
        return {"image": pad(image, padding), "mask": pad(mask, padding, value=IGNORED)}

    def _crop(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[-2:]
        if (height, width) == (self.size, self.size):
            return image, mask
        for _ in range(_CROP_TRIES):
            top = int(torch.randint(max(0, height - self.size) + 1, (1,)))
            left = int(torch.randint(max(0, width - self.size) + 1, (1,)))
            place = (..., slice(top, top + self.size), slice(left, left + self.size))
            counts = torch.bincount(mask[place].flatten(), minlength=256)[:IGNORED]
            if counts.max() < _MAX_SHARE * counts.sum():
                break
        return image[place], mask[place]


def resized_size(shape: Sequence[int], short: int) -> tuple[int, int]:
    """Height and width with the shorter side at `short` px, or smaller where the longer one would be over 4 times.

    No side is under the 32 px that networks need.
    """
    factor = min(short / min(shape), MAX_ASPECT * short / max(shape))
    height, width = (max(MIN_SIZE_PX, int(side * factor + 0.5)) for side in shape)
    return height, width


def normalize(image: Tensor) -> Tensor:
    """uint8 [3, H, W] to float32 with ImageNet's mean and deviation."""
    scaled = F.to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
    return F.normalize(scaled, list(Preprocessing.mean), list(Preprocessing.std))


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # HWC -> CHW


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    return F.resize(image, list(size), v2.InterpolationMode.BILINEAR, antialias=False)  # as mmcv's
