"""Fusion weights over the channels."""

import numpy as np
import pytest

from atmviz.statistics.fusion import branch_maps, branch_weights


def test_weights_of_branches_are_means_and_percentiles_over_the_channels():
    weights = np.linspace(0, 1, 11)[None, None, :, None] * np.array([1, 0.5])
    found = branch_weights(weights, ("width", "identity"))
    assert found.branches == ("width", "identity")
    assert found.mean == pytest.approx([0.5, 0.25])
    assert found.low == pytest.approx([0.1, 0.05])
    assert found.high == pytest.approx([0.9, 0.45])


def test_maps_are_the_mean_over_the_channels_of_each_branch():
    weights = np.random.default_rng(0).random((2, 3, 4, 5))
    maps = branch_maps(weights)
    assert maps.shape == (5, 2, 3)
    assert maps[4, 1, 2] == pytest.approx(weights[1, 2, :, 4].mean())
