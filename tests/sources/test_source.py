"""Every source keeps the one protocol; what is known of an image turns with its pixels."""

import inspect

import numpy as np
import pytest
from PIL import Image, ImageOps

from atmviz.errors import DatasetError
from atmviz.sources import Object, Source, Truth, bundled_photos, open_source, read_labeled
from atmviz.sources.source import turn_truth

OPENED = {
    "photos": bundled_photos,
    "shapes": lambda: open_source("shapes", size=64),
    "digits": lambda: open_source("digits", size=32),
}


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED)
def test_every_source_has_what_the_protocol_asks_for(opened):
    source = opened()
    members = {name for name in vars(Source) if not name.startswith("_")} | {"__len__"}
    assert {"title", "root", "sampling", "note", "name", "read", "truth", "fingerprint", "sample"} <= members
    assert [name for name in members if not hasattr(source, name)] == []
    for name in ("name", "read", "truth", "fingerprint", "sample"):
        expected = list(inspect.signature(getattr(Source, name)).parameters)[1:]
        assert list(inspect.signature(getattr(source, name)).parameters) == expected
    assert isinstance(source.root, str)
    assert source.require_truth() == source.note == ""
    names = [source.name(index) for index in range(min(20, len(source)))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED)
def test_images_are_rgb_and_large_enough_and_what_is_known_fits_them(opened):
    source = opened()
    image, truth = read_labeled(source, 1)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert min(image.shape[:2]) >= 32
    for labels in (truth.segments, truth.instances):
        assert labels is None or labels.shape == image.shape[:2]


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED)
def test_a_sample_keeps_names_pixels_and_fingerprints(opened):
    source = opened()
    sample = source.sample(2, seed=3)
    assert len(sample) == 2
    places = {source.name(index): index for index in range(len(source))}
    for index in range(2):
        place = places[sample.name(index)]
        assert np.array_equal(sample.read(index), source.read(place))
        assert sample.fingerprint(index) == source.fingerprint(place)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_maps_and_boxes_turn_as_pillow_turns_the_image(orientation):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 200, (30, 50), np.uint8)
    instances = np.zeros((30, 50), np.uint8)
    instances[4:10, 7:30] = 1
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    turned = turn_truth(Truth(3, pixels, instances, (Object(5, (7, 4, 30, 10)),)), orientation)
    assert np.array_equal(turned.segments, np.asarray(ImageOps.exif_transpose(image)))
    (thing,) = turned.objects
    left, top, right, bottom = map(int, thing.box)
    assert (turned.instances[top:bottom, left:right] == 1).all()
    assert (turned.instances == 1).sum() == (right - left) * (bottom - top)
    assert (turned.label, thing.label) == (3, 5)


def test_a_map_of_another_size_than_its_image_is_refused():
    class Wrong(type(open_source("shapes"))):
        def truth(self, index):
            return Truth(segments=np.zeros((64, 65), np.uint8))

    with pytest.raises(DatasetError, match=r"mask of shapes/val/000003 is 64 x 65, its image 64 x 64"):
        read_labeled(Wrong(64, split="val"), 3)
