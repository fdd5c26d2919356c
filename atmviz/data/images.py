"""Image files: public dataset layouts, folders, globs; decoding; fitting to the network.

Torch-free, but for the functions that make network inputs.
"""

import glob
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from atmviz.errors import DatasetError, first_line
from atmviz.geometry import MIN_SIZE_PX, Placement, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}


@dataclass(frozen=True)
class ImageSet:
    """An ordered list of image files.

    Attributes:
        name: Short name for titles and file names, e.g. "ade20k".
        root: Folder that `names` are relative to.
        names: Paths below `root`, sorted, with "/" between parts.
        sampling: How these were drawn from more images, e.g. {"limit": 5000, "seed": 0, "of": 50000}; else empty.
    """

    name: str
    root: Path
    names: tuple[str, ...]
    sampling: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.root / self.names[index]

    def only(self, name: str) -> "ImageSet":
        """The one image of that name."""
        return ImageSet(Path(name).stem, self.root, (name,))

    def sample(self, limit: int, seed: int) -> "ImageSet":
        """A random sample of `limit` images, in the order of the whole set."""
        if limit >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:limit])
        names = tuple(self.names[i] for i in chosen)
        return ImageSet(self.name, self.root, names, {"limit": limit, "seed": seed, "of": len(self)})


@dataclass(frozen=True)
class _Layout:
    """A public dataset's folders: where a split's images are below a root that may itself be nested."""

    roots: tuple[str, ...]
    splits: dict[str, str]
    tree: str


DATASET_LAYOUTS = {
    "ade20k": _Layout(
        roots=("", "ADEChallengeData2016", "ade/ADEChallengeData2016", "ade20k/ADEChallengeData2016"),
        splits={"val": "images/validation", "train": "images/training"},
        tree="ADEChallengeData2016/images/{validation,training}/*.jpg",
    ),
    "coco": _Layout(
        roots=("", "coco", "images", "coco/images"),
        splits={"val": "val2017", "train": "train2017"},
        tree="coco/{val2017,train2017}/*.jpg",
    ),
    "imagenet": _Layout(
        roots=("", "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        splits={"val": "val", "train": "train"},
        tree="imagenet/{val,train}/<class>/*.JPEG (val may be flat)",
    ),
}


def find_dataset(name: str, data_dir: Path | None = None, split: str = "val") -> ImageSet:
    """The images of a public dataset in its published folder layout.

    Args:
        name: "ade20k", "coco" or "imagenet".
        data_dir: The dataset's folder or one above it; without it `$ATMVIZ_DATA`, then `./data`.
        split: "val" or "train".

    Raises:
        DatasetError: no such folder; the message shows the tree that was expected.
    """
    if name not in DATASET_LAYOUTS or split not in ("val", "train"):
        raise DatasetError(f"no dataset {name} {split}: expected val or train of {', '.join(DATASET_LAYOUTS)}")
    layout = DATASET_LAYOUTS[name]
    base = data_folder(data_dir)
    for root in layout.roots:
        folder = base / root / layout.splits[split]
        if folder.is_dir() and (names := _image_names(folder)):
            return ImageSet(name, folder.resolve(), names)
    raise DatasetError(
        f"no {name} {split} images in {base}: expected {layout.tree}; name the folder with --data-dir or $ATMVIZ_DATA"
    )


def data_folder(data_dir: str | Path | None) -> Path:
    """Where datasets are: the folder that was named, else `$ATMVIZ_DATA`, else `./data`."""
    return Path(data_dir or os.environ.get("ATMVIZ_DATA") or "data")


def find_images(sources: Sequence[str | Path]) -> ImageSet:
    """Images from files, folders (searched through) and globs, in the order given, folders and globs sorted.

    Raises:
        DatasetError: a source does not exist or holds no image.
    """
    if not sources or "" in sources:  # which pathlib takes for the working folder
        raise DatasetError("no images named: expected files, folders or globs")
    if len(sources) == 1 and Path(sources[0]).is_dir():
        return ImageSet(Path(sources[0]).resolve().name, *_images_below(Path(sources[0])))
    paths: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            root, names = _images_below(path)
            paths.update(dict.fromkeys(root / name for name in names))
        elif path.is_file():
            paths[path.resolve()] = None
        elif matches := sorted(glob.glob(str(source), recursive=True)):
            files = [Path(match).resolve() for match in matches if Path(match).suffix.lower() in _SUFFIXES]
            if not files:
                raise DatasetError(f"no image among the {len(matches)} files of {source}: expected {_known_suffixes()}")
            paths.update(dict.fromkeys(files))
        else:
            raise DatasetError(f"no image, folder or match for {str(source)!r}: check the path")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    return ImageSet(Path(names[0]).stem if len(names) == 1 else root.name or "images", root, names)


def bundled_photos() -> ImageSet:
    """The photographs that travel with atmviz; see assets/photos/ORIGINS.md for their origin and licence."""
    root, names = _images_below(Path(str(resources.files("atmviz_assets") / "photos")))
    return ImageSet("photos", root, names)


def _images_below(folder: Path) -> tuple[Path, tuple[str, ...]]:
    names = _image_names(folder)
    if not names:
        raise DatasetError(f"no images in {folder}: expected files ending in {_known_suffixes()}")
    return folder.resolve(), names


def _image_names(folder: Path) -> tuple[str, ...]:
    """Image files below a folder, sorted; links are followed, each real folder visited once."""
    seen: set[str] = set()
    names: list[str] = []
    for parent, folders, files in os.walk(folder.resolve(), followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        found = (file for file in files if Path(file).suffix.lower() in _SUFFIXES and not file.startswith("."))
        names += [Path(parent, file).relative_to(folder.resolve()).as_posix() for file in found]
    return tuple(sorted(names))


def _known_suffixes() -> str:
    return ", ".join(sorted(_SUFFIXES))


def load_image(path: Path, upright: bool = True) -> np.ndarray:
    """An image as 8-bit RGB, [H, W, 3]: EXIF rotation applied, transparency over white, 16-bit scaled, CMYK converted.

    Args:
        path: The file.
        upright: False leaves the pixels where they lie in the file, as masks and boxes of it do.

    Raises:
        DatasetError: the file is missing, truncated, not an image, over Pillow's size limit, or under 32 px.
    """
    try:
        if not path.is_file():  # a pipe would be waited for without end
            raise FileNotFoundError("no file, or no regular one")
        data = path.read_bytes()
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            pixels = _decode_quickly(image, data, upright)
            if pixels is None:
                image.load()
                pixels = np.array(_to_rgb(ImageOps.exif_transpose(image) if upright else image))
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise DatasetError(
            f"cannot read image {path} ({decoding_fault(error)}): replace it; the same command then tries it again"
        ) from None
    height, width, _ = pixels.shape
    if min(height, width) < MIN_SIZE_PX:
        raise DatasetError(
            f"image {path} is {width}x{height} px, expected {MIN_SIZE_PX} px a side or more: leave it out"
        )
    return pixels


def decoding_fault(error: Exception) -> str:
    """What Pillow says of a file, without the address of the object that it was read from."""
    return "no image of a known format" if isinstance(error, UnidentifiedImageError) else first_line(error)


def _decode_quickly(image: Image.Image, data: bytes, upright: bool) -> np.ndarray | None:
    """[H, W, 3] of an ordinary JPEG by OpenCV, three times as fast as Pillow and of the same bits; else None.

    OpenCV would fill up a file that was cut off, and turns colours of print into others: those are left to Pillow.
    """
    whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
    turned = upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    if image.format != "JPEG" or image.mode not in ("RGB", "L") or not whole or turned:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; PIL's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def fit_image(image: np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, Placement]:
    """What the network sees of an image [H, W, 3], uint8, in the same layout, and where it lies in the image.

    Source: the released evaluation transform (bicubic resize, centre crop), by torchvision in integers: five times as
    fast as Pillow, whose result it equals but for a grey level, seldom two, in one pixel of a hundred or fewer.
    """
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    placement = preprocessing.place(*image.shape[:2])
    (top, left), (height, width) = placement.origin, placement.size
    pixels = torch.from_numpy(image).permute(2, 0, 1)  # HWC -> CHW, as it lies in memory
    resized = functional.resize(pixels, list(placement.resized), InterpolationMode.BICUBIC, antialias=True)
    cropped = resized[:, top : top + height, left : left + width].permute(1, 2, 0)  # CHW -> HWC
    return cropped.contiguous().numpy(), placement


def normalise(pixels: "Tensor", preprocessing: Preprocessing) -> "Tensor":
    """Network input [B, 3, H, W], float32, from pixels [B, H, W, 3], uint8, on their device."""
    # NHWC -> NCHW, as it lies in memory, and in one piece of it: fetching fresh pages takes longer than the arithmetic
    out = pixels.permute(0, 3, 1, 2).float()
    mean, std = (out.new_tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return out.div_(255).sub_(mean).div_(std)


def preprocess(image: np.ndarray, preprocessing: Preprocessing) -> tuple["Tensor", Placement]:
    """One image [H, W, 3], uint8, as normalised network input [1, 3, H, W], float32, and where it lies in the image."""
    import torch

    pixels, placement = fit_image(image, preprocessing)
    return normalise(torch.from_numpy(pixels)[None], preprocessing), placement
