"""Regions of masks: those of a plain search through neighbors, in time that does not depend on how many there are."""

import time

import numpy as np
import pytest

from atmviz.sources.regions import regions_of


def searched(values):
    """Number regions by visiting neighbors of equal value, pixel by pixel."""
    numbers, count = np.zeros(values.shape, int), 0
    for start in zip(*np.nonzero(values), strict=True):
        if numbers[start]:
            continue
        count += 1
        waiting = [start]
        while waiting:
            i, j = waiting.pop()
            if numbers[i, j]:
                continue
            numbers[i, j] = count
            around = ((i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1))
            waiting += [
                (a, b)
                for a, b in around
                if 0 <= a < values.shape[0] and 0 <= b < values.shape[1] and values[a, b] == values[start]
            ]
    return numbers


@pytest.mark.parametrize("classes", [1, 2, 3, 9])
def test_regions_are_pixels_of_one_value_that_touch_by_sides_or_corners(classes):
    draw = np.random.default_rng(classes)
    for _ in range(30):
        values = draw.integers(0, classes + 1, draw.integers(1, 14, 2)).astype(np.uint8)
        found, expected = regions_of(values, nothing=0), searched(values)
        pairs = np.unique(np.stack([found.instances.ravel(), expected.ravel()]), axis=1)
        assert len(found.objects) == expected.max() == pairs.shape[1] - (values == 0).any()
        assert ((found.instances == 0) == (values == 0)).all()
        labels = np.array([0, *(thing.label for thing in found.objects)])
        assert (labels[found.instances] == values).all()


def test_crossing_diagonals_are_told_apart():
    values = np.array([[1, 2], [2, 1]], np.uint8)
    assert regions_of(values, nothing=0).instances.tolist() == [[1, 2], [2, 1]]


def test_a_mask_of_thousands_of_values_takes_no_longer_than_its_pixels():
    values = np.random.default_rng(0).integers(0, 2**16, (512, 512)).astype(np.uint16)
    start = time.perf_counter()
    assert len(regions_of(values, nothing=0).objects) > 200_000
    assert time.perf_counter() - start < 10  # value by value, 50 s
