"""Datasets that timm's readers open (hfds/NAME, torch/NAME), as sources."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data import create_dataset

from atmviz.data.names import require_reader
from atmviz.errors import DatasetError, summarize
from atmviz.sources.decoding import decode_image, read_file
from atmviz.sources.source import Split, Truth


class ReaderImages:
    """Images and labels of a timm or torchvision dataset.

    An image that cannot be read is an error, where timm would take the next one.
    """

    note = ""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._last: tuple[int, np.ndarray, int] | None = None  # `read` and `truth` of one image open it once

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> np.ndarray:
        """Return an image, RGB, uint8, [H, W, 3], as it lies in its file."""
        return self._item(index)[1]

    def truth(self, index: int) -> Truth:
        """Return the class of an image."""
        return Truth(label=self._item(index)[2])

    def _item(self, index: int) -> tuple[int, np.ndarray, int]:
        if self._last is None or self._last[0] != index:
            self._last = index, *self._open(index)
        return self._last

    def _open(self, index: int) -> tuple[np.ndarray, int]:
        reader = getattr(self.dataset, "reader", None)
        if reader is None:  # torchvision's
            image, label = self.dataset[index]
            return np.asarray(image.convert("RGB")), label
        try:
            file, label = reader[index][:2]
            with file:
                data = file.read()
        except Exception as error:  # readers raise errors of many classes
            raise DatasetError(f"cannot read image {index} ({summarize(error)}): load the dataset again") from None
        return decode_image(data, reader.filename(index, absolute=True) or str(index), upright=False), label


def open_reader(name: str, data_dir: str | Path | None, split: Split) -> tuple[ReaderImages, list[str]]:
    """Open a dataset by timm's name for it, "hfds/..." or "torch/...".

    Returns:
        The images, and the names of the classes.

    Raises:
        SettingsError: no such dataset, or one that only streams.
        DatasetError: it does not name its classes, or its package is missing.
    """
    require_reader(name, "classify")
    root = str(data_dir) if data_dir else None
    try:
        dataset = create_dataset(name, root=root, split="train" if split == "train" else "validation")
    except Exception as error:  # readers raise errors of many classes
        raise DatasetError(
            f"cannot open {name} {root or ''} ({summarize(error)}): check the name and the folder"
        ) from None
    if hasattr(dataset, "loader"):  # torchvision's, which opens whatever Pillow knows
        dataset.loader = _open_image
    names = getattr(dataset, "classes", None) or _reader_classes(getattr(dataset, "reader", None))
    if not names:
        raise DatasetError(f"{name} does not name its classes, expected a dataset whose labels have names")
    return ReaderImages(dataset), names


def _open_image(path: str) -> Image.Image:
    return Image.fromarray(decode_image(read_file(Path(path)), path, upright=False))


def _reader_classes(reader: Any) -> list[str]:
    names = getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None)
    if names:
        return [str(name) for name in sorted(names, key=names.get)]
    features = getattr(getattr(reader, "dataset", None), "features", {})
    return list(getattr(features.get(getattr(reader, "label_key", "label")), "names", None) or [])
