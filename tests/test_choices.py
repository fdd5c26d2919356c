"""Which network and which images: what the shared settings mean."""

from typing import get_args

from atmviz.choices import DataChoice, DatasetName
from atmviz.sources import DATASETS


def test_every_dataset_can_be_named():
    assert set(get_args(DatasetName)) == set(DATASETS)


def test_an_opened_source_may_be_sampled():
    photos = DataChoice().open()
    assert len(photos) > 2
    sampled = DataChoice(limit=2, seed=1).open(photos)
    assert len(sampled) == 2
    assert DataChoice(limit=2, seed=1).open().names == sampled.names
