"""Drawn scenes as a source: the first ones, by stable names, with true scale and elongation."""

import math

import numpy as np
import pytest

from atmviz.data.fitting import fit_image
from atmviz.errors import DatasetError
from atmviz.sources import open_source, preprocessing_for
from atmviz.sources.datasets import SHAPE_CLASSES
from atmviz.sources.shapes import Shapes


def test_a_limit_takes_the_first_scenes_whatever_the_seed_of_a_sample():
    source = open_source("shapes", limit=3, size=64)
    assert [source.name(index) for index in range(len(source))] == [f"shapes/val/{k:06d}" for k in range(3)]
    assert np.array_equal(source.read(2), Shapes(64, split="val")[2].image)
    assert len(open_source("shapes", limit=10**9)) == 10_000


def test_scenes_are_drawn_at_the_input_size_and_reach_the_network_unchanged():
    for size in (None, 64, (96, 96), 512):
        preprocessing = preprocessing_for("shapes", (size, size) if isinstance(size, int) else size)
        image = open_source("shapes", size=size).read(0)
        pixels, placement = fit_image(image, preprocessing)
        assert image.shape[:2] == preprocessing.size
        assert np.array_equal(pixels, image)
        assert placement.seen_share == 1
    with pytest.raises(DatasetError, match="got an input of 600x800 px for shapes, expected a square one"):
        open_source("shapes", size=(600, 800))


def test_scenes_are_no_larger_than_images_may_be():
    with pytest.raises(DatasetError, match=r"got shapes of 1000000000 px, .* expected 32 to 65535 px"):
        Shapes(10**9, 1)


def test_seed_and_split_choose_other_scenes_and_are_told_of():
    one, other, train = open_source("shapes"), open_source("shapes", seed=1), open_source("shapes", split="train")
    assert len({source.read(0).tobytes() for source in (one, other, train)}) == 3
    assert (one.fingerprint(0) == other.fingerprint(0)) is False
    assert (dict(other.sampling), train.name(0)) == ({"size": 128, "seed": 1}, "shapes/train/000000")


def test_objects_are_the_visible_ones_with_their_length_and_elongation():
    hidden = 0
    for index in range(300):
        scene = Shapes(96, split="val")[index]
        truth = Shapes(96, split="val").truth(index)
        assert truth.label == scene.label
        assert np.array_equal(truth.segments, scene.semantic_mask)
        hidden += len(scene.objects) - len(truth.objects)
        for number, (thing, k) in enumerate(zip(truth.objects, scene.visible, strict=True), 1):
            placed = scene.objects[k]
            mask = scene.instance_map == k + 1
            assert np.array_equal(truth.instances == number, mask)
            rows, columns = np.nonzero(mask)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.length_px == pytest.approx(96 * placed.scale)
            assert (thing.label, thing.elongation, thing.angle) == (placed.label, placed.elongation, placed.angle)
    assert hidden > 0, "some object is covered by others"


def test_a_bar_that_is_wholly_seen_has_the_length_it_says():
    lengths = []
    for index in range(400):
        scene, truth = Shapes(128)[index], Shapes(128).truth(index)
        for number, thing in enumerate(truth.objects, 1):
            left, top, right, bottom = thing.box
            if SHAPE_CLASSES[thing.label] == "bar" and min(left, top) > 0 and max(right, bottom) < 128:
                rows, columns = np.nonzero(truth.instances == number)
                along = columns * math.cos(thing.angle) + rows * math.sin(thing.angle)
                lengths.append(np.ptp(along) / thing.length_px)
        assert len(scene.objects) >= len(truth.objects)
    assert len(lengths) > 20
    assert np.median(lengths) == pytest.approx(1, abs=0.1)
