"""Opens images: a dataset by its name, or files, folders and globs. Torch-free."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from atmviz.errors import DatasetError
from atmviz.sources.ade20k import Ade20kMasks
from atmviz.sources.class_folders import ClassFolders
from atmviz.sources.coco import CocoInstances
from atmviz.sources.datasets import DATASETS, PUBLIC_DATASETS, preprocessing_for
from atmviz.sources.digits import Digits
from atmviz.sources.files import (
    ImageFiles,
    Labels,
    bundled_photos,
    called,
    find_images,
    require_images,
    require_readable,
)
from atmviz.sources.listing import holds_images, list_images
from atmviz.sources.shapes import Shapes
from atmviz.sources.source import Source, Split

_SYNSET = re.compile(r"n\d{8}")  # WordNet's name of a class of ImageNet


def open_source(
    dataset_or_paths: str | Path | Sequence[str | Path] | None = None,
    *,
    data_dir: str | Path | None = None,
    split: Split = "val",
    limit: int | None = None,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    upright: bool = True,
) -> Source:
    """Open a dataset by its name, or image files, folders and globs.

    Args:
        dataset_or_paths: A name in `DATASETS`; or a path, or several; the bundled photographs without it. A folder
            called like a dataset is named with a slash: "./coco".
        data_dir: Folder of the dataset or one above it; `$ATMVIZ_DATA`, else `./data`, without it.
        split: "train" or "val".
        limit: Number of images: a random sample in the order of the whole, of drawn scenes the first ones.
        seed: Seed of the sample; of drawn scenes, of the scenes.
        size: Input size of the network, px (one side, or height and width), at which scenes are drawn; the dataset's
            input size by default. Images in files keep their size.
        upright: Whether images in files are rotated as EXIF asks; False keeps pixels and annotations as they lie in
            the files, as dense networks are trained.

    Raises:
        DatasetError: no such dataset, path or image.
    """
    name = dataset_or_paths if isinstance(dataset_or_paths, str) else ""
    if name in DATASETS and split not in DATASETS[name].images:
        raise DatasetError(f"got split {split!r} of {name}, expected train or val")
    source: Source
    if dataset_or_paths is None:
        source = bundled_photos()
    elif name == "shapes":
        source = Shapes(_square_side(size), split=split, seed=seed)
    elif name == "digits":
        fitted = preprocessing_for(name, (size, size) if isinstance(size, int) else size)
        source = Digits(split, fitted.place(8, 8).resized)
    elif name in DATASETS:
        source = replace(find_dataset(name, data_dir, split), upright=upright)
    else:
        source = replace(find_images(dataset_or_paths), upright=upright)
    return source.sample(limit, seed) if limit else source


def require_source(
    dataset_or_paths: str | Sequence[str | Path] | None, data_dir: str | Path | None = None, split: Split = "val"
) -> None:
    """Raise DatasetError as `open_source` does for files that are missing, but list no folder further than needed."""
    if isinstance(dataset_or_paths, str):
        if dataset_or_paths in PUBLIC_DATASETS and not any(
            map(holds_images, _folders(dataset_or_paths, data_dir, split))
        ):
            find_dataset(dataset_or_paths, data_dir, split)
    elif dataset_or_paths:
        require_images(dataset_or_paths)


def _folders(name: str, data_dir: str | Path | None, split: Split) -> Iterator[Path]:
    """Yield the folders, of those that there are, in which the images of a public dataset may lie."""
    for root in DATASETS[name].roots:
        if os.path.isdir(folder := called(data_folder(data_dir) / root / DATASETS[name].folders[split])):
            yield folder


def _square_side(size: int | tuple[int, int] | None) -> int:
    height, width = (size, size) if isinstance(size, int) else size or DATASETS["shapes"].input_size
    if height != width:
        raise DatasetError(f"got an input of {height}x{width} px for shapes, expected a square one: scenes are square")
    return height


def find_dataset(name: str, data_dir: str | Path | None = None, split: Split = "val") -> ImageFiles:
    """Return the images of a public dataset in its published folder layout, with what its annotations say.

    Args:
        name: "ade20k", "coco" or "imagenet".
        data_dir: The dataset's folder or one above it; `$ATMVIZ_DATA`, else `./data`, without it.
        split: "train" or "val".

    Raises:
        DatasetError: no such folder; the message shows the tree that was expected.
    """
    if name not in PUBLIC_DATASETS or split not in DATASETS[name].folders:
        raise DatasetError(f"no dataset {name} {split}: expected val or train of {', '.join(PUBLIC_DATASETS)}")
    dataset = DATASETS[name]
    base = data_folder(data_dir)
    for folder in _folders(name, data_dir, split):
        if (listing := list_images(folder)).names:
            labels: Labels
            if name == "imagenet":
                labels = ClassFolders(listing.names, dataset.num_classes)
            else:
                labels = Ade20kMasks(folder) if name == "ade20k" else CocoInstances(folder)
            return ImageFiles(name, folder, *listing, labels=labels)
    require_readable(base)
    raise DatasetError(
        f"no {name} {split} images in {base}: expected {dataset.layout}; choose another data folder, or set "
        "$ATMVIZ_DATA to it"
    )


def find_split(name: str, data_dir: str | Path | None, split: Split) -> Path:
    """Return where a split of "imagenet" or "folder" lies: a folder of class folders, or a tar file of them.

    Folders of synsets without splits are validation images.
    """
    base = data_folder(data_dir)
    names = ("train", "training") if split == "train" else ("val", "validation", "valid", "test")
    roots = DATASETS[name].roots if name in DATASETS else ("",)
    for path in (base / root / folder for root in roots for folder in names):
        if os.path.isdir(path):
            return path
        if os.path.isfile(tar := path.with_suffix(".tar")):
            return tar
    require_readable(base)
    if split == "val" and base.is_dir() and any(map(_SYNSET.fullmatch, os.listdir(base))):  # ImageNet-A and -R
        return base
    raise DatasetError(
        f"no {split} folder in {base}: expected {base}/{{train,val}}/<class>/*.jpg; choose another data folder"
    )


def data_folder(data_dir: str | Path | None) -> Path:
    """Return the folder of datasets: the one that was named, else `$ATMVIZ_DATA`, else `./data`."""
    return Path(data_dir or os.environ.get("ATMVIZ_DATA") or "data")
