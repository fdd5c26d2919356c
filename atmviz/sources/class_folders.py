"""Images in one folder per class, whose names are the labels: ImageNet, and any such folder or tar file. Torch-free."""

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from atmviz.errors import DatasetError, join_limited
from atmviz.sources.files import ImageFiles
from atmviz.sources.listing import UNREADABLE, is_hidden_folder, list_images
from atmviz.sources.source import Truth
from atmviz.sources.tar import TarImages


class ClassFolders:
    """Labels from the first folder of each image's name; classes are numbered in the order of their names as text.

    Args:
        names: All images of the split, so that a sample of them keeps the numbers.
        num_classes: Number of classes that there must be; any number by default.
    """

    def __init__(self, names: Sequence[str], num_classes: int | None = None) -> None:
        self.names, self.num_classes = names, num_classes

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        return tuple(sorted({name.split("/", 1)[0] for name in self.names if "/" in name}))

    def truth(self, images: ImageFiles, index: int) -> Truth | None:
        """Return the class of an image; None for one outside class folders."""
        folder, _, below = images.names[index].partition("/")
        if not below:
            return None
        self._require_count(images.root)
        return Truth(label=bisect_left(self.classes, folder))

    def require(self, images: ImageFiles) -> str:
        """Raise DatasetError where images lie outside class folders or classes are missing."""
        if any("/" not in name for name in images.names):
            raise DatasetError(
                f"images lie in {images.root} itself, expected one folder per class in it: sort them into folders"
            )
        self._require_count(images.root)
        return ""

    def _require_count(self, root: str) -> None:
        if self.num_classes not in (None, len(self.classes)):
            raise DatasetError(
                f"got {len(self.classes)} classes in {root}, expected ImageNet's {self.num_classes}: complete it, or "
                "take the folder as a dataset of its own classes (folder)"
            )


def open_class_folders(path: Path, num_classes: int | None = None) -> ImageFiles:
    """Open a folder of class folders, or a tar file of them, for training and evaluation.

    Pixels stay as they lie in the file, whatever EXIF says, as torchvision's ImageFolder leaves them. Images of any
    size are taken.

    Raises:
        DatasetError: images outside a class folder, folders within class folders, a class without images or permission,
            or another number of classes.
    """
    is_folder = path.is_dir()
    images = ImageFiles(str(path), path, *list_images(path)) if is_folder else TarImages.open(path)
    if UNREADABLE in images.left_out:
        raise DatasetError(f"cannot read all of {path} ({images.note}): allow it, or take it out")
    labels = ClassFolders(images.names, num_classes)
    folders = {os.path.dirname(name) for name in images.names}
    if "" in folders:
        labels.require(images)
    if deeper := sorted(folder for folder in folders if "/" in folder):
        raise DatasetError(
            f"images lie deeper than {path}/<class>/, in {len(deeper)} folders ({join_limited(deeper, 5)}): "
            "expected one folder per class, none within another"
        )
    entries = path.iterdir() if is_folder else ()
    classes = {entry.name for entry in entries if entry.is_dir() and not is_hidden_folder(entry.name)}
    if empty := sorted(classes - folders):
        raise DatasetError(
            f"no images in {len(empty)} class folders of {path} ({join_limited(empty, 5)}): fill or remove them"
        )
    if not folders:
        raise DatasetError(f"no images in {path}: expected {path}/<class>/*.jpg; {images.note}".rstrip("; "))
    labels.require(images)
    return replace(images, labels=labels, upright=False, min_side_px=1)
