"""Loading in other processes: batches of a dataset, and errors of a process that comes out as one line."""

import signal
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from atmviz.errors import DatasetError


def open_loader(dataset: Dataset, workers: int, **options: Any) -> DataLoader:
    """A DataLoader whose processes leave stop signals to the main one; it draws no number from torch's generator."""
    # OpenCV's threads are lost in a forked process, which would wait for them forever: none from here on.
    cv2.setNumThreads(0)
    generator = torch.Generator()
    return DataLoader(dataset, num_workers=workers, worker_init_fn=_ignore_signals, generator=generator, **options)


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and schedulers signal all processes of a run; the main one saves, and ends these."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def read_batches(loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches; an error in one of its processes comes out as one line, without its traceback."""
    try:
        yield from loader
    except DatasetError as error:
        raise DatasetError(str(error).split("\natmviz.errors.DatasetError: ", 1)[-1].strip()) from None
