"""Decoding every kind of image file and mask."""

import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from atmviz.sources.decoding import decode_image, load_image, load_mask


def test_rgb_files_are_read_as_they_are(colors, save):
    image = load_image(save(Image.fromarray(colors)))
    assert image.dtype == np.uint8
    assert np.array_equal(image, colors)


# The visual side that the first stored row and the first stored column lie on (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("name", "options"), [("image.png", {}), ("image.jpg", {"quality": 100, "subsampling": 0})])
def test_exif_orientations_are_undone(orientation, name, options, colors, save):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](colors)))
    image = load_image(save(stored, name, exif=exif, **options))
    np.testing.assert_allclose(np.asarray(image, int), colors, atol=0 if name.endswith("png") else 4)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_files_have_three_equal_channels(mode, colors, save):
    gray = Image.fromarray(colors[..., 1] if mode == "L" else colors[..., 1] > 99)
    image = load_image(save(gray))
    expected = np.asarray(gray).astype(np.uint8) * (255 if mode == "1" else 1)
    assert np.array_equal(image, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("name", ["image.png", "image.webp"])
def test_transparency_is_laid_over_white(mode, name, colors, save):
    color = colors if mode == "RGBA" else colors[..., :1]
    alpha = np.linspace(0, 255, 80).round().astype(np.uint8)[None, :, None].repeat(48, 0)
    stored = Image.fromarray(np.concatenate((color, alpha), axis=2))
    assert stored.mode == mode
    image = load_image(save(stored, name, **({"lossless": True, "exact": True} if name.endswith("webp") else {})))
    opacity = alpha / 255
    expected = np.broadcast_to(color * opacity + 255 * (1 - opacity), (48, 80, 3))
    np.testing.assert_allclose(np.asarray(image, float), expected, atol=1)


@pytest.mark.parametrize("name", ["image.png", "image.gif"])
def test_transparent_palette_entries_become_white(name, save):
    stored = Image.new("P", (64, 48), 1)
    stored.putpalette([0, 0, 0, 200, 0, 0, 0, 100, 0])
    stored.paste(2, (0, 0, 32, 48))
    image = load_image(save(stored, name, transparency=2))
    assert (image[:, :32] == 255).all()
    assert (image[:, 32:] == [200, 0, 0]).all()


def test_transparent_color_of_a_png_becomes_white(save):
    stored = Image.new("RGB", (64, 48), (200, 0, 0))
    stored.paste((0, 100, 0), (0, 0, 32, 48))
    image = load_image(save(stored, transparency=(0, 100, 0)))
    assert (image[:, :32] == 255).all()
    assert (image[:, 32:] == [200, 0, 0]).all()


@pytest.mark.parametrize(
    ("cmyk", "rgb"), [((0, 255, 255, 0), (255, 0, 0)), ((255, 255, 0, 0), (0, 0, 255)), ((0, 0, 0, 255), (0, 0, 0))]
)
def test_cmyk_files_become_rgb(cmyk, rgb, save):
    image = np.asarray(load_image(save(Image.new("CMYK", (64, 48), cmyk), "image.jpg")), int)
    np.testing.assert_allclose(image, np.broadcast_to(rgb, image.shape), atol=3)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_16_bit_gray_is_scaled_not_clipped(name, save):
    values = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    image = load_image(save(Image.fromarray(values), name))
    assert image.dtype == np.uint8
    assert len(np.unique(image)) == 256
    np.testing.assert_allclose(image[..., 0], values / 65535 * 255, atol=0.51)
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize(
    ("dtype", "top"), [("f4", 1), ("f4", 255), ("f4", 65535), ("i4", 255), ("i4", 65535), ("f4", 0.5), ("f4", 4095)]
)
@pytest.mark.parametrize("upright", [True, False])
def test_32_bit_tiffs_are_scaled_by_the_range_that_holds_their_values(dtype, top, upright, save):
    values = np.linspace(0, top, 64 * 48).reshape(48, 64).astype(dtype)
    image = load_image(save(Image.fromarray(values), "image.tif"), upright)
    whole = next(one for one in (1, 255, 65535) if top <= one)
    np.testing.assert_allclose(image[..., 2], values / whole * 255, atol=0.51)


@pytest.mark.parametrize(
    ("dtype", "value"), [*(("f4", one) for one in (-0.5, np.nan, np.inf, 65536, 1e30)), ("i4", -1), ("i4", 65536)]
)
def test_32_bit_tiffs_of_other_values_are_refused(dtype, value, save, refusal):
    values = np.zeros((48, 64), dtype)
    values[3, 4] = value
    message = refusal(load_image, save(Image.fromarray(values), "image.tif"))
    assert "expected 0 to 1, 0 to 255 or 0 to 65535" in message


def test_16_bit_files_that_pillow_widens_are_scaled_from_16_bits_however_dark(tmp_path):
    values = np.arange(64 * 48, dtype=">u2").reshape(48, 64) % 200
    for top in (65535, 40000):  # which Pillow stretches to 16 bits
        path = tmp_path / "image.pgm"
        path.write_bytes(b"P5 64 48 %d\n" % top + values.astype(">u2").tobytes())
        np.testing.assert_allclose(load_image(path)[..., 0], values.astype(float) / top * 255, atol=0.51)


def test_the_transparent_gray_of_a_16_bit_png_becomes_white(save):
    values = np.full((48, 64), 20000, np.uint16)
    values[:, :32] = 300
    image = load_image(save(Image.fromarray(values), transparency=300))
    assert (image[:, :32] == 255).all()
    assert (image[:, 32:] == 78).all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options", [{"quality": 90}, {"quality": 60, "subsampling": 0}, {"progressive": True}, {"optimize": True}]
)
def test_ordinary_jpegs_are_decoded_by_opencv_to_pillows_bits(mode, options, colors, save, monkeypatch):
    path = save(Image.fromarray(colors).convert(mode), "image.jpg", **options)
    expected = np.asarray(Image.open(path).convert("RGB"))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("Pillow"))
    assert np.array_equal(load_image(path), expected)


@pytest.mark.parametrize("name", ["image.jpg", "image.png", "image.webp", "image.tif", "image.bmp"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_files_are_errors(name, keep, colors, save, refusal):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert str(path) in refusal(load_image, path)


@pytest.mark.parametrize("content", [b"", b"no picture\n", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_other_files_are_errors(content, tmp_path, refusal):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    assert str(path) in refusal(load_image, path)


def test_missing_files_and_folders_are_errors(tmp_path, refusal):
    assert "gone.jpg" in refusal(load_image, tmp_path / "gone.jpg")
    assert str(tmp_path) in refusal(load_image, tmp_path)


@pytest.mark.parametrize(("size", "text"), [((20, 20), "20x20 px"), ((31, 400), "31x400 px"), ((64, 31), "64x31 px")])
def test_images_under_32_px_are_errors(size, text, save, refusal):
    message = refusal(load_image, save(Image.new("RGB", size)))
    assert text in message
    assert "expected 32 px" in message


def test_images_of_32_px_are_fine(save):
    assert load_image(save(Image.new("RGB", (32, 32)))).shape == (32, 32, 3)


def test_images_over_pillows_limit_are_errors(save, monkeypatch, refusal):
    path = save(Image.new("RGB", (64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "decompression bomb" in refusal(load_image, path)


def repeat_last_scan(content, times):
    """A JPEG whose last scan is there `times` more."""
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * times + content[-2:]


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])  # read by OpenCV and by Pillow
def test_jpegs_of_more_scans_than_any_encoder_writes_are_refused(mode, colors, save, refusal):
    path = save(Image.fromarray(colors).convert(mode), "image.jpg", progressive=True)
    expected, content = load_image(path), path.read_bytes()
    path.write_bytes(content + b"\xff\xda\0\2" * 200)  # after the end, as a phone's short film
    assert load_image(path).shape == expected.shape
    path.write_bytes(content[:2] + b"\xff\xe7\3\x22" + b"\xff\xda\0\2" * 200 + content[2:])
    assert np.array_equal(load_image(path), expected), "a segment of other programs"
    scans = content.count(b"\xff\xda")
    path.write_bytes(repeat_last_scan(content, 100 - scans))
    assert load_image(path).shape == expected.shape
    path.write_bytes(repeat_last_scan(content, 101 - scans))
    assert "a JPEG of 101 scans, expected 100 or fewer" in refusal(load_image, path)


@pytest.mark.parametrize(
    ("mode", "name"), [("RGBA", "a.png"), ("LA", "a.png"), ("CMYK", "a.jpg"), ("I", "a.tif"), ("F", "a.tif")]
)
def test_pixels_that_take_more_memory_have_a_limit_of_their_own(mode, name, save, monkeypatch, refusal):
    monkeypatch.setattr("atmviz.sources.decoding._MAX_WIDE_PIXELS", 64 * 64)
    load_image(save(Image.new(mode, (64, 64)), name))
    path = save(Image.new(mode, (64, 65)), name)
    assert f"4,160 pixels of kind {mode}, expected 4,096 or fewer" in refusal(load_image, path)
    load_image(save(Image.new("RGB", (64, 65)), name))


@pytest.mark.parametrize("mode", ["I", "F", "RGB", "RGBA"])
def test_reading_takes_no_more_than_20_bytes_a_pixel(mode, tmp_path):
    """Pillow's own memory, 4 bytes a pixel and copy, is not seen by tracemalloc."""
    side = 1000
    path = tmp_path / "image.tif"
    Image.new(mode, (side, side)).save(path)
    data = path.read_bytes()
    tracemalloc.start()
    try:
        decode_image(data, path, upright=True)
        assert tracemalloc.get_traced_memory()[1] < 15 * side**2
    finally:
        tracemalloc.stop()


def test_tiff_with_a_damaged_tag_is_an_error(save, refusal):
    path = save(Image.new("L", (64, 48)), "image.tif")
    content = bytearray(path.read_bytes())
    content[content.index(b"\x11\x01\x04\x00\x01\x00\x00\x00") + 2] = 11  # StripOffsets: FLOAT instead of LONG
    path.write_bytes(content)
    refusal(load_image, path)


def test_only_raster_formats_are_opened_whatever_the_name_says(tmp_path, monkeypatch, refusal):
    asked = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: asked.append(1))
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n")
    with Image.open(path) as opened:
        assert opened.format == "EPS"
    assert "no image of a known format" in refusal(load_image, path)
    assert "cannot read mask" in refusal(load_mask, path)
    Image.new("RGB", (64, 64)).save(path, "TGA")
    refusal(load_image, path)
    assert not asked


@pytest.mark.parametrize(
    "kind", ["GIF", "WEBP", "TIFF", "PNG", "MPO", *(["AVIF"] if ".avif" in Image.registered_extensions() else [])]
)
def test_of_several_frames_the_first_is_read(kind, tmp_path):
    frames = [Image.new("RGB", (64, 48), (value, value, value)) for value in (200, 0)]
    frames[0].save(tmp_path / "image", kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(np.asarray(load_image(tmp_path / "image"), int), 200, atol=2)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS.* run git lfs pull"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page"),
        (b"<html><head>", "a web page"),
        (b"", "empty"),
    ],
)
def test_what_stands_in_for_an_image_is_named(content, what, tmp_path, refusal):
    (tmp_path / "a.jpg").write_bytes(content)
    assert re.search(what, refusal(load_image, tmp_path / "a.jpg"))


def test_files_of_absurd_size_are_not_read(tmp_path, refusal):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(2**41)
    assert "(2,199,023,255,552 bytes, larger than 1,073,741,824)" in refusal(load_image, tmp_path / "a.jpg")


# Masks.


LABELS = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 151


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.gif"])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_are_what_is_stored(name, mode, save):
    stored = Image.fromarray(LABELS)
    if mode == "P":
        stored.putpalette((np.random.default_rng(0).permutation(768) % 256).tolist())
    assert np.array_equal(load_mask(save(stored, name)), LABELS)


def test_masks_of_16_bits_and_of_small_palettes_are_what_is_stored(save):
    assert np.array_equal(load_mask(save(Image.fromarray(LABELS.astype(np.uint16)))), LABELS)
    small = Image.fromarray(LABELS % 16)
    small.putpalette(list(range(200, 248)))
    path = save(small, bits=4)
    assert path.read_bytes()[24] == 4
    assert np.array_equal(load_mask(path), LABELS % 16)


def png_of_4_bits():
    """Gray of 4 bits, which Pillow stretches to 8."""
    rows = b"".join(b"\0" + bytes(range(32)) for _ in range(48))
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 64, 48, 4, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    made = (struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


@pytest.mark.parametrize(
    ("kind", "options", "mode"),
    [
        ("JPEG", {}, "L"),
        ("WEBP", {"lossless": True}, "L"),
        ("PPM", {}, "L"),
        ("TIFF", {"compression": "jpeg"}, "L"),
        ("TIFF", {"tiffinfo": {262: 0}}, "L"),
        ("PNG", {}, "RGB"),
        ("PNG", {}, "LA"),
        ("PNG", {}, "1"),
        ("TIFF", {}, "F"),
    ],
)
def test_masks_whose_values_are_not_those_that_were_stored_are_refused(kind, options, mode, save, refusal):
    stored = Image.fromarray(LABELS).convert(mode)
    message = refusal(load_mask, save(stored, "mask.png", format=kind, **options))
    assert "mask.png" in message
    assert "expected" in message or "known format" in message


def test_grays_of_4_bits_are_no_labels(tmp_path, refusal):
    (tmp_path / "mask.png").write_bytes(png_of_4_bits())
    assert np.asarray(Image.open(tmp_path / "mask.png")).max() == 255
    assert "PNG of L;4 pixels" in refusal(load_mask, tmp_path / "mask.png")
