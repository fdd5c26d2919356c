"""Batches of a recording: images read and moved to the device, results moved back and joined to chunks.

Legend: B batch.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from atmviz.data.fitting import fit_image
from atmviz.data.loader import open_loader, read_batches
from atmviz.errors import AtmvizError, DatasetError
from atmviz.geometry import Preprocessing
from atmviz.processes import available_cores
from atmviz.recording.layout import CHUNK_IMAGES, RECORDED, SKIPPED, StoredArray
from atmviz.recording.writer import RecordingWriter
from atmviz.sources import Source


class Batch(NamedTuple):
    """Images read for the network.

    Attributes:
        indices: Indices of the images.
        pixels: Images that could be read, [B, H, W, 3], uint8; None without any.
        errors: Why the others could not be read, by index.
    """

    indices: Sequence[int]
    pixels: Tensor | None
    errors: dict[int, str]


class StageTimer:
    """Measures where the time of a loop goes."""

    def __init__(self) -> None:
        self.seconds = {"input": 0.0, "network": 0.0, "output": 0.0}
        self._start = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._start

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def waiting(self, stage: str, items: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the items, and add the time they take to come to a stage."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def load_batches(
    images: Source,
    preprocessing: Preprocessing,
    batches: Sequence[Sequence[int]],
    workers: int | None,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield batches of images fitted to the network, their pixels on its device.

    Args:
        images: The source.
        preprocessing: How images are fitted.
        batches: Indices of the images of each batch.
        workers: Processes that decode; chosen from the number of batches and cores for None.
        device: A GPU copies the pixels of the next batch while it computes.
    """
    if workers is None:
        workers = min(8, available_cores()) if len(batches) > 8 else 0
    workers = min(workers, len(batches))
    inputs, on_gpu = _Inputs(images, preprocessing), device.type == "cuda"
    loader = open_loader(inputs, workers, _collate, batch_sampler=batches, pin_memory=on_gpu)
    loaded = (Batch(indices, *read) for indices, read in zip(batches, read_batches(loader), strict=True))
    if on_gpu:
        return _copy_ahead(loaded, device)
    return (batch._replace(pixels=None if batch.pixels is None else batch.pixels.to(device)) for batch in loaded)


class _Inputs(Dataset):
    """Network inputs by image index; the reason instead for an image that cannot be read."""

    def __init__(self, images: Source, preprocessing: Preprocessing) -> None:
        self.images = images
        self.preprocessing = preprocessing

    def __getitem__(self, index: int) -> tuple[int, np.ndarray | str]:
        try:
            return index, fit_image(self.images.read(index), self.preprocessing)[0]
        except DatasetError as error:
            return index, str(error)


def _collate(items: list[tuple[int, np.ndarray | str]]) -> tuple[Tensor | None, dict[int, str]]:
    pixels = [torch.from_numpy(item) for _, item in items if not isinstance(item, str)]
    return torch.stack(pixels) if pixels else None, {i: item for i, item in items if isinstance(item, str)}


def _copy_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches whose pixels were copied to a GPU while it computed the batch before."""
    stream, compute = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = None if batch.pixels is None else batch.pixels.to(device, non_blocking=True)
        if waiting:
            yield waiting
        compute.wait_stream(stream)
        if copied is not None:
            copied.record_stream(compute)  # its memory is not given to the next copy before it was read
        waiting = batch._replace(pixels=copied)
    if waiting:
        yield waiting


class _Pending(NamedTuple):
    """A batch on its way to the host; the event says when it is there."""

    indices: Sequence[int]
    status: np.ndarray
    tensors: Mapping[str, Tensor]
    event: torch.cuda.Event | None


class ChunkBuffer:
    """Joins batches to chunks of images, and writes each chunk when it is finished.

    A batch is awaited when the next one is added: the device computes meanwhile.
    """

    def __init__(self, writer: RecordingWriter, images: int, timer: StageTimer) -> None:
        self.writer, self.images, self.timer = writer, images, timer
        self._pending: _Pending | None = None
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, batch: Batch, tensors: Mapping[str, Tensor]) -> int:
        """Take a batch; return the number of images of the batch before, which has arrived meanwhile.

        Args:
            batch: The batch; its pixels are not kept.
            tensors: By name of the array: rows of the readable images, or the sum over them for arrays per chunk; empty
                where no image could be read.
        """
        status = np.where([index in batch.errors for index in batch.indices], SKIPPED, RECORDED).astype(np.uint8)
        moved = {name: tensor.to("cpu", non_blocking=tensor.is_cuda) for name, tensor in tensors.items()}
        event = None
        if gpus := [tensor.device for tensor in tensors.values() if tensor.is_cuda]:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(gpus[0]))
        arrived = self.flush()
        self._pending = _Pending(batch.indices, status, moved, event)
        return arrived

    def flush(self) -> int:
        """Wait for the batch that is still on its way, and return its number of images, 0 where there is none."""
        if self._pending is None:
            return 0
        (indices, status, tensors, event), self._pending = self._pending, None
        with self.timer.measure("network"):
            if event:
                event.synchronize()
            self._parts.append(self._rows(status, tensors))
        if indices[-1] + 1 == self.images or (indices[-1] + 1) % CHUNK_IMAGES == 0:
            with self.timer.measure("output"):
                self.writer.write_chunk(indices[-1] // CHUNK_IMAGES, self._join())
        return len(indices)

    def _rows(self, status: np.ndarray, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Return rows of every array but "done"; those of unreadable images keep the fill value."""
        rows = {"status": status}
        for name, array in self.writer.arrays.items():
            if name in ("status", "done"):
                continue
            length, fill = (len(status), array.fill) if array.per_image else (1, 0)
            rows[name] = np.full((length, *array.shape[1:]), fill, array.dtype)
            if name in tensors:
                filled = status == RECORDED if array.per_image else 0
                values = tensors[name].float() if tensors[name].dtype == torch.bfloat16 else tensors[name]
                rows[name][filled] = _stored(values.numpy(), name, array)
                if not np.isfinite(rows[name][filled]).all():
                    raise AtmvizError(f"{name} holds NaN or infinite values: check the checkpoint and the images")
        return rows

    def _join(self) -> dict[str, np.ndarray]:
        """Join the batches of one chunk: rows of images one after the other, rows of chunks added."""
        parts, self._parts = self._parts, []
        return {
            name: np.concatenate([part[name] for part in parts])
            if self.writer.arrays[name].per_image
            else _stored(np.sum([part[name] for part in parts], axis=0), name, self.writer.arrays[name])
            for name in parts[0]
        }


def _stored(values: np.ndarray, name: str, array: StoredArray) -> np.ndarray:
    """Return values in the type of their array; AtmvizError for whole numbers that it cannot hold."""
    stored = values.astype(array.dtype, copy=False)
    if stored.dtype.kind != "f" and (stored != values).any():
        raise AtmvizError(f"{name} holds up to {values.max()}, more than {array.dtype} can: declare a larger type")
    return stored
