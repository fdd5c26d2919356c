"""Intervals over images: they cover the truth, and p-values agree with scipy's."""

import math

import numpy as np
import pytest
from scipy import stats

from atmviz.statistics.intervals import Interval, holm, ratio_interval, resample


def test_intervals_of_a_ratio_cover_the_truth_in_93_to_97_percent_of_repetitions():
    draw = np.random.default_rng(0)
    covered = 0
    for repetition in range(400):
        tokens = draw.integers(20, 60, 100)
        rate = np.clip(draw.normal(0.4, 0.1, 100), 0, 1)  # each image has its own
        hits = draw.binomial(tokens, rate)
        found = ratio_interval(hits, tokens, resample(100, repetition))
        covered += found.low <= 0.4 <= found.high
    assert 0.93 <= covered / 400 <= 0.97


def test_fewer_than_eight_images_give_an_estimate_and_no_interval():
    found = ratio_interval(np.arange(7.0), np.ones(7), resample(7))
    assert found.estimate == 3
    assert math.isnan(found.low)
    assert math.isnan(found.p_value(0))


def test_equal_images_have_an_interval_of_one_point_and_differ_from_any_other_null():
    found = ratio_interval(np.full(10, 2.0), np.ones(10), resample(10))
    assert (found.low, found.high) == (2, 2)
    assert found.p_value(2) == 1
    assert found.p_value(1) == 0


def test_p_values_are_those_of_the_normal_distribution():
    assert Interval(1.5, 0, 3, 0.7).p_value(0.2) == pytest.approx(2 * stats.norm.sf(1.3 / 0.7))


def test_holm_corrects_in_order_and_leaves_out_what_is_no_test():
    given = np.array([0.01, np.nan, 0.005, 0.04, 0.03])
    assert holm(given)[[0, 2, 3, 4]] == pytest.approx([0.03, 0.02, 0.06, 0.06])
    assert math.isnan(holm(given)[1])
