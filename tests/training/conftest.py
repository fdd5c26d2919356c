"""A recipe small enough for tests: digits at 32 px, a few updates."""

import pytest

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


@pytest.fixture(scope="session")
def small():
    """Makes the small recipe with changes."""
    return lambda **changes: Recipe(**{**SMALL, **changes})
