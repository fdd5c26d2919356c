"""Images as arrays: the one reader of image files in training, evaluation and recording. Torch-free."""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from atmviz import files
from atmviz.errors import DatasetError, reason_of, summarize
from atmviz.files import foreign_content
from atmviz.geometry import MIN_SIZE_PX
from atmviz.sources.listing import readable_formats

MAX_IMAGE_BYTES = 2**30
_MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")  # lossless and unscaled: values can be labels
# Pixel kinds that Pillow returns as stored; it stretches gray of 1, 2 and 4 bits
_MASK_PIXELS = ("L", "P", "P;1", "P;2", "P;4", "I;16", "I;16B", "I;16L", "I;16N")
_MAX_JPEG_SCANS = 100  # libtiff's limit; each scan decodes the whole image again
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # except those within a scan
_MAX_WIDE_PIXELS = 90_000_000  # for kinds that take 20 bytes a pixel to convert; Pillow's own limit is twice that
_PLAIN_PIXELS = ("1", "L", "P", "RGB")
_LOSSLESS_TIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma")


def as_image(image: "str | Path | np.ndarray | Image.Image") -> np.ndarray:
    """Return any kind of image as RGB, uint8, [H, W, 3], upright.

    Args:
        image: Path of a file, array [H, W, 3] of uint8 (RGB), or PIL image.

    Raises:
        DatasetError: the file cannot be read, the array has another shape or type, or a side is under 32 px.
    """
    if isinstance(image, str | Path):
        return load_image(Path(image))
    if isinstance(image, Image.Image):
        try:
            image = image_pixels(image.copy())
        except (OSError, ValueError) as error:
            raise DatasetError(f"cannot convert the PIL image ({summarize(error)}): pass an RGB image") from None
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        return require_large_enough(image, "in memory")
    got = f"an array {list(image.shape)} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
    raise DatasetError(f"got {got} as an image, expected a path, an array [H, W, 3] of uint8 or a PIL image")


def load_image(path: Path, upright: bool = True) -> np.ndarray:
    """Return an image file as RGB, uint8, [H, W, 3]; see `decode_image`.

    Args:
        path: The file.
        upright: Whether to apply the rotation that EXIF asks for; False keeps pixels as they lie in the file, as its
            masks and boxes do.

    Raises:
        DatasetError: the file is missing, may not be read, is no whole image, exceeds Pillow's size limit, or has a
            side under 32 px.
    """
    return require_large_enough(decode_image(read_file(path), path, upright), path)


def require_large_enough(pixels: np.ndarray, name: str | Path, min_side_px: int = MIN_SIZE_PX) -> np.ndarray:
    """Return the image [H, W, 3]; raise DatasetError if a side is shorter (default: one token of the last stage)."""
    height, width, _ = pixels.shape
    if min(height, width) < min_side_px:
        raise DatasetError(
            f"image {name} is {width}x{height} px, expected {min_side_px} px a side or more: leave it out"
        )
    return pixels


def decode_image(data: bytes, name: str | Path, upright: bool) -> np.ndarray:
    """Return the content of an image file as RGB, uint8, [H, W, 3].

    Transparency is laid over white. CMYK is converted. The first of several frames is taken. 16-bit gray is scaled.
    The range of a 32-bit TIFF is the smallest that holds its largest value: up to 1 (floats only), 255 or 65535.

    Args:
        data: The content, in one of `listing.FORMATS`, whatever the name says.
        name: File name for the message.
        upright: Whether to apply the rotation that EXIF asks for.

    Raises:
        DatasetError: no whole image, values outside these ranges, more pixels than Pillow's limit (half of it with
            transparency, in CMYK or with more than 8 bits), or a JPEG of more than 100 scans.
    """
    try:
        with warnings.catch_warnings(action="ignore"), _open(data, readable_formats()) as image:
            _require_bounded(image, data)
            pixels = _decode_quickly(image, data, upright)
            return image_pixels(image, upright) if pixels is None else pixels
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise unreadable("image", name, error, data) from None


def image_pixels(image: Image.Image, upright: bool = True) -> np.ndarray:
    """Return an opened PIL image, which may be turned, as RGB, uint8, [H, W, 3]; see `decode_image`."""
    image.load()
    if upright:
        ImageOps.exif_transpose(image, in_place=True)
    return np.array(_to_rgb(image))


def orientation_of(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of an image file's content; 1 where none is stored or readable."""
    try:
        with warnings.catch_warnings(action="ignore"), _open(data, readable_formats()) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever a damaged file makes Pillow raise: `read` reports it
        return 1


def upright_size(path: str | Path) -> tuple[int, int] | None:
    """Return height and width, px, of an image as its header says, turned as EXIF asks; None for what is no image."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=readable_formats()) as image:
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return image.size if is_turned else image.size[::-1]
    except Exception:  # whatever a damaged file makes Pillow raise: `read` reports it
        return None


def load_mask(path: Path) -> np.ndarray:
    """Return the labels stored in an image file, [H, W], uint8 or uint16; the indices of a palette image.

    Raises:
        DatasetError: the file is missing, damaged, or of a kind whose values Pillow or the format changes: lossy, with
            several channels, or with fewer than 8 bits of gray.
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
        raise unreadable("mask", path, error, data, _MASK_FORMATS) from None


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=formats)


def read_file(path: Path, kind: str = "image", max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Return the content of a regular file of up to `max_bytes`; raise DatasetError that calls the file a `kind`."""
    try:
        return files.read_limited(path, max_bytes)
    except (OSError, ValueError) as error:  # the latter: a zero byte in the name
        raise unreadable(kind, path, error) from None


def unreadable(
    kind: str, name: str | Path, error: Exception, data: bytes = b"", formats: Sequence[str] = ()
) -> DatasetError:
    """Return a DatasetError for an error of reading a file: what is wrong, without the address that Pillow adds."""
    fault = reason_of(error)
    if isinstance(error, UnidentifiedImageError):
        what = foreign_content(data[:512])
        known = ", ".join(formats or readable_formats())
        fault = what if what and what != "an image" else f"no image of a known format: {known}"
    return DatasetError(f"cannot read {kind} {name} ({fault}): replace it; the same command then tries it again")


def _require_bounded(image: Image.Image, data: bytes) -> None:
    """Raise ValueError for an image whose decoding would take more than 2 GB, or minutes."""
    pixels = image.width * image.height
    if pixels > _MAX_WIDE_PIXELS and (image.mode not in _PLAIN_PIXELS or image.has_transparency_data):
        raise ValueError(f"{pixels:,} pixels of kind {image.mode}, expected {_MAX_WIDE_PIXELS:,} or fewer")
    if data.startswith(b"\xff\xd8") and (scans := _jpeg_scans(data)) > _MAX_JPEG_SCANS:
        raise ValueError(f"a JPEG of {scans:,} scans, expected {_MAX_JPEG_SCANS} or fewer")


def _jpeg_scans(data: bytes) -> int:
    """Count the scans of a JPEG's first image; previews in its headers and data after it do not count."""
    scans, at = 0, 2
    while (marker := _JPEG_MARKER.search(data, at)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _decode_quickly(image: Image.Image, data: bytes, upright: bool) -> np.ndarray | None:
    """Decode an ordinary JPEG by OpenCV, [H, W, 3]: three times as fast as Pillow, equal to the bit. None for others.

    OpenCV pads truncated files and converts CMYK differently: those are left to Pillow.
    """
    whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
    turned = upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    if image.format != "JPEG" or image.mode not in ("RGB", "L") or not whole or turned:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image, as it was opened, to RGB."""
    if image.mode == "F" or image.mode.startswith("I"):  # PIL's own conversion would clip
        image = Image.fromarray(_to_8_bits(image, image.format == "TIFF"))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image, is_tiff: bool) -> np.ndarray:
    """Scale gray values of more than 8 bits to uint8, [H, W]."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and not is_tiff):
        tops: tuple[int, ...] = (65535,)  # 16 bits, which some formats of Pillow widen
    else:
        tops = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    top = next((top for top in tops if high <= top), 0)
    if not low >= 0 or not top:  # NaN compares as false
        raise ValueError(f"values from {low:g} to {high:g}, expected 0 to 1, 0 to 255 or 0 to 65535")
    scaled = np.multiply(values, np.float32(255 / top), dtype=np.float32)
    gray = scaled.round(out=scaled).astype(np.uint8)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        gray[values == hidden] = 255
    return gray
