"""Keyed sampling: what is drawn follows from its key, whatever was drawn before, wherever the epoch was entered."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from atmviz.data.keyed import Key, KeyedBatchSampler, KeyedDataset, seed_of, seeded
from atmviz.errors import RecipeError


class Dice:
    """Every item throws all three generators."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)


def epoch_of(sampler, epoch, first_update=0):
    sampler.start(epoch, first_update)
    return list(sampler)


def test_a_seed_follows_from_every_part_of_its_key():
    keys = [(0, 1, 2), (0, 2, 1), (0, 1, 2, 0), (1, 1, 2), ("0", 1, 2), (0, 12)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**63 for key in keys)


def test_seeded_leaves_the_generators_as_they_were():
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = torch.rand(3).tolist(), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    with seeded(1, 2):
        torch.rand(7), random.random(), np.random.rand(7)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_depends_on_its_key_alone(workers):
    sampler = KeyedBatchSampler(40, 8, seed=3)
    loader = DataLoader(
        KeyedDataset(Dice(), seed=3), batch_sampler=sampler, num_workers=workers, generator=torch.Generator()
    )
    sampler.start(1)
    whole = torch.cat(list(loader))
    torch.rand(100), random.random(), np.random.rand()
    sampler.start(1, first_update=2)
    rest = torch.cat(list(loader))
    assert torch.equal(whole[16:], rest)
    sampler.start(2)
    other = torch.cat(list(loader))
    assert not set(whole[:, 1].tolist()) & set(other[:, 1].tolist())


def test_an_epoch_has_every_image_once_in_another_order():
    sampler = KeyedBatchSampler(40, 8, seed=0)
    first, second = ([key.image for batch in epoch_of(sampler, epoch) for key in batch] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert first == [key.image for batch in epoch_of(KeyedBatchSampler(40, 8, seed=0), 0) for key in batch]
    assert first != [key.image for batch in epoch_of(KeyedBatchSampler(40, 8, seed=1), 0) for key in batch]


def test_images_that_fill_no_batch_are_left_out_and_fewer_may_be_asked_for():
    assert len(epoch_of(KeyedBatchSampler(43, 8, seed=0), 0)) == 5
    few = KeyedBatchSampler(1000, 8, seed=0, images=20)
    assert [len(batch) for batch in epoch_of(few, 0)] == [8, 8]
    assert {key.image for batch in epoch_of(few, 0) for key in batch} != {
        key.image for batch in epoch_of(few, 1) for key in batch
    }


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 4), (2, 2)])
@pytest.mark.parametrize("repeats", [1, 2])
def test_processes_and_passes_share_out_the_same_updates(world, accumulate, repeats):
    options = {"length": 48, "batch_size": 16, "seed": 0, "repeats": repeats}
    whole = epoch_of(KeyedBatchSampler(**options), 3)
    parts = [
        epoch_of(KeyedBatchSampler(**options, rank=rank, world=world, accumulate=accumulate), 3)
        for rank in range(world)
    ]
    for update, expected in enumerate(whole):
        own = slice(update * accumulate, (update + 1) * accumulate)
        got = [key for rank in parts for batch in rank[own] for key in batch]
        assert sorted(got) == sorted(expected)
    assert all(len(batch) == 16 // (world * accumulate) for rank in parts for batch in rank)


def test_repeated_augmentation_draws_copies_with_keys_of_their_own_on_neighboring_ranks():
    options = {"length": 512, "batch_size": 96, "seed": 0, "repeats": 3, "world": 3}
    ranks = [epoch_of(KeyedBatchSampler(**options, rank=rank), 0)[0] for rank in range(3)]
    for copies in zip(*ranks, strict=True):
        assert len({key.image for key in copies}) == 1
        assert sorted(key.repeat for key in copies) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 20, "batch_size": 32}, "got batch_size 32 for 20 images, expected 20 or fewer"),
        ({"length": 64, "batch_size": 32, "images": 16}, "for 16 images"),
        ({"length": 64, "batch_size": 32, "world": 3}, "32 for 3 processes with accumulate 1: it must divide evenly"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        KeyedBatchSampler(seed=0, **options)


def test_a_key_names_epoch_image_and_repeat():
    assert Key(1, 2) == (1, 2, 0)
