"""Any kind of image as an array: a path, an array, a PIL image."""

import numpy as np
import pytest
from PIL import Image

from atmviz.errors import DatasetError
from atmviz.sources.decoding import as_image, load_image


def test_a_path_an_array_and_a_pil_image_are_the_same_image(tmp_path, colors):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colors).save(tmp_path / "a.png", exif=exif)
    expected = load_image(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(as_image(opened), expected)
        assert opened.size == (80, 48), "the caller's image stays as it was"
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), expected):
        assert np.array_equal(as_image(image), expected)
    gray = np.random.default_rng(0).integers(0, 2**16, (40, 50), np.uint16)
    assert np.array_equal(as_image(Image.fromarray(gray))[..., 0], (gray * np.float32(255 / 65535)).round())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((40, 50), np.uint8), r"got an array \[40, 50\] of uint8"),
        (np.zeros((40, 50, 3), np.float32), r"got an array \[40, 50, 3\] of float32"),
        (np.zeros((40, 50, 4), np.uint8), r"expected a path, an array \[H, W, 3\] of uint8 or a PIL image"),
        (np.zeros((31, 50, 3), np.uint8), "50x31 px, expected 32 px a side"),
        (Image.new("L", (31, 50)), "31x50 px, expected 32 px a side"),
        (Image.fromarray(np.full((40, 40), np.nan, np.float32)), "cannot convert the PIL image"),
        (3, "got int as an image"),
        ("gone.png", "cannot read image gone.png"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(DatasetError, match=message) as caught:
        as_image(image)
    assert "\n" not in str(caught.value)
