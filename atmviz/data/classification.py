"""Labeled images for classification: class folders, timm's readers, digits, shapes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from atmviz.data.augmentation import (
    Augmentation,
    BytesToInput,
    Transform,
    eval_transform,
    split_at_bytes,
    train_transform,
)
from atmviz.data.readers import ReaderImages, open_reader
from atmviz.errors import DatasetError, join_limited
from atmviz.sources.class_folders import ClassFolders, open_class_folders
from atmviz.sources.datasets import DATASETS, class_names
from atmviz.sources.digits import Digits
from atmviz.sources.opening import find_split
from atmviz.sources.shapes import Shapes
from atmviz.sources.source import Source, Split


class LabeledImages(Dataset):
    """Images [3, size, size], normalized, with their class; with the label of every pixel where the source knows it.

    Attributes:
        classes: Names, by label.
        outputs: Index, for each label, among the outputs of a network that knows more classes; None for one output per
            class.
        notes: Lines for people: what was left out, and in which order classes are numbered where there are two.
    """

    def __init__(
        self, source: Source | ReaderImages, classes: Sequence[str], transform: Transform, order: str = ""
    ) -> None:
        self.source, self.classes, self.transform = source, tuple(classes), transform
        self._labels: Sequence[int] = range(len(self.classes))  # new ones, by the source's
        self._order = order
        self.outputs: list[int] | None = None

    @property
    def notes(self) -> list[str]:
        """Lines for people."""
        order = f"classes are numbered {self._order}: {join_limited(self.classes, 5)}"
        is_unusual = self._order and list(self.classes) != sorted(self.classes, key=_natural)
        return [*filter(None, [self.source.note]), *([order] if is_unusual else [])]

    def number_as(self, classes: Sequence[str]) -> None:
        """Number the classes in the order in which a checkpoint names them, if those are the same ones."""
        if self.classes != tuple(classes) and sorted(self.classes) == sorted(classes):
            self._labels = [classes.index(self.classes[label]) for label in self._labels]
            self.classes, self._order = tuple(classes), "as the checkpoint names them"

    def choose_outputs(self, learned: Sequence[str]) -> str:
        """Match ImageNet's classes, or a part of them, by synset with a network of all 1,000; no other classes.

        Args:
            learned: The classes of the network, by output: ImageNet's synsets in any order.

        Returns:
            A line for people where the dataset has a part of the classes, else "".

        Raises:
            DatasetError: some names are synsets of ImageNet-1K and others are not.
        """
        output_of = {name: output for output, name in enumerate(learned)}
        unknown = [name for name in self.classes if name not in output_of]
        if len(unknown) == len(self.classes) or self.classes == tuple(learned):
            return ""
        if unknown:
            named = join_limited(unknown, 5)
            raise DatasetError(
                f"{len(unknown)} of {len(self.classes)} classes are none of ImageNet-1K's ({named}): "
                "name each class folder by its synset, e.g. n01440764, or take it out"
            )
        self.outputs = [output_of[name] for name in self.classes]
        if len(self.classes) == len(learned):
            return ""
        return f"{len(self.classes)} of {len(learned)} classes are evaluated: outputs for the others are left out"

    def leave_as_bytes(self) -> BytesToInput:
        """Give images as bytes from now on, [3, size, size], uint8; return what turns batches of them into input."""
        self.transform, rest = split_at_bytes(self.transform)
        return rest

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, truth = Image.fromarray(self.source.read(index)), self.source.truth(index)
        assert truth is not None
        assert truth.label is not None
        item = {"image": self.transform(image), "label": self._labels[truth.label]}
        return item if truth.segments is None else {**item, "mask": torch.from_numpy(truth.segments)}


def open_labeled(
    name: str,
    split: Split,
    size: int,
    *,
    data_dir: str | Path | None = None,
    crop_pct: float = 0.875,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> LabeledImages:
    """Open a dataset for training (with an augmentation) or evaluation (the released transform: resize, center crop).

    Args:
        name: "shapes", "digits", "imagenet", "folder" (any folder of class folders) or a timm reader ("hfds/...").
        split: "train" or "val" (folders may also be called "validation" and "test").
        size: Side of the input, px.
        data_dir: Folder that holds the splits; `$ATMVIZ_DATA`, else `./data`, without it.
        crop_pct: Fraction of the sides that evaluation keeps of the resized image.
        augmentation: How training images vary; None for evaluation.
        seed: Seed of the scenes of shapes.

    Raises:
        SettingsError: no such dataset.
        DatasetError: no such split, an empty class, or (when read) an unreadable image.
    """
    transform = eval_transform(size, crop_pct) if augmentation is None else train_transform(size, augmentation)
    if name in ("shapes", "digits"):
        drawn = Shapes(size, split=split, seed=seed) if name == "shapes" else Digits(split)
        return LabeledImages(drawn, class_names(name, "classify"), transform)
    if name in ("imagenet", "folder"):
        num_classes = DATASETS[name].num_classes if name in DATASETS else None
        images = open_class_folders(find_split(name, data_dir, split), num_classes)
        assert isinstance(images.labels, ClassFolders)
        return LabeledImages(images, images.labels.classes, transform, "as text, as torchvision does")
    return LabeledImages(*open_reader(name, data_dir, split), transform)


def require_same_classes(train: LabeledImages, val: LabeledImages) -> None:
    """Raise DatasetError if the two splits do not have the same classes, two or more."""
    if train.classes == val.classes:
        if len(train.classes) < 2:
            raise DatasetError(f"got the one class {train.classes[0]!r}, expected two or more to tell apart: add some")
        return
    only_train, only_val = sorted({*train.classes} - {*val.classes}), sorted({*val.classes} - {*train.classes})
    if sorted(train.classes) == sorted(val.classes):  # COCO numbers them by its ids
        first = next((a, b) for a, b in zip(train.classes, val.classes, strict=True) if a != b)
        raise DatasetError(
            f"train and val number the same classes in another order, from {first[0]!r} and {first[1]!r} on: "
            "give them the same ids"
        )
    raise DatasetError(
        f"train has {len(train.classes)} classes and val {len(val.classes)}, expected the same; "
        f"only in train: {join_limited(only_train, 5) or 'none'}; only in val: {join_limited(only_val, 5) or 'none'}"
    )


def _natural(name: str) -> list[Any]:
    """Return a key that sorts numbers within names by their value, of however many digits."""
    parts = [part.lstrip("0") if k % 2 else part for k, part in enumerate(re.split("([0-9]+)", name))]
    return [(len(part) if k % 2 else -1, part) for k, part in enumerate(parts)]
