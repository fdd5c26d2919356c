"""Shapes: drawn scenes as a source. Every scene follows from (seed, split, index) alone. Torch-free."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from atmviz.errors import DatasetError
from atmviz.geometry import MAX_SIZE_PX, MIN_SIZE_PX
from atmviz.sources.datasets import DATASETS
from atmviz.sources.scenes import Scene, draw_scene
from atmviz.sources.source import SPLITS, Object, Split, Truth


class Shapes:
    """A sequence of `Scene`s, a `Source`.

    Args:
        size: Side of the square image, px.
        length: Number of scenes, by default a million for training and 10,000 for validation; the first ones do not
            depend on it.
        split: "train" and "val" share no scene.
        seed: Seed of the whole dataset.

    Raises:
        DatasetError: an image too small or too large, an unknown split, or no scenes.
    """

    title, root, note = "shapes", "", ""

    def __init__(self, size: int = 128, length: int | None = None, split: Split = "train", seed: int = 0) -> None:
        if length is None:
            length = DATASETS["shapes"].images.get(split, 1)
        if not MIN_SIZE_PX <= size <= MAX_SIZE_PX or length < 1 or split not in SPLITS or seed < 0:
            raise DatasetError(
                f"got shapes of {size} px, {length} scenes, split {split!r}, seed {seed}; "
                f"expected {MIN_SIZE_PX} to {MAX_SIZE_PX} px, 1 scene or more, one of "
                f"{', '.join(SPLITS)}, seed 0 or more"
            )
        self.size, self.length, self.split, self.seed = size, length, split, seed
        self._last: tuple[int, Scene] | None = None  # `read` and `truth` of one image draw it once

    @property
    def sampling(self) -> Mapping[str, int]:
        """What decides the scenes beside their names."""
        return {"size": self.size, "seed": self.seed}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.length:
            raise IndexError(index)
        if self._last is None or self._last[0] != index:
            self._last = index, draw_scene(self.size, (self.seed, SPLITS.index(self.split), index))
        return self._last[1]

    def name(self, index: int) -> str:
        """Return "shapes/val/000012"."""
        return f"shapes/{self.split}/{index:06d}"

    def read(self, index: int) -> np.ndarray:
        """Return a scene's image, RGB, uint8, [H, W, 3]."""
        return self[index].image

    def truth(self, index: int) -> Truth:
        """Return class, pixel classes (0 background, 1 + object class) and visible objects of a scene."""
        scene = self[index]
        instances = scene.instance_map
        if len(scene.visible) < len(scene.objects):  # number the visible ones
            table = np.zeros(256, np.uint8)
            table[np.add(scene.visible, 1)] = np.arange(1, len(scene.visible) + 1)
            instances = cv2.LUT(instances, table)
        return Truth(scene.label, scene.semantic_mask, instances, _VisibleObjects(scene))

    def require_truth(self) -> str:
        """Return "": everything is known of drawn scenes."""
        return ""

    def fingerprint(self, index: int) -> str:
        """Return what a scene follows from."""
        return f"{self.size} px, seed {self.seed}"

    def sample(self, limit: int, seed: int) -> "Shapes":
        """Return the first `limit` scenes, whatever the seed: scenes are as random as a sample of them."""
        return self if limit >= len(self) else Shapes(self.size, limit, self.split, self.seed)


class _VisibleObjects(Sequence[Object]):
    """The visible objects of a scene, measured when first used: classification and segmentation need none."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @cached_property
    def _objects(self) -> list[Object]:
        scene = self._scene
        side = len(scene.image)
        return [
            Object(thing.label, tuple(box), thing.scale * side, float(thing.elongation), thing.angle)
            for thing, box in zip((scene.objects[k] for k in scene.visible), scene.boxes.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self._scene.visible)

    def __getitem__(self, index: Any) -> Any:
        return self._objects[index]
