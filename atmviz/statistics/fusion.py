"""Fusion weights of one image, over the channels of a layer.

Legend: H/W grid in tokens, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BranchWeights:
    """Weights that all tokens of an image share.

    Attributes:
        branches: Names of the branches.
        mean: Mean over the channels, per branch.
        low, high: 10th and 90th percentile of the channels, per branch.
    """

    branches: tuple[str, ...]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def branch_weights(weights: np.ndarray, branches: Sequence[str]) -> BranchWeights:
    """Return the weights of branches, from fusion weights [H, W, C, branches] of any map."""
    weights = weights.reshape(-1, len(branches)).astype(np.float64)
    low, high = np.percentile(weights, (10, 90), axis=0)
    return BranchWeights(tuple(branches), weights.mean(0), low, high)


def branch_maps(weights: np.ndarray) -> np.ndarray:
    """Return the mean weight over the channels, [branches, H, W], from fusion weights [H, W, C, branches]."""
    return np.moveaxis(weights.mean(2, dtype=np.float64), -1, 0)
