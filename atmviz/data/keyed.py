"""Deterministic sampling: every random draw has a key, so that a run can resume anywhere, on any number of processes.

The order follows from (seed, epoch), the augmentation of an image from (seed, epoch, image, repeat). Neither depends on
worker processes, ranks, or where a run was resumed.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import Dataset, Sampler

from atmviz.errors import RecipeError


class Key(NamedTuple):
    """Identifies a draw: epoch, image, and repetition of the image."""

    epoch: int
    image: int
    repeat: int = 0


def seed_of(*key: int | str) -> int:
    """Return a hash of 63 bits of a key."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest()) >> 1


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Seed `random`, numpy and torch (CPU) by a key within the block, and restore their states afterwards."""
    seed = seed_of(*key)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class KeyedDataset(Dataset):
    """A dataset whose items are indexed by `Key`, which also seeds their randomness."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Any:
        with seeded(self.seed, *key):
            return self.dataset[key.image]


class KeyedBatchSampler(Sampler[list[Key]]):
    """Yields the batches of one epoch for one process.

    Each update takes the next `batch_size` images of the epoch's order. Process `rank` of `world` gets every world-th
    of them, in `accumulate` batches. Images that do not fill the last update are left out of this epoch.

    Args:
        length: Images in the dataset.
        batch_size: Images per update, over all processes and passes.
        seed: Seed of the order.
        images: Images per epoch, drawn anew each epoch; all without it.
        repeats: Differently augmented copies of each image, on neighboring ranks (timm's `RepeatAugSampler`).
        rank: Number of this process.
        world: Number of processes.
        accumulate: Batches of each process per update.

    Raises:
        RecipeError: the data is smaller than a batch, or a batch cannot be divided evenly.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        *,
        images: int | None = None,
        repeats: int = 1,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed, self.repeats = length, batch_size, seed, repeats
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self.images = min(images or length, length)
        self.updates = self.images // batch_size
        if not self.updates:
            raise RecipeError(f"got batch_size {batch_size} for {self.images} images, expected {self.images} or fewer")
        if batch_size % (world * accumulate):
            raise RecipeError(
                f"got batch_size {batch_size} for {world} processes with accumulate {accumulate}: it must divide evenly"
            )
        self.epoch, self.first_update = 0, 0

    def start(self, epoch: int, first_update: int = 0) -> None:
        """Set the epoch of the next iteration, and the update that it starts with."""
        self.epoch, self.first_update = epoch, first_update

    def __len__(self) -> int:
        return (self.updates - self.first_update) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        keys = self._order()
        size = self.batch_size // (self.world * self.accumulate)
        for update in range(self.first_update, self.updates):
            batch = keys[update * self.batch_size : (update + 1) * self.batch_size]
            local = batch[self.rank :: self.world]
            for part in range(self.accumulate):
                yield local[part * size : (part + 1) * size]

    def _order(self) -> list[Key]:
        """Return the epoch's images for all processes; repetitions of an image follow each other."""
        sampler = RepeatAugSampler(range(self.length), 1, 0, num_repeats=self.repeats, selected_round=0)
        sampler.set_epoch(seed_of(self.seed, "order", self.epoch))
        indices = list(sampler)[: self.images]
        return [Key(self.epoch, index, position % self.repeats) for position, index in enumerate(indices)]
