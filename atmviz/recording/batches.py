"""Batches of a recording: images read and moved to the device, results moved back and joined to chunks.

Legend: B batch.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from atmviz.data.fitting import fit_image
from atmviz.data.loader import open_loader, read_batches
from atmviz.data.prefetch import on_device
from atmviz.errors import AtmvizError, DatasetError
from atmviz.geometry import Preprocessing
from atmviz.processes import available_cores
from atmviz.recording.labels import fit_labels
from atmviz.recording.layout import CHUNK_IMAGES, RECORDED, SKIPPED, StoredArray
from atmviz.recording.writer import RecordingWriter
from atmviz.sources import Source
from atmviz.sources.source import read_labeled


class Batch(NamedTuple):
    """Images read for the network.

    Attributes:
        indices: Indices of the images.
        pixels: Images that could be read, [B, H, W, 3], uint8; None without any.
        errors: Why the others could not be read, by index.
        instances: Object of each pixel, [B, H, W], int32; see `ImageLabels`. None where labels were not asked for.
        objects: [B, 64, fields], float64; or None.
        numbers: Indices of the images that could be read, [B], int64; None before the batch is on a device.
    """

    indices: Sequence[int]
    pixels: Tensor | None
    errors: dict[int, str]
    instances: Tensor | None = None
    objects: Tensor | None = None
    numbers: Tensor | None = None

    @property
    def readable(self) -> list[int]:
        """Indices of the images that could be read."""
        return [index for index in self.indices if index not in self.errors]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device."""
        numbers = torch.tensor(self.readable, pin_memory=device.type == "cuda")  # else the copy would wait for the GPU
        tensors = self.pixels, self.instances, self.objects, numbers
        pixels, instances, objects, here = (t if t is None else t.to(device, non_blocking=True) for t in tensors)
        return self._replace(pixels=pixels, instances=instances, objects=objects, numbers=here)


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
    labeled: bool = False,
) -> Iterator[Batch]:
    """Yield batches of images fitted to the network, their pixels on its device.

    Args:
        images: The source.
        preprocessing: How images are fitted.
        batches: Indices of the images of each batch.
        workers: Processes that decode; chosen from the number of batches and cores for None.
        device: A GPU copies the pixels of the next batch while it computes.
        labeled: Whether to read the objects of each image too.
    """
    if workers is None:
        workers = min(8, available_cores()) if len(batches) > 8 else 0
    workers = min(workers, len(batches))
    inputs, pinned = _Inputs(images, preprocessing, labeled), device.type == "cuda"
    loader = open_loader(inputs, workers, _collate, batch_sampler=batches, pin_memory=pinned)
    loaded = (Batch(indices, *read) for indices, read in zip(batches, read_batches(loader), strict=True))
    return on_device(loaded, lambda batch: batch.to(device), device)


class _Inputs(Dataset):
    """Network inputs by image index, with their objects where asked; the reason for an image that cannot be read."""

    def __init__(self, images: Source, preprocessing: Preprocessing, labeled: bool) -> None:
        self.images = images
        self.preprocessing = preprocessing
        self.labeled = labeled

    def __getitem__(self, index: int) -> tuple[int, tuple[np.ndarray, ...] | str]:
        try:
            if not self.labeled:
                return index, fit_image(self.images.read(index), self.preprocessing)[:1]
            image, truth = read_labeled(self.images, index)
            pixels, placement = fit_image(image, self.preprocessing)
            return index, (pixels, *fit_labels(truth, placement))
        except DatasetError as error:
            return index, str(error)


def _collate(items: list[tuple[int, tuple[np.ndarray, ...] | str]]) -> tuple:
    """Return the fields of a `Batch` after `indices`."""
    read = [[torch.from_numpy(array) for array in item] for _, item in items if not isinstance(item, str)]
    tensors: list[Any] = [torch.stack(arrays) for arrays in zip(*read, strict=True)] or [None]
    return tensors[0], {index: item for index, item in items if isinstance(item, str)}, *tensors[1:]


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
        self._status: list[np.ndarray] = []
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, batch: Batch, tensors: Mapping[str, Tensor]) -> int:
        """Take a batch; return the number of images of the batch before, which has arrived meanwhile.

        Args:
            batch: The batch; its pixels are not kept.
            tensors: By name of the array: rows of readable images, in the order of the chunk, or the sum over them for
                arrays per chunk. Rows may come with a later batch than their images, all with the last of the chunk.
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
            self._status.append(status)
            for name, tensor in tensors.items():
                self._keep(name, tensor)
        if indices[-1] + 1 == self.images or (indices[-1] + 1) % CHUNK_IMAGES == 0:
            with self.timer.measure("output"):
                self.writer.write_chunk(indices[-1] // CHUNK_IMAGES, self._join())
        return len(indices)

    def _keep(self, name: str, tensor: Tensor) -> None:
        """Keep rows until the chunk is finished; those of arrays per chunk are added at once."""
        array, kept = self.writer.arrays[name], self._rows.setdefault(name, [])
        values = _stored((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy(), name, array)
        if not np.isfinite(values).all():
            raise AtmvizError(f"{name} holds NaN or infinite values: check the checkpoint and the images")
        if array.per_image or not kept:
            kept.append(values)
        else:
            kept[0] = np.sum([kept[0], values], axis=0)

    def _join(self) -> dict[str, np.ndarray]:
        """Return the arrays of one chunk; rows of unreadable images keep the fill value."""
        status, kept = np.concatenate(self._status), self._rows
        self._status, self._rows = [], {}
        rows = {"status": status}
        for name, array in self.writer.arrays.items():
            if name in ("status", "done"):
                continue
            length, fill = (len(status), array.fill) if array.per_image else (1, 0)
            rows[name] = np.full((length, *array.shape[1:]), fill, array.dtype)
            if name in kept:
                chosen = status == RECORDED if array.per_image else 0
                rows[name][chosen] = (
                    np.concatenate(kept[name]) if array.per_image else _stored(kept[name][0], name, array)
                )
        return rows


def _stored(values: np.ndarray, name: str, array: StoredArray) -> np.ndarray:
    """Return values in the type of their array; AtmvizError for whole numbers that it cannot hold."""
    stored = values.astype(array.dtype, copy=False)
    if stored.dtype.kind != "f" and (stored != values).any():
        raise AtmvizError(f"{name} holds up to {values.max()}, more than {array.dtype} can: declare a larger type")
    return stored
