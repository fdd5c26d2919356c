"""A recipe small enough for tests: digits at 32 px, a few updates."""

import pytest

from atmviz.events import Events
from atmviz.training.recipe import Recipe

SMALL = {
    "dataset": "digits",
    "image_size": 32,
    "crop_pct": 1.0,
    "train_images": 48,
    "val_images": 24,
    "init": "fan_in",
    "epochs": 2,
    "batch_size": 16,
    "workers": 0,
}


SMALL_DENSE = {
    "dataset": "shapes",
    "image_size": 64,
    "train_images": 24,
    "val_images": 6,
    "dim": 16,
    "finetune": "atmnet_nano.shapes",
    "epochs": 2,
    "batch_size": 8,
    "workers": 0,
}


@pytest.fixture(scope="session")
def small_dense():
    """Makes a small recipe for a head with changes."""

    def make(head, **changes):
        samples = {"box_samples": 16} if head in ("mask_rcnn", "cascade_mask_rcnn") else {}
        return Recipe(**{**SMALL_DENSE, "head": head, **samples, **changes})

    return make


@pytest.fixture(scope="session")
def small():
    """Makes the small recipe with changes."""
    return lambda **changes: Recipe(**{**SMALL, **changes})


class Notes(Events):
    """Keeps what it is told."""

    def __init__(self):
        self.messages, self.seen, self.updates, self.rows, self.healths = [], [], [], [], []

    def message(self, text):
        self.messages.append(text)

    def images(self, done, total):
        self.seen.append((done, total))

    def update(self, progress):
        self.updates.append(progress)

    def epoch(self, row, health):
        self.rows.append(row)
        self.healths.append(health)


@pytest.fixture(scope="session")
def notes_class():
    """The class of an Events object that keeps what it receives."""
    return Notes
