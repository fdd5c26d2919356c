"""Sampling maps against numbers worked out by hand."""

import numpy as np
import pytest

from atmviz.statistics import nearest_index, sampling_map


def test_the_nearest_token_of_a_half_is_at_the_even_offset_and_all_beyond_the_map_is_one_index():
    offsets = np.array([-1e30, -3.6, -3.5, -0.5, 0.5, 0.51, 1.5, 1.6, 1e30])
    assert nearest_index(offsets, 3, 6).tolist() == [-1, -1, -1, 3, 3, 4, 5, 5, 6]


def test_rows_and_columns_count_channels_per_token_and_per_side():
    horizontal = [-4, -3, 0, 0.5, 1.5, 1e30]  # from column 3 of 5: outside, 0, 3, 3, outside, outside
    vertical = [-1, 0, 1, 1.6, -2, -1e30]  # from row 1 of 3: 0, 1, 2, outside below, outside above twice
    found = sampling_map(np.array([horizontal, vertical], np.float32), query=(1, 3), grid=(3, 5))
    assert found.along("horizontal").tolist() == [1, 0, 0, 2, 0]
    assert found.along("vertical").tolist() == [1, 1, 1]
    assert found.samples["horizontal"].positions.tolist() == [[1, 0], [1, 3]]
    assert found.samples["horizontal"].counts.tolist() == [1, 2]
    assert found.samples["vertical"].positions.tolist() == [[0, 3], [1, 3], [2, 3]]
    assert found.outside == {"left": 1, "right": 2, "top": 2, "bottom": 1}
    assert (found.grid, found.query, found.channels) == ((3, 5), (1, 3), 6)


def test_points_count_channels_per_token_and_per_side():
    horizontal = [1, 1, -3, -4, 0, 2]
    vertical = [-1, -1.4, 1, 0, 9, -2]  # from (1, 3): (0, 4) twice, (2, 0), then left, bottom, and top and right
    found = sampling_map(np.array([horizontal, vertical]), query=(1, 3), grid=(3, 5), kind="point")
    assert list(found.samples) == ["point"]
    assert found.samples["point"].positions.tolist() == [[0, 4], [2, 0]]
    assert found.samples["point"].counts.tolist() == [2, 1]
    assert found.outside == {"left": 1, "right": 1, "top": 1, "bottom": 1}


@pytest.mark.parametrize("query", [(0, 0), (2, 4), (1, 3)])
def test_no_channel_is_lost(query):
    offsets = np.random.default_rng(0).normal(0, 4, (2, 50)).astype(np.float32)
    found = sampling_map(offsets, query, (3, 5))
    assert found.along("horizontal").sum() + found.outside["left"] + found.outside["right"] == 50
    assert found.along("vertical").sum() + found.outside["top"] + found.outside["bottom"] == 50


@pytest.mark.parametrize("kind", ["axis", "point"])
def test_zero_offsets_sample_the_query(kind):
    found = sampling_map(np.zeros((2, 7), np.float32), (2, 1), (4, 3), kind)
    assert all(sampled.positions.tolist() == [[2, 1]] for sampled in found.samples.values())
    assert all(sampled.counts.tolist() == [7] for sampled in found.samples.values())
    assert not any(found.outside.values())


@pytest.mark.parametrize(
    ("axis", "sides"), [("horizontal", {"left": 1, "right": 0}), ("vertical", {"top": 0, "bottom": 2})]
)
def test_the_samples_of_one_axis_are_those_of_both(axis, sides):
    both = sampling_map(np.array([[1, -9, 0], [9, 9, -1]]), (2, 2), (5, 5))
    one = both.only(axis)
    assert list(one.samples) == [axis]
    assert one.along(axis).tolist() == both.along(axis).tolist()
    assert one.outside == sides
    points = sampling_map(np.zeros((2, 3)), (2, 2), (5, 5), "point")
    assert points.only(axis) is points
