"""From images to a recording: decode, infer, reduce on the device, write whole chunks.

Nothing waits that need not: other processes decode, the next images travel to the device while it computes, and the
results of a batch are fetched while the next one is computed.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction, n the larger of H and W.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from atmviz.checkpoints import load_model, origin_of
from atmviz.data.images import ImageSet, find_images, fit_image, load_image, normalise
from atmviz.data.loader import open_loader, read_batches
from atmviz.distributed import as_launched, gather_all, join_processes
from atmviz.errors import AtmvizError, DatasetError
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId
from atmviz.observe.hooks import Observation, find_sites, forward_to_sites, observing, require_observable
from atmviz.observe.site import sources_of
from atmviz.ops import summarise_offsets
from atmviz.processes import available_cores
from atmviz.recording.sites import RecordedSite, recorded_sites
from atmviz.recording.store import (
    CHUNK_IMAGES,
    RECORDED,
    SKIPPED,
    Recording,
    RecordingWriter,
    open_recording,
)

Progress = Callable[[int, int], None]
# Chunks that are ready wait this long for others, as many are written in little more time than one. A killed run loses
# no more than these.
WRITE_INTERVAL_S = 5.0


@dataclass
class RecordResult:
    """A finished recording, the images left out of it, and where the time went.

    Attributes:
        recording: Opened for reading.
        skipped: The images left out, by name, with the reason.
        images: How many this call recorded, of all processes.
        seconds: Spent by this process waiting for "input" (images to be read), in the "network" (and the reduction of
            what it did) and on "output" (writing).
    """

    recording: Recording
    skipped: dict[str, str] = field(default_factory=dict)
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def bound(self) -> str:
        """What most of the time was spent on: more of it makes recording faster."""
        return max(self.seconds, key=self.seconds.__getitem__)


@as_launched()
def record_offsets(
    images: ImageSet | Sequence[str | Path],
    out: str | Path,
    network: nn.Module | str | Path = "atmnet_nano.shapes",
    *,
    preprocessing: Preprocessing | None = None,
    layers: Iterable[str | LayerId] | None = None,
    query: str = "center",
    batch_size: int = 8,
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    strict: bool = False,
    on_images: Progress | None = None,
) -> RecordResult:
    """Record the offsets, fusion weights and statistics of every image into a zarr folder.

    A run that was interrupted continues where it stopped and ends with the same arrays, to the bit, on one machine with
    as many threads. Processes of `torchrun` share the chunks of images and fill one recording, with the arrays of one
    process.

    Args:
        images: An `ImageSet`, or files, folders and globs.
        out: Folder of the recording; created, or continued if it holds the same one.
        network: A network on its device, in evaluation mode, or what `load_model` takes.
        preprocessing: Input size and fit; 224 x 224 with the released evaluation transform without it.
        layers: Layers to record, by name or pattern; all without it.
        query: The token whose offsets are kept: "center", fractions of the input ("0.3,0.6") or "ROW:COL".
        batch_size: Images per forward pass; batches do not reach across the chunks of 64 images.
        workers: Processes that decode images; chosen from the number of images and cores without it.
        shard: (k, n) records the k-th of n parts (from 1); n machines with one `out` fill one recording.
        strict: Raise at the first unreadable image instead of skipping it.
        on_images: Called with (images done, images in all) of this process, resumed ones included.

    Raises:
        DatasetError: no readable image, or any unreadable one if strict.
        QueryError, LayerNotFoundError, CheckpointError, RecordingFormatError: see there.
    """
    images = images if isinstance(images, ImageSet) else find_images(images)
    network = network if isinstance(network, nn.Module) else load_model(network)
    preprocessing = preprocessing or Preprocessing()
    if preprocessing.fit == "whole":
        raise AtmvizError("got fit 'whole' for a recording, expected 'crop' or 'squash': all images need one map size")
    if not len(images):
        raise DatasetError(f"no images in {images.root}: expected at least one")
    if not 1 <= shard[0] <= shard[1]:
        raise AtmvizError(f"got shard {shard[0]}/{shard[1]}, expected K/N with K from 1 to N")

    require_observable(network)
    wanted = {site.name for site in find_sites(network, ["all"] if layers is None else map(str, layers))}
    sites = [site for site in find_sites(network) if site.name in wanted]
    infos = recorded_sites(sites, preprocessing.size, query)
    origin = origin_of(network)
    device = next(network.parameters()).device
    identity = {
        "model": origin.model,
        "model_config": origin.config,
        "checkpoint": {key: getattr(origin, key) for key in ("sha256", "layout", "weights", "trained", "seed")},
        "preprocessing": asdict(preprocessing),
        "query": query,
        "input_size": list(preprocessing.size),
        "dataset": images.name,
        "seed": images.sampling.get("seed"),
        "sampling": images.sampling,
        "batch_size": batch_size,
        "decoding": "opencv or pillow, resized by torchvision",
        "images": list(images.names),
    }
    context = {
        "image_root": str(images.root),
        "checkpoint_path": origin.path,
        "device": str(device),
        "versions": {name: version(name) for name in ("atmviz", "torch", "timm", "numpy", "pillow", "zarr")}
        | {"python": platform.python_version()},
    }
    processes = join_processes(cpu=device.type != "cuda")
    with processes.main_process_first():
        writer = RecordingWriter(Path(out), identity, context, infos)

    first, parts = shard[0] - 1 + shard[1] * processes.process_index, shard[1] * processes.num_processes
    done = writer.finished
    processes.wait_for_everyone()  # what is finished is seen alike by all: before anything is written
    own = [_images_of(chunk, len(images)) for chunk in range(first, len(done), parts)]
    missing = [indices for indices in own if not done[indices[0] // CHUNK_IMAGES]]
    total = sum(map(len, own))
    finished = total - sum(map(len, missing))
    batches = [
        indices[start : start + batch_size] for indices in missing for start in range(0, len(indices), batch_size)
    ]
    if on_images:
        on_images(finished, total)
    skipped: dict[str, str] = {}
    clock = _Clock()
    output = _Output(writer, clock)

    def finish(batch: _Pending) -> None:
        nonlocal finished
        with clock.measure("network"):
            rows = batch.fetch()
        output.add(batch.indices, rows, batch.indices[-1] + 1 == len(images))
        finished += len(batch.indices)
        if on_images:
            on_images(finished, total)

    loader = load_inputs(images, preprocessing, batches, workers, pin_memory=device.type == "cuda")
    with observing(network, sites) as observed, torch.inference_mode(), output:
        pending: _Pending | None = None
        for indices, pixels, errors in on_device(clock.waiting("input", zip(batches, loader, strict=True)), device):
            if errors and strict:
                raise DatasetError(next(iter(errors.values())))
            skipped.update({images.names[index]: reason for index, reason in errors.items()})
            with clock.measure("network"):
                if pixels is not None:
                    forward_to_sites(network, normalise(pixels, preprocessing))
                current = _Pending(
                    indices, _reduce(observed, infos, [index not in errors for index in indices]), device
                )
            if pending:
                finish(pending)
            pending = current
        if pending:
            finish(pending)
    recorded = sum(gather_all([sum(map(len, missing))]))
    skipped = {name: reason for part in gather_all([skipped]) for name, reason in part.items()}

    recording = open_recording(out)
    if recording.complete and not len(recording):
        reason = next(iter(skipped.values()), "all were skipped in an earlier run")
        raise DatasetError(f"none of the {len(images)} images could be read; the first: {reason}")
    if strict:
        recording.require_all()
    for name in recording.skipped:
        skipped.setdefault(name, "skipped in an earlier run")
    return RecordResult(recording, skipped, recorded, clock.seconds)


class _Clock:
    """Where the time of a loop goes."""

    def __init__(self) -> None:
        self.seconds = {"input": 0.0, "network": 0.0, "output": 0.0}

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start

    def waiting(self, what: str, items: Iterable) -> Iterator:
        """The items; the time they take to come is that of `what`."""
        iterator = iter(items)
        while True:
            with self.measure(what):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def on_device(
    batches: Iterable[tuple[Sequence[int], tuple[Tensor | None, dict[int, str]]]], device: torch.device
) -> Iterator[tuple[Sequence[int], Tensor | None, dict[int, str]]]:
    """(indices, pixels, errors) with pixels on the device; a GPU copies the next ones while it computes."""
    if device.type != "cuda":
        for indices, (pixels, errors) in batches:
            yield indices, None if pixels is None else pixels.to(device), errors
        return
    stream, compute = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    waiting: tuple[Sequence[int], Tensor | None, dict[int, str]] | None = None
    for indices, (pixels, errors) in batches:
        with torch.cuda.stream(stream):
            copied = None if pixels is None else pixels.to(device, non_blocking=True)
        if waiting:
            yield waiting
        compute.wait_stream(stream)
        if copied is not None:
            copied.record_stream(compute)  # its memory is not given to the next copy before it was read
        waiting = indices, copied, errors
    if waiting:
        yield waiting


class _Pending:
    """The reduced tensors of one batch on their way to the host."""

    def __init__(self, indices: Sequence[int], rows: "_Rows", device: torch.device) -> None:
        self.indices = indices
        self.rows = rows._replace(
            tensors={name: one.to("cpu", non_blocking=device.type == "cuda") for name, one in rows.tensors.items()}
        )
        self.arrived = torch.cuda.Event() if device.type == "cuda" else None
        if self.arrived:
            self.arrived.record(torch.cuda.current_stream(device))

    def fetch(self) -> dict[str, np.ndarray]:
        """`_Rows.as_arrays`, when they are there."""
        if self.arrived:
            self.arrived.synchronize()
        return self.rows.as_arrays()


class _Output:
    """Joins batches to chunks, and writes all that are ready at once.

    While its `with` block lasts; what was finished is written at its end, also after an error or Ctrl-C.
    """

    def __init__(self, writer: RecordingWriter, clock: _Clock) -> None:
        self.writer, self.clock = writer, clock
        self.parts: list[dict[str, np.ndarray]] = []
        self.ready: dict[int, dict[str, np.ndarray]] = {}
        self.written = time.perf_counter()

    def add(self, indices: Sequence[int], rows: dict[str, np.ndarray], last: bool) -> None:
        """Take one batch; `last` if no image comes after it."""
        self.parts.append(rows)
        if last or (indices[-1] + 1) % CHUNK_IMAGES == 0:
            self.ready[indices[-1] // CHUNK_IMAGES] = _join(self.parts)
            self.parts = []
            if time.perf_counter() - self.written > WRITE_INTERVAL_S:
                self.write()

    def write(self) -> None:
        with self.clock.measure("output"):
            self.writer.write_chunks(self.ready)
        self.ready = {}
        self.written = time.perf_counter()

    def __enter__(self) -> "_Output":
        return self

    def __exit__(self, *_: object) -> None:
        self.write()


_SUMMARY = ("distance", "outside", "counts")  # what `summarise_offsets` gives


class _Rows(NamedTuple):
    """What is kept of one batch: tensors of its readable images, and where they go."""

    status: np.ndarray
    tensors: dict[str, Tensor]
    infos: Sequence[RecordedSite]

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Arrays by the schema's names; rows of unreadable images keep the fill value.

        Raises:
            AtmvizError: the network gave something that is not finite.
        """
        sources = sources_of(self.infos)
        reach = max(max(info.grid) for info in self.infos)
        rows: dict[str, np.ndarray] = {
            **{f"offset_{s}": self._blank(2, info.num_offsets) for s, info in sources.items()},
            "mean_abs_offset": self._blank(len(sources), 2),
            "outside_share": self._blank(len(sources), 2, dtype=np.float64),
            "fusion": self._blank(len(self.infos), len(self.infos[0].branches)),
            "counts": np.zeros((len(sources), 2, 2 * reach + 1), np.int64),
            "status": self.status,
        }
        if not self.tensors:
            return rows
        mask = self.status == RECORDED
        arrays = {name: tensor.numpy() for name, tensor in self.tensors.items()}
        for g, (source, info) in enumerate(sources.items()):
            samples = np.prod(info.grid) * info.num_offsets
            distance, outside, counts = (arrays[f"{name}_{source}"] for name in _SUMMARY)
            if not np.isfinite(distance).all():
                raise AtmvizError(f"layer {source} gave NaN or infinite offsets: check the checkpoint and images")
            rows[f"offset_{source}"][mask] = arrays[f"offset_{source}"]
            rows["mean_abs_offset"][mask, g] = distance / samples
            rows["outside_share"][mask, g] = outside / samples
            offset = np.arange(counts.shape[1]) - counts.shape[1] // 2
            for axis, size in enumerate(info.grid[::-1]):
                np.add.at(rows["counts"][g, axis], offset.clip(-size, size) + reach, counts[axis])
        rows["fusion"][mask] = arrays["fusion"]
        if not np.isfinite(rows["fusion"][mask]).all():
            raise AtmvizError("the network gave NaN fusion weights: check the checkpoint and images")
        return rows

    def _blank(self, *shape: int, dtype: type = np.float32) -> np.ndarray:
        return np.full((len(self.status), *shape), np.nan, dtype)


def _reduce(observed: Observation, infos: Sequence[RecordedSite], readable: Sequence[bool]) -> _Rows:
    """One batch of recorded tensors -> the few numbers that are kept, on the device.

    Args:
        observed: After a forward pass of the readable images of the batch.
        infos: The layers recorded.
        readable: For each image of the batch.
    """
    status = np.where(readable, RECORDED, SKIPPED).astype(np.uint8)
    tensors: dict[str, Tensor] = {}
    if any(readable):
        for source, info in sources_of(infos).items():
            offset = observed.offsets[info.name].float()  # [B, H, W, 2, O]
            if offset.shape[1:3] != info.grid:
                raise AtmvizError(
                    f"layer {source} has a map of {tuple(offset.shape[1:3])} tokens, expected {info.grid}: "
                    "record the ATMNet itself, not a model that resizes its input"
                )
            i, j = info.query
            tensors[f"offset_{source}"] = offset[:, i, j]
            summary = summarise_offsets(offset)
            tensors |= {f"{name}_{source}": one for name, one in zip(_SUMMARY, summary, strict=True)}
        # [B, 1, 1, C, branches] each, or one for each token
        fusion = [observed.fusion[info.name].float().mean((1, 2, 3)) for info in infos]
        tensors["fusion"] = torch.stack(fusion, 1)
    return _Rows(status, tensors, infos)


def _join(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The batches of one chunk: rows one after the other, counts added."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "counts"}
    return {**joined, "counts": np.sum([part["counts"] for part in parts], axis=0)}


def _images_of(chunk: int, total: int) -> range:
    return range(chunk * CHUNK_IMAGES, min((chunk + 1) * CHUNK_IMAGES, total))


class _Inputs(Dataset):
    """Network inputs by image index; an unreadable image gives its reason instead."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing) -> None:
        self.images = images
        self.preprocessing = preprocessing

    def __getitem__(self, index: int) -> tuple[int, np.ndarray | str]:
        try:
            return index, fit_image(load_image(self.images.path(index)), self.preprocessing)[0]
        except DatasetError as error:
            return index, str(error)


def _collate(items: list[tuple[int, np.ndarray | str]]) -> tuple[Tensor | None, dict[int, str]]:
    """Readable images [B, H, W, 3], uint8 (None without any), and the reasons of the others by index."""
    pixels = [torch.from_numpy(item) for _, item in items if not isinstance(item, str)]
    return torch.stack(pixels) if pixels else None, {i: item for i, item in items if isinstance(item, str)}


def load_inputs(
    images: ImageSet,
    preprocessing: Preprocessing,
    batches: Sequence[Sequence[int]],
    workers: int | None,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor | None, dict[int, str]]]:
    """Batches of what the network sees: pixels [B, H, W, 3], uint8, of readable images, and the errors of others."""
    if workers is None:
        workers = min(8, available_cores()) if len(batches) > 8 else 0
    inputs = _Inputs(images, preprocessing)
    return read_batches(open_loader(inputs, workers, _collate, batch_sampler=batches, pin_memory=pin_memory))
