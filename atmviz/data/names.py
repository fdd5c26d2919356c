"""Datasets to train and evaluate on, by name: whether there is one. Torch-free."""

import importlib.util
from pathlib import Path

from atmviz.architecture import Task
from atmviz.errors import DatasetError
from atmviz.sources.datasets import DATASETS, PUBLIC_DATASETS, READER_PACKAGES, require_dataset
from atmviz.sources.source import Split


def require_labeled(name: str, data_dir: str | Path | None = None, *splits: Split) -> None:
    """Check that a dataset has a known name, and that the folders of its splits are there.

    Raises:
        SettingsError: no such dataset.
        DatasetError: its files are missing.
    """
    if name not in (*DATASETS, "folder"):
        require_reader(name)
    from atmviz.sources.opening import find_split, require_source  # which load OpenCV

    for split in splits:
        if name in ("imagenet", "folder"):
            find_split(name, data_dir, split)
        elif name in PUBLIC_DATASETS:
            require_source(name, data_dir, split)


def require_reader(name: str, task: Task | None = None) -> None:
    """Raise SettingsError for a name of no timm reader, DatasetError for a reader whose package is not installed."""
    require_dataset(name, task)
    package = READER_PACKAGES[name.split("/")[0]]
    if importlib.util.find_spec(package) is None:
        raise DatasetError(f"got {name}, which {package} reads, which is not installed: pip install {package}")
