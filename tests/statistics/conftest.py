"""Recordings whose offsets and objects were chosen, with everything that the dense oracle sums up."""

from types import SimpleNamespace

import dense_oracle
import numpy as np
import pytest

from atmviz.recording.sites import RecordedSite

GRID, STRIDE = (12, 16), 4


class Planted:
    """What statistics use of a recording: offsets [N, H, W, 2, O] by layer, masks [N, H, W] in px, objects by image."""

    path = "planted"

    def __init__(self, offsets, masks, things, seed=0):
        self.attrs = {"dataset": "planted", "image_root": "", "sampling": {"seed": seed}}
        images = len(masks)
        self.images = [f"{k:03d}" for k in range(images)]
        self.sites, self.arrays = [], {}
        numbers, tables = zip(*map(dense_oracle.object_rows, masks, things), strict=True)
        self.arrays["objects", None] = np.stack(tables)
        for name, field in offsets.items():
            grid, channels = field.shape[1:3], 4 * field.shape[-1]
            site = RecordedSite(
                *(name, name, name, "axis", channels, field.shape[-1], 4, (STRIDE, STRIDE), ("width",)),
                grid=grid,
                query=(0, 0),
            )
            self.sites.append(site)
            labels = np.stack([dense_oracle.token_labels(mask, (STRIDE, STRIDE), grid) for mask in masks])
            arrays = dense_oracle.moment_arrays(field, 16 * 16) | dense_oracle.label_arrays(field, labels)
            arrays |= dense_oracle.object_arrays(field, labels, numbers)
            self.arrays |= {(quantity, name): values for quantity, values in arrays.items()}
        self.quantities = dict.fromkeys(quantity for quantity, _ in self.arrays)

    def __len__(self):
        return len(self.images)

    def site(self, layer):
        return next(site for site in self.sites if site.name == layer)

    def read(self, quantity, layer=None):
        return self.arrays[quantity, layer]

    def mean_abs_offset(self, layer):
        return self.arrays["mean_abs_offset", layer]


@pytest.fixture(scope="session")
def planted():
    """`planted({"1_1": offsets, ...}, masks, things)` makes a recording; see `Planted`."""
    return Planted


@pytest.fixture(scope="session")
def scenes():
    """Thirty scenes: masks in px, objects by image, token labels, and of each token the step to its object's center."""
    draw = np.random.default_rng(1)
    height, width = (STRIDE * size for size in GRID)
    masks, things, labels, to_center = [], [], [], []
    for _ in range(30):
        mask, known = np.zeros((height, width), int), {}
        for number in (1, 2, 3):
            top, left = draw.integers(0, height - 8), draw.integers(0, width - 8)
            sides = draw.integers(8, 36), draw.integers(8, 44)
            mask[top : top + sides[0], left : left + sides[1]] = number
            known[number] = number, float(max(sides)), None, None
        masks.append(mask)
        things.append(known)
        labels.append(dense_oracle.token_labels(mask, (STRIDE, STRIDE), GRID))
        steps = np.zeros((*GRID, 2, 1))
        for number in (1, 2, 3):
            i, j = np.nonzero(labels[-1] == number)
            if len(i):
                steps[i, j, :, 0] = np.stack([j.mean() - j, i.mean() - i], 1)
        to_center.append(steps)
    return SimpleNamespace(masks=masks, things=things, labels=np.stack(labels), to_center=np.stack(to_center))
