"""Digits as a source: what recording sees is what training evaluates on."""

import numpy as np
import pytest
import torch

from atmviz.data.classification import open_labeled
from atmviz.data.fitting import preprocess
from atmviz.sources import open_source, preprocessing_for


@pytest.mark.parametrize("size", [32, 64])
def test_digits_reach_the_network_as_in_evaluation(size):
    preprocessing = preprocessing_for("digits", (size, size))
    source = open_source("digits", size=size)
    evaluated = open_labeled("digits", "val", size)
    for index in range(20):
        seen, _ = preprocess(source.read(index), preprocessing)
        item = evaluated[index]
        assert torch.allclose(seen[0], item["image"], atol=1e-6)
        assert source.truth(index).label == item["label"]


def test_a_sample_of_a_sample_keeps_its_images():
    source = open_source("digits", limit=50, seed=1)
    assert dict(source.sampling) == {"limit": 50, "seed": 1, "of": 360}
    again = source.sample(5, 0)
    names = {source.name(index): index for index in range(50)}
    for index in range(5):
        assert np.array_equal(again.read(index), source.read(names[again.name(index)]))
        assert again.truth(index) == source.truth(names[again.name(index)])
