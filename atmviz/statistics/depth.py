"""How far layers reach, beside the same network before training.

Offsets leave a linear layer after a LayerNorm. Before training, its weights are random with a standard deviation of
0.02, so that the offsets of a layer of C channels are normal with a standard deviation of 0.02 sqrt(C): deeper layers
reach further because they are wider. What training adds is the growth.

Legend: N images, L layers, K bins of |offset|.

Source: Sec. 3.2 and A2.2, Figs. 3, 6 and 7 ("offsets expand with depth").
"""

import math
from collections.abc import Sequence

import numpy as np

from atmviz.recording.label_quantities import BINS_PER_TOKEN
from atmviz.statistics.measures import Estimate

INITIAL_STD = 0.02


def untrained_std(channels: int) -> float:
    """Return the standard deviation of the offsets of an untrained layer, tokens."""
    return INITIAL_STD * math.sqrt(channels)


def untrained_reach(channels: int) -> float:
    """Return mean |offset| of an untrained layer, tokens: 0.02 sqrt(2 C / pi).

    >>> round(untrained_reach(24), 3)
    0.078
    """
    return untrained_std(channels) * math.sqrt(2 / math.pi)


def untrained_beyond(channels: int, limit: float) -> float:
    """Return the share of samples of an untrained layer with |offset| above a limit in tokens."""
    return math.erfc(limit / untrained_std(channels) / math.sqrt(2))


def mean_of_images(values: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the mean over images [N], which all have equally many samples."""
    return Estimate.ratio(values.astype(np.float64), np.ones(len(values)), weights)


def kendall_trend(reaches: np.ndarray) -> np.ndarray:
    """Return Kendall's tau (a) of reach in depth for each image, [N]: pairs that grow less pairs that shrink, of all.

    Args:
        reaches: Mean |offset| of the layers in order, [L, N], L of 2 or more.
    """
    before, after = np.triu_indices(len(reaches), 1)
    return np.sign(reaches[after] - reaches[before]).mean(0)


def distance_quantiles(distances: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return quantiles of |offset| in tokens, straight within bins.

    Args:
        distances: Samples by |offset|, [K], in bins of 1/16 token; the last also holds all beyond.
        levels: Above 0, at most 1.

    Returns:
        A quantile of each level; NaN without samples. One in the last bin is given as the end of that bin.
    """
    total = np.cumsum(distances)
    if not total[-1]:
        return np.full(len(levels), np.nan)
    wanted = np.asarray(levels) * total[-1]
    bins = np.searchsorted(total, wanted)
    return (bins + 1 - (total[bins] - wanted) / distances[bins]) / BINS_PER_TOKEN
