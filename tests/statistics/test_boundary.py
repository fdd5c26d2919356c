"""The share of samples near the border: 0 above its mirror image for constants, all of it for a planted field."""

import dense_oracle
import numpy as np
import pytest

from atmviz.statistics.boundary import boundary_shares
from atmviz.statistics.intervals import resample


def shares(offsets, labels, axis):
    hits = dense_oracle.label_arrays(offsets, labels)["hits"][:, axis]
    return boundary_shares(hits, resample(len(hits)))


@pytest.mark.parametrize("axis", [0, 1])
def test_constants_end_as_often_near_the_border_behind(scenes, axis):
    offsets = np.broadcast_to(np.random.default_rng(0).normal(0, 3, (2, 6)), (*scenes.labels.shape, 2, 6))
    near, mirrored = shares(offsets, scenes.labels, axis)
    assert near.value > 0
    assert ((near - mirrored).draws == 0).all()


def test_offsets_as_long_as_the_distance_to_the_border_all_end_near_it():
    labels = np.array([[0, 1, 1, 1, 1, 0]] * 10)[:, None]
    offsets = np.zeros((10, 1, 6, 2, 1))
    offsets[:, 0, 1:5, 0, 0] = [3.5, 2.5, 1.5, 0.51]  # to the right end of the object
    near, mirrored = shares(offsets, labels, 0)
    assert near.value == 100
    assert mirrored.value == 0  # behind them the border is 0.5, 1.5, 2.5 and 3.5 tokens away
