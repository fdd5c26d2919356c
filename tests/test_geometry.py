"""Map sizes, token centres and placements, against real convolutions and the transforms of torchvision and timm."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from atmviz.data.fitting import preprocess
from atmviz.geometry import Placement, Preprocessing, map_size, token_at_px, token_center_px

STAGES = (1, 2, 3, 4)
# (height, width): landscape, portrait, square, odd, one side much longer, smaller than the input.
IMAGE_SIZES = [(300, 451), (451, 300), (333, 333), (257, 611), (97, 1001), (33, 45)]


def convolutions(stage, device=None):
    """The strided convolutions up to a stage, every weight one."""
    layers = [nn.Conv2d(1, 1, 7, stride=4, padding=2, bias=False, device=device)]
    layers += [nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False, device=device) for _ in range(stage - 1)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers)


# Maps and tokens.


@pytest.mark.parametrize("stage", STAGES)
def test_map_sizes_are_those_of_the_convolutions(stage):
    network = convolutions(stage, device="meta")
    for height in (*range(32, 300), 384, 512, 600, 1080):
        width = 3 * height // 2 + 1
        shape = network(torch.empty(1, 1, height, width, device="meta")).shape
        assert map_size((height, width), 2 ** (stage + 1)) == shape[2:]


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((512, 512), [(128, 128), (64, 64), (32, 32), (16, 16)]),
        ((600, 800), [(150, 200), (75, 100), (38, 50), (19, 25)]),
        ((224, 224), [(56, 56), (28, 28), (14, 14), (7, 7)]),
    ],
)
def test_map_sizes_of_the_papers_figures(size, maps):
    assert [map_size(size, 2 ** (stage + 1)) for stage in STAGES] == maps


@pytest.mark.parametrize(
    ("index", "stride", "cell", "rf"), [(16, 16, 263.5, 257), (8, 32, 271.5, 257), (0, 4, 1.5, 1), (64, 8, 515.5, 513)]
)
def test_token_centres(index, stride, cell, rf):
    assert token_center_px(index, stride, "cell") == cell
    assert token_center_px(index, stride, "rf") == rf


@pytest.mark.parametrize("stage", STAGES)
def test_cell_centre_is_the_middle_of_the_pixels_a_token_stands_for(stage):
    stride = 2 ** (stage + 1)
    pixels = np.arange(320).reshape(-1, stride)
    for index in (0, 1, len(pixels) - 1):
        assert token_center_px(index, stride, "cell") == pixels[index].mean()


@pytest.mark.parametrize("stage", STAGES)
def test_rf_centre_is_the_middle_of_the_pixels_a_token_depends_on(stage):
    pixels = torch.zeros(1, 1, 512, 512, requires_grad=True)
    tokens = convolutions(stage)(pixels)
    i, j = tokens.shape[2] // 2, tokens.shape[3] // 3
    tokens[0, 0, i, j].backward()
    rows, columns = pixels.grad[0, 0].nonzero().unbind(1)
    assert token_center_px(i, 2 ** (stage + 1), "rf") == (rows.min() + rows.max()) / 2
    assert token_center_px(j, 2 ** (stage + 1), "rf") == (columns.min() + columns.max()) / 2


@pytest.mark.parametrize("anchor", ["cell", "rf"])
@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_nearest_token_is_the_one_with_the_nearest_centre(anchor, stride):
    size = 7
    centers = np.array([token_center_px(index, stride, anchor) for index in range(size)])
    for position in np.arange(-10, size * stride + 10, 0.25):
        distances = np.abs(centers - position)
        assert distances[token_at_px(position, stride, anchor, size)] == distances.min()
    assert [token_at_px(center, stride, anchor, size) for center in centers] == list(range(size))


# Placements.


@pytest.mark.parametrize("fit", ["crop", "squash", "whole"])
@pytest.mark.parametrize(("height", "width"), IMAGE_SIZES)
def test_placements_invert(fit, height, width):
    placement = Preprocessing((160, 96), fit).place(height, width)
    for point in [(0, 0), (12.25, 30), (height - 1, width - 1)]:
        assert placement.to_image(*placement.to_input(*point)) == pytest.approx(point)
        assert placement.to_input(*placement.to_image(*point)) == pytest.approx(point)


def test_placement_by_hand():
    # 200x100 resized to 100x50, then 80x40 cut from (10, 5): input pixel 0 covers image pixels 20 and 21.
    placement = Placement(image=(200, 100), resized=(100, 50), origin=(10, 5), size=(80, 40))
    assert placement.to_image(0, 0) == (20.5, 10.5)
    assert placement.to_input(20.5, 10.5) == (0, 0)
    assert placement.to_image(79.5, 39.5) == (179.5, 89.5)  # the edges of both


@pytest.mark.parametrize("size", [(224, 224), (384, 384), (128, 96)])
@pytest.mark.parametrize(("height", "width"), IMAGE_SIZES)
def test_crop_lies_where_torchvision_cuts_it(size, height, width):
    preprocessing = Preprocessing(size)
    placement = preprocessing.place(height, width)
    coordinates = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    resized = transforms.resize(coordinates, placement.resized, InterpolationMode.BILINEAR, antialias=False)
    if size[0] == size[1]:
        short = int(size[0] / 0.875)
        assert torch.equal(
            resized, transforms.resize(coordinates, [short], InterpolationMode.BILINEAR, antialias=False)
        )
    seen = transforms.center_crop(resized, size)
    assert seen.shape[1:] == placement.size == size
    for i, j in [(0, 0), (0, size[1] - 1), (size[0] // 2, size[1] // 3), (size[0] - 1, size[1] - 1)]:
        assert placement.to_image(i, j) == pytest.approx(seen[:, i, j].tolist(), abs=1)
    middle = size[0] // 2, size[1] // 2  # no border in reach: exact
    assert placement.to_image(*middle) == pytest.approx(seen[:, *middle].tolist(), abs=1e-3)


@pytest.mark.parametrize("size", [(224, 224), (600, 800), (96, 64)])
@pytest.mark.parametrize(("height", "width"), IMAGE_SIZES)
def test_crop_keeps_the_shape_of_things_and_is_filled(size, height, width):
    placement = Preprocessing(size).place(height, width)
    for axis in (0, 1):
        assert placement.origin[axis] >= 0
        assert placement.origin[axis] + size[axis] <= placement.resized[axis]
    assert min(np.divide(placement.resized, size)) == pytest.approx(1 / 0.875, abs=1 / min(size))
    assert placement.resized[1] / placement.resized[0] == pytest.approx(width / height, rel=2 / min(placement.resized))


def test_whole_images_keep_every_pixel():
    placement = Preprocessing((512, 600), "whole").place(300, 450)
    assert placement == Placement(image=(300, 450), resized=(512, 768), origin=(0, 0), size=(512, 768))


def test_squashed_images_fill_the_size():
    placement = Preprocessing((96, 64), "squash").place(300, 450)
    assert placement == Placement(image=(300, 450), resized=(96, 64), origin=(0, 0), size=(96, 64))


# Pixels.


def photo(height, width):
    """Noise over a gradient: every resampling step shows."""
    noise = np.random.default_rng(height * width).integers(0, 128, (height, width, 3))
    ramp = np.linspace(0, 127, width)[None, :, None]
    return Image.fromarray((noise + ramp).astype(np.uint8))


def assert_same_but_for_rounding(pixels, expected):
    """Normalised [3, H, W], by torchvision and by Pillow: the two round intermediate rows to integers differently."""
    levels = ((pixels - expected) * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255).abs()
    assert levels.max() < 2.001  # of 255
    assert (levels > 0.001).double().mean() < 0.02


@pytest.mark.parametrize("side", [224, 384])
@pytest.mark.parametrize(("height", "width"), IMAGE_SIZES)
def test_input_equals_timms_evaluation_transform(side, height, width):
    image = photo(height, width)
    transform = create_transform(side, is_training=False, interpolation="bicubic", crop_pct=0.875)
    pixels, placement = preprocess(np.array(image), Preprocessing((side, side)))
    assert pixels.dtype == torch.float32
    assert pixels.shape == (1, 3, side, side)
    assert placement == Preprocessing((side, side)).place(height, width)
    assert_same_but_for_rounding(pixels[0], transform(image))


@pytest.mark.parametrize(("fit", "size"), [("squash", (96, 64)), ("whole", (96, 144))])
def test_uncropped_input_is_the_resized_image(fit, size):
    image = photo(200, 300)
    pixels, _ = preprocess(np.array(image), Preprocessing((96, size[1] if fit == "squash" else 200), fit))
    resized = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC)) / 255
    expected = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert_same_but_for_rounding(pixels[0], torch.from_numpy(expected).permute(2, 0, 1))


# What of a photograph is seen; sizes are (height, width).


@pytest.mark.parametrize(
    ("preprocessing", "image", "share"),
    [
        (Preprocessing((600, 800), "crop", 1.0), (1200, 1600), 1),
        (Preprocessing((600, 800), "crop", 1.0), (1000, 1500), 8 / 9),
        (Preprocessing((600, 800), "crop", 1.0), (1000, 1000), 3 / 4),
        (Preprocessing((600, 800), "crop", 1.0), (1600, 1200), 9 / 16),
        (Preprocessing((600, 800), "crop", 1.0), (1500, 1000), 1 / 2),
        (Preprocessing((224, 224), "crop", 0.875), (512, 512), 49 / 64),
        (Preprocessing((224, 224), "squash"), (1600, 1200), 1),
        (Preprocessing((224, 224), "whole"), (1600, 1200), 1),
    ],
)
def test_the_share_that_is_seen_is_that_of_the_area(preprocessing, image, share):
    placement = preprocessing.place(*image)
    assert placement.seen_share == pytest.approx(share, abs=1e-3)
    (top, left), (bottom, right) = (
        placement.to_image(y, x) for y, x in ((-0.5, -0.5), np.subtract(placement.size, 0.5))
    )
    assert placement.seen_share == pytest.approx((bottom - top) * (right - left) / (image[0] * image[1]))


def test_what_is_seen_is_said():
    said = Preprocessing((600, 800), "crop", 1.0).describe()
    assert said == "a center crop to 600×800 px shows 56 % to 100 % of a photograph, by its shape"
    assert "224×224 px shows 57 % to 77 % of a photograph" in Preprocessing().describe()
    assert "whole" in Preprocessing(fit="squash").describe()


def test_a_preprocessing_comes_back_from_json():
    one = Preprocessing((600, 800), "squash", 0.5)
    assert Preprocessing.from_json(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize(
    "change",
    [{"size": "224"}, {"size": [224]}, {"size": [224, 1e300]}, {"size": [-5, 224]}, {"fit": 7}, {"crop_pct": 0},
     {"crop_pct": float("nan")}, {"crop_pct": "1"}, {"size": None}],
)  # fmt: skip
def test_a_preprocessing_that_cannot_be_is_refused(change):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Preprocessing.from_json({**asdict(Preprocessing()), **change})
