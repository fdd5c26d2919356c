"""The slope of anisotropy: planted exponents come back, permuted masks give nothing."""

import numpy as np
import pytest

from atmviz.statistics.intervals import resample
from atmviz.statistics.shape import anisotropy_slope, log_aspect, permuted_slopes


@pytest.fixture
def logs():
    draw = np.random.default_rng(0)
    aspect, scale = draw.normal(0, 0.5, (60, 4)), draw.normal(3, 0.5, (60, 4))
    aspect[draw.random((60, 4)) < 0.2] = np.nan
    return aspect, scale


def test_a_planted_exponent_comes_back(logs):
    found = anisotropy_slope(logs[0], 0.4 + 0.7 * logs[0], resample(60)).interval
    assert [found.estimate, found.low, found.high] == pytest.approx([0.7] * 3, rel=1e-9)


def test_a_slope_is_that_of_least_squares(logs):
    aspect = logs[0]
    anisotropy = 0.3 * aspect + np.random.default_rng(1).normal(0, 1, aspect.shape)
    usable = np.isfinite(aspect)
    expected = np.polyfit(aspect[usable], anisotropy[usable], 1)[0]
    assert anisotropy_slope(aspect, anisotropy, resample(60)).value == pytest.approx(expected, rel=1e-9)


def test_permuted_masks_give_nothing_within_a_band_around_zero(logs):
    aspect, scale = logs
    null = permuted_slopes(aspect, 0.4 + 0.7 * aspect, scale)
    assert -0.2 < null.low < 0 < null.high < 0.2
    assert abs(null.estimate) < 0.05  # not 0: quarters of scale differ in aspect by chance
    assert permuted_slopes(aspect, 0.4 + 0.7 * aspect, scale) == null


def test_masks_are_permuted_within_quarters_of_scale():
    scale = np.repeat([1.0, 2.0, 3.0, 4.0], 6).reshape(8, 3)
    aspect = scale * 10  # the same within a quarter: permuted, nothing changes
    null = permuted_slopes(aspect, 0.7 * aspect, scale)
    assert [null.estimate, null.low, null.high] == pytest.approx([0.7] * 3)


def test_the_aspect_is_the_ratio_of_the_extents():
    objects = np.zeros((1, 3, 7))
    objects[0, :, 2:4] = [(6, 3), (3, 6), (5, 0)]
    assert log_aspect(objects)[0, :2] == pytest.approx([np.log(2), -np.log(2)])
    assert np.isnan(log_aspect(objects)[0, 2])


def test_one_object_has_no_slope():
    aspect = np.array([[1.0]])
    assert np.isnan(permuted_slopes(aspect, aspect, aspect).estimate)


def test_objects_of_one_aspect_have_no_slope_whatever_rounding_makes_of_them():
    aspect, anisotropy = np.full((30, 3), np.log(1.7)), np.random.default_rng(0).normal(size=(30, 3))
    found = anisotropy_slope(aspect, anisotropy, resample(30)).interval
    assert np.isnan([found.estimate, found.low, found.high]).all()
    assert np.isnan(permuted_slopes(aspect, anisotropy, aspect).estimate)


def test_draws_of_objects_of_one_aspect_are_left_out_of_the_interval():
    aspect, draw = np.full((8, 1), np.log(1.7)), np.random.default_rng(0)
    aspect[0] = 0.0  # a third of the draws do not hold it
    found = anisotropy_slope(aspect, 0.5 * aspect + draw.normal(0, 1e-3, (8, 1)), resample(8)).interval
    assert [found.low, found.high] == pytest.approx([0.5] * 2, abs=0.01)
