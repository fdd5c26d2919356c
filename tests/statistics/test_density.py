"""How often each token is sampled, against a loop over tokens and channels."""

import numpy as np
import pytest

from atmviz.statistics.density import sampling_density


def by_loop(offsets, channels_per_offset, kind):
    height, width, _, count = offsets.shape
    axes, points = np.zeros((2, height, width), np.int64), np.zeros((height, width), np.int64)
    for i in range(height):
        for j in range(width):
            for k in range(count):
                row, column = i + round(float(offsets[i, j, 1, k])), j + round(float(offsets[i, j, 0, k]))
                if 0 <= column < width:
                    axes[0, i, column] += channels_per_offset
                if 0 <= row < height:
                    axes[1, row, j] += channels_per_offset
                if 0 <= column < width and 0 <= row < height:
                    points[row, column] += channels_per_offset
    return points if kind == "point" else axes


@pytest.mark.parametrize("kind", ["axis", "point"])
@pytest.mark.parametrize("shape", [(5, 7, 2, 3), (1, 1, 2, 2), (4, 3, 2, 8)])
@pytest.mark.parametrize("spread", [0.7, 3, 1e5])
def test_counts_are_those_of_a_loop(kind, shape, spread):
    offsets = np.random.default_rng(0).normal(0, spread, shape).astype(np.float32)
    offsets.flat[:2] = 0.5, -1.5  # halves go to the even offset, as `round` does
    counts = sampling_density(offsets, 4, kind)
    assert counts.dtype == np.int64
    assert counts.tolist() == by_loop(offsets, 4, kind).tolist()


def test_zero_offsets_sample_each_token_once_per_channel():
    assert (sampling_density(np.zeros((3, 4, 2, 5)), 2) == 10).all()
