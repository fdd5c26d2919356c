"""Image files: public dataset layouts, folders, globs; decoding; fitting to the network.

Torch-free, but for the functions that make network inputs.
"""

import io
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import has_magic
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from atmviz import files
from atmviz.data.listing import (
    OWN_FIGURE,
    LeftOut,
    Listing,
    describe_left_out,
    image_suffixes,
    is_own_figure,
    list_images,
    readable_formats,
)
from atmviz.errors import DatasetError, reason_of
from atmviz.files import foreign_content
from atmviz.geometry import MIN_SIZE_PX, Placement, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

MAX_IMAGE_BYTES = 2**30
_MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")  # whose values can be labels: neither lossy nor scaled
# How Pillow names pixels that it hands over as the file has them; it would stretch greys of 1, 2 and 4 bits
_MASK_PIXELS = ("L", "P", "P;1", "P;2", "P;4", "I;16", "I;16B", "I;16L", "I;16N")
_MAX_JPEG_SCANS = 100  # as libtiff allows; each goes over the whole image again
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # but for those within a scan
_MAX_WIDE_PIXELS = 90_000_000  # of what takes 20 bytes a pixel to convert; Pillow's own limit is twice that
_PLAIN_PIXELS = ("1", "L", "P", "RGB")
_LOSSLESS_TIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma")


@dataclass(frozen=True)
class ImageSet:
    """An ordered list of image files.

    Attributes:
        name: Short name for titles and file names, e.g. "ade20k".
        root: Folder that `names` are relative to.
        names: Paths below `root`, sorted, with "/" between parts.
        sampling: How these were drawn from more images, e.g. {"limit": 5000, "seed": 0, "of": 50000}; else empty.
        left_out: Files and folders that were found and do not count, by reason.
    """

    name: str
    root: Path
    names: tuple[str, ...]
    sampling: dict[str, int] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=dict, compare=False)

    @property
    def note(self) -> str:
        """One line for people on what was left out; empty where nothing was."""
        return f"left out of {self.name}: {describe_left_out(self.left_out)}" if self.left_out else ""

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.root / self.names[index]

    def read(self, index: int) -> bytes:
        """The content of an image's file; raises DatasetError."""
        return read_file(self.path(index))

    def only(self, name: str) -> "ImageSet":
        """The one image of that name."""
        return ImageSet(Path(name).stem, self.root, (name,))

    def sample(self, limit: int, seed: int) -> "ImageSet":
        """A random sample of `limit` images, in the order of the whole set."""
        if limit >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:limit])
        names = tuple(self.names[i] for i in chosen)
        return replace(self, names=names, sampling={"limit": limit, "seed": seed, "of": len(self)})


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
        folder = called(base / root / layout.splits[split])
        if os.path.isdir(folder) and (found := list_images(folder)).names:
            return ImageSet(name, folder, found.names, left_out=found.left_out)
    if os.path.isdir(base):
        require_readable(base)
    raise DatasetError(
        f"no {name} {split} images in {base}: expected {layout.tree}; name the folder with --data-dir or $ATMVIZ_DATA"
    )


def data_folder(data_dir: str | Path | None) -> Path:
    """Where datasets are: the folder that was named, else `$ATMVIZ_DATA`, else `./data`."""
    return Path(data_dir or os.environ.get("ATMVIZ_DATA") or "data")


def find_images(sources: Sequence[str | Path]) -> ImageSet:
    """Images from files, folders (searched through) and globs, in the order given, folders and globs sorted.

    Each has the name it was called by: links are not followed to the names of their targets.

    Raises:
        DatasetError: a source does not exist, may not be read or holds no image.
    """
    if not sources or "" in sources:  # which pathlib takes for the working folder
        raise DatasetError("no images named: expected files, folders or globs")
    if len(sources) == 1 and os.path.isdir(sources[0]):
        root = called(sources[0])
        found = _require_images(list_images(root), sources[0])
        return ImageSet(root.name, root, found.names, left_out=found.left_out)
    paths: dict[Path, None] = {}
    left_out: dict[str, list[str]] = {}
    for source in sources:
        root, found = _search(source)
        paths.update(dict.fromkeys(root / name for name in found.names))
        for reason, names in found.left_out.items():
            left_out.setdefault(reason, []).extend(os.path.relpath(root / name) for name in names)
    if not paths:
        raise DatasetError(f"no images left of those named; left out: {describe_left_out(left_out)}")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    name = Path(names[0]).stem if len(names) == 1 else root.name or "images"
    return ImageSet(name, root, names, left_out=left_out)


def _search(source: str | Path) -> tuple[Path, Listing]:
    """A folder, and the images in it that a file's name, a folder or a glob means."""
    path = called(source)
    if os.path.isdir(path):
        return path, _require_images(list_images(path), source)
    if os.path.exists(path):
        names = (path.name,)
        return path.parent, Listing((), {OWN_FIGURE: names}) if is_own_figure(path) else Listing(names, {})
    parts = Path(source).parts
    magic = next((k for k, part in enumerate(parts) if has_magic(part)), None)
    if magic is not None:
        root = called(Path(*parts[:magic]))
        if os.path.isdir(root):
            found = list_images(root, parts[magic:])
            if found.names or found.left_out:
                return root, _require_images(found, source)
    for place in reversed((path, *path.parents)):
        if os.path.isdir(place):
            require_readable(place)
    raise DatasetError(f"no image, folder or match for {str(source)!r}: check the path")


def called(path: str | Path) -> Path:
    """The absolute path of a place by the name it was called by: of links, only those before a ".." are followed."""
    parts = Path(path).absolute().parts
    after = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    return Path(*parts[:after]).resolve().joinpath(*parts[after:]) if after else Path(*parts)


def require_readable(folder: Path) -> None:
    """Raises DatasetError if a folder may not be searched."""
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DatasetError(f"cannot read folder {folder} (permission denied): allow it, or choose another")


def _require_images(found: Listing, source: str | Path) -> Listing:
    if not found.names:
        left_out = f"; left out: {describe_left_out(found.left_out)}" if found.left_out else ""
        raise DatasetError(f"no images in {source}: expected files ending in {_known_suffixes()}{left_out}")
    return found


def bundled_photos() -> ImageSet:
    """The photographs that travel with atmviz; see assets/photos/ORIGINS.md for their origin and licence."""
    root = Path(str(resources.files("atmviz_assets") / "photos"))
    return ImageSet("photos", root, list_images(root).names)


def _known_suffixes() -> str:
    return ", ".join(sorted(image_suffixes()))


def load_image(path: Path, upright: bool = True) -> np.ndarray:
    """An image as 8-bit RGB, [H, W, 3]: EXIF rotation applied; otherwise see `decode_image`.

    Args:
        path: The file.
        upright: False leaves the pixels where they lie in the file, as masks and boxes of it do.

    Raises:
        DatasetError: the file is missing, may not be read, is no whole image, over Pillow's size limit, or under 32 px.
    """
    pixels = decode_image(read_file(path), path, upright)
    height, width, _ = pixels.shape
    if min(height, width) < MIN_SIZE_PX:
        raise DatasetError(
            f"image {path} is {width}x{height} px, expected {MIN_SIZE_PX} px a side or more: leave it out"
        )
    return pixels


def decode_image(data: bytes, name: str | Path, upright: bool) -> np.ndarray:
    """The content of an image file as 8-bit RGB, [H, W, 3]: the one reader of training, evaluation and recording.

    Transparency is laid over white, print colours are converted, of several frames the first is taken, and 16-bit grey
    is scaled. Values of 32-bit TIFFs are taken as what the largest allows: up to 1 (floats alone), 255 or 65535.

    Args:
        data: The content, of one of `listing.FORMATS`, whatever the name says.
        name: Of the file, for the message.
        upright: Whether to apply the rotation that EXIF asks for.

    Raises:
        DatasetError: no whole image, values of no such range, more pixels than Pillow's limit (half of it with
            transparency, in print colours or of more than 8 bits), or a JPEG of more than 100 scans.
    """
    try:
        with warnings.catch_warnings(action="ignore"), _open(data, readable_formats()) as image:
            _require_bounded(image, data)
            pixels = _decode_quickly(image, data, upright)
            if pixels is None:
                image.load()
                if upright:
                    ImageOps.exif_transpose(image, in_place=True)
                pixels = np.array(_to_rgb(image))
            return pixels
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise unreadable("image", name, decoding_fault(error, data)) from None


def load_mask(path: Path) -> np.ndarray:
    """The labels of an image file, [H, W], uint8 or uint16, as they are stored; of a palette the indices.

    Raises:
        DatasetError: the file is missing, damaged, or of a kind whose values Pillow or the format changes: lossy, of
            several channels, or of fewer than 8 bits of grey.
    """
    data = read_file(path, "mask")
    try:
        with warnings.catch_warnings(action="ignore"), _open(data, _MASK_FORMATS) as image:
            decoding = image.tile[0][3]  # type: ignore[attr-defined]
            stored = image.mode if image.format == "GIF" else decoding[0] if isinstance(decoding, tuple) else decoding
            compression = image.info["compression"] if image.format == "TIFF" else "raw"
            if stored not in _MASK_PIXELS or compression not in _LOSSLESS_TIFF:
                kind = f"{image.format} of {stored} pixels" + (f", {compression}" if compression != "raw" else "")
                raise ValueError(f"{kind}; expected one lossless channel of 8 or 16 bits, or a palette")
            return np.array(image)
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise unreadable("mask", path, decoding_fault(error, data, _MASK_FORMATS)) from None


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=formats)


def read_file(path: Path, kind: str = "image", max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """The content of a regular file of up to `max_bytes`; raises DatasetError that names it as a `kind`."""
    try:
        return files.read_limited(path, max_bytes)
    except (OSError, ValueError) as error:  # the latter: a zero byte in the name
        raise unreadable(kind, path, decoding_fault(error)) from None


def unreadable(kind: str, name: str | Path, fault: str) -> DatasetError:
    """The error for a file of a `kind` that has a `fault`."""
    return DatasetError(f"cannot read {kind} {name} ({fault}): replace it; the same command then tries it again")


def decoding_fault(error: Exception, data: bytes = b"", formats: Sequence[str] = ()) -> str:
    """What is wrong with a file, in a few words, without the address of the object that it was read from."""
    if isinstance(error, UnidentifiedImageError):
        what = foreign_content(data[:512])
        known = ", ".join(formats or readable_formats())
        return what if what and what != "an image" else f"no image of a known format: {known}"
    return reason_of(error)


def _require_bounded(image: Image.Image, data: bytes) -> None:
    """Raises ValueError for an image whose decoding would take more than 2 GB, or minutes."""
    pixels = image.width * image.height
    if pixels > _MAX_WIDE_PIXELS and (image.mode not in _PLAIN_PIXELS or image.has_transparency_data):
        raise ValueError(f"{pixels:,} pixels of kind {image.mode}, expected {_MAX_WIDE_PIXELS:,} or fewer")
    if data.startswith(b"\xff\xd8") and (scans := _jpeg_scans(data)) > _MAX_JPEG_SCANS:
        raise ValueError(f"a JPEG of {scans:,} scans, expected {_MAX_JPEG_SCANS} or fewer")


def _jpeg_scans(data: bytes) -> int:
    """The scans of a JPEG's first image, without those of previews in its headers and of what follows it."""
    scans, at = 0, 2
    while (found := _JPEG_MARKER.search(data, at)) and found[1] != b"\xd9":
        scans += found[1] == b"\xda"
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans


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
    """In RGB, from a file as it was opened."""
    if image.mode == "F" or image.mode.startswith("I"):  # PIL's own conversion would clip
        image = Image.fromarray(_to_8_bits(image, image.format == "TIFF"))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image, is_tiff: bool) -> np.ndarray:
    """Grey values of more bits as [H, W], uint8."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and not is_tiff):
        tops: tuple[int, ...] = (65535,)  # of 16 bits, which Pillow widens in some formats
    else:
        tops = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    top = next((top for top in tops if high <= top), 0)
    if not low >= 0 or not top:  # NaN compares as false
        raise ValueError(f"values from {low:g} to {high:g}, expected 0 to 1, 0 to 255 or 0 to 65535")
    scaled = np.multiply(values, np.float32(255 / top), dtype=np.float32)
    grey = scaled.round(out=scaled).astype(np.uint8)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        grey[values == hidden] = 255
    return grey


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
