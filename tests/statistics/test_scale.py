"""The elasticity of reach in scale: planted exponents come back, permuted objects give nothing."""

import dense_oracle
import numpy as np
import pytest

from atmviz.statistics.intervals import resample
from atmviz.statistics.scale import in_comparison, log_reach, log_scale, scale_elasticity

EXPONENT = 0.7


@pytest.fixture(scope="module")
def objects(scenes, planted):
    """Offsets of 0.3 times the object's length to the power of 0.7, of either sign, in a recording."""
    offsets = np.zeros((*scenes.labels.shape, 2, 2))
    for n, things in enumerate(scenes.things):
        for number, (_, length, *_) in things.items():
            offsets[n][scenes.labels[n] == number] = 0.3 * length**EXPONENT * np.array([1, -1])
    return planted({"1_1": offsets}, scenes.masks, scenes.things)


def of(recording, axis=0):
    tokens = recording.read("object_offsets", "1_1")[..., 0]
    reach = log_reach(recording.read("object_offsets", "1_1")[..., 1 + axis], tokens)
    return log_scale(recording.read("objects")), reach


@pytest.mark.parametrize("axis", [0, 1])
def test_a_planted_exponent_comes_back(objects, axis):
    found = scale_elasticity(*of(objects, axis), resample(len(objects))).interval
    assert [found.estimate, found.low, found.high] == pytest.approx([EXPONENT] * 3, rel=1e-12)


def test_a_factor_that_each_image_has_of_its_own_changes_nothing(objects):
    scale, reach = of(objects)
    factor = np.random.default_rng(0).normal(0, 2, (len(scale), 1))
    found = scale_elasticity(scale, reach + factor, resample(len(scale)))
    assert found.value == pytest.approx(EXPONENT, rel=1e-9)


def test_objects_permuted_within_their_images_give_nothing(objects):
    scale, reach = of(objects)
    usable, draw, found = in_comparison(scale, reach), np.random.default_rng(0), []
    for _ in range(200):
        permuted = reach.copy()
        for row, used in zip(permuted, usable, strict=True):
            row[used] = draw.permutation(row[used])
        found.append(scale_elasticity(scale, permuted, resample(7)[:, :0].reshape(0, len(scale))).value)
    assert abs(np.mean(found)) < 3 * np.std(found) / 200**0.5 < 0.1


def test_scale_is_the_true_length_or_else_the_root_of_the_visible_area():
    table = np.zeros((1, 3, 7))
    table[0, :, 0] = [4, 0, -1]
    table[0, :2, 1], table[0, 0, 4] = 36, 20
    found = log_scale(table)[0]
    assert found[:2] == pytest.approx(np.log([20, 6]))
    assert np.isnan(found[2])


def test_objects_of_fewer_than_four_tokens_are_left_out():
    found = log_reach(np.array([[8.0, 6.0, 0.0]]), np.array([[4, 3, 9]]))
    assert found[0, 0] == pytest.approx(np.log(2))
    assert np.isnan(found[0, 1:]).all()


def test_only_objects_with_another_one_in_their_image_are_compared():
    scale = np.array([[1.0, 2.0, np.nan], [1.0, np.nan, np.nan]])
    assert in_comparison(scale, np.ones((2, 3))).sum(1).tolist() == [2, 0]


def test_a_slope_is_that_of_least_squares_with_a_constant_for_each_image(objects):
    draw = np.random.default_rng(0)
    scale, reach = of(objects)
    reach = reach + draw.normal(0, 1, reach.shape)
    usable = np.isfinite(scale) & np.isfinite(reach)
    image = np.nonzero(usable)[0]
    design = np.column_stack([scale[usable], *(image == k for k in range(len(scale)))])
    expected = np.linalg.lstsq(design, reach[usable], rcond=None)[0][0]
    assert scale_elasticity(scale, reach, resample(len(scale))).value == pytest.approx(expected, rel=1e-9)


def test_the_objects_of_the_oracle_are_those_of_the_mask():
    numbers, table = dense_oracle.object_rows(
        np.array([[1, 1, 0], [2, 2, 2]]), {1: (4, None, None, None), 2: (5, 3.0, 2.0, 0.1)}
    )
    assert numbers == [2, 1]
    assert table[0].tolist() == pytest.approx([5, 3, (2 / 3) ** 0.5, 0, 3, 2, 0.1])


def test_intervals_of_the_elasticity_cover_the_truth_in_93_to_97_percent_of_repetitions():
    draw = np.random.default_rng(0)
    covered, images = 0, 80
    for repetition in range(400):
        scale = draw.normal(3, 0.6, (images, 4))
        scale[draw.random((images, 4)) < 0.3] = np.nan
        slope = draw.normal(0.3, 0.2, (images, 1))  # each image has its own
        reach = slope * (scale - 3) + draw.normal(0, 0.5, (images, 4)) + draw.normal(0, 1, (images, 1))
        found = scale_elasticity(scale, reach, resample(images, repetition)).interval
        covered += found.low <= 0.3 <= found.high
    assert 0.93 <= covered / 400 <= 0.97


@pytest.mark.parametrize("number", [3, 5, 6, 7, 10])
def test_objects_of_one_scale_have_no_elasticity_whatever_rounding_makes_of_them(number):
    scale = np.repeat(np.log(np.arange(20.0, 50.0) ** 0.5)[:, None], number, 1)
    found = scale_elasticity(scale, np.random.default_rng(0).normal(size=scale.shape), resample(30)).interval
    assert np.isnan([found.estimate, found.low, found.high]).all()
