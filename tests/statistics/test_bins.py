"""Samples by offset and image, and the interval of their shares over images."""

import numpy as np
import pytest

from atmviz.statistics.bins import offset_counts, share_interval


def test_counts_are_those_of_plain_loops_with_all_beyond_at_the_ends():
    offsets = np.random.default_rng(0).normal(0, 3, (3, 2, 4, 5))
    offsets[0, 0, 0, :3] = 0.5, 1.5, -40  # halves to the even offset
    counts = offset_counts(offsets, 4)
    for image in range(3):
        rounded = [min(max(round(float(value)), -4), 4) for value in offsets[image].ravel()]
        assert counts[image].tolist() == [rounded.count(k) for k in range(-4, 5)]


def test_images_that_are_alike_leave_no_doubt_and_few_images_give_no_interval():
    assert share_interval(np.tile([[1, 3]], (8, 1))).tolist() == [[0.25, 0.75]] * 2
    assert share_interval(np.ones((7, 3))).shape == (0, 3)


def test_the_interval_is_about_that_of_the_normal_distribution():
    """Of 400 images that have all samples in one of two bins, the share's standard error is sqrt(p (1 - p) / 400)."""
    counts = np.array([[10, 0]] * 100 + [[0, 10]] * 300)
    low, high = share_interval(counts)[:, 0]
    error = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.25 - error, 0.25 + error), abs=0.005)
