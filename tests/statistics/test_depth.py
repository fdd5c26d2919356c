"""How far layers reach: the untrained network by formula, trends over layers, and quantiles from bins."""

import numpy as np
import pytest
import torch
from scipy import stats

from atmviz.models.layers import init_weights
from atmviz.models.token_mixer import OffsetLayer
from atmviz.statistics.depth import distance_quantiles, kendall_trend, untrained_beyond, untrained_reach, untrained_std


@pytest.mark.parametrize("channels", [48, 320])
def test_the_reach_of_untrained_layers_is_that_of_the_formula_within_three_percent(channels):
    layer = OffsetLayer(channels, 400)
    layer.apply(init_weights)
    with torch.inference_mode():
        offsets = layer(torch.randn(1, 20, 100, channels)).numpy()
    assert np.abs(offsets).mean() == pytest.approx(untrained_reach(channels), rel=0.03)
    assert offsets.std() == pytest.approx(untrained_std(channels), rel=0.03)
    assert (np.abs(offsets) > 0.5).mean() == pytest.approx(untrained_beyond(channels, 0.5), rel=0.05)


def test_reach_grows_over_layers_shrinks_or_does_neither():
    growing = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [3.0, 1.0, 2.0]])
    assert kendall_trend(growing).tolist() == [1, -1, 0]


def test_trends_are_kendalls():
    reaches = np.random.default_rng(0).random((6, 20))
    expected = [stats.kendalltau(np.arange(6), image).statistic for image in reaches.T]
    assert kendall_trend(reaches) == pytest.approx(expected)


def test_quantiles_from_bins_are_those_of_the_samples_within_a_bin():
    samples = np.abs(np.random.default_rng(0).normal(0, 3, 5000))
    counts = np.bincount((16 * samples).astype(int))
    levels = (0.025, 0.25, 0.5, 0.75, 0.975, 1)
    assert distance_quantiles(counts, levels) == pytest.approx(np.quantile(samples, levels), abs=1 / 16)


def test_quantiles_lie_within_the_bins_that_hold_samples():
    assert distance_quantiles(np.array([0, 0, 4, 0, 4]), (0.25, 0.5, 0.75, 1)).tolist() == [
        2.5 / 16,
        3 / 16,
        4.5 / 16,
        5 / 16,
    ]
    assert np.isnan(distance_quantiles(np.zeros(4, int), (0.5,))).all()
