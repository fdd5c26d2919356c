"""From images to a recording: decode, infer, reduce on the device, write whole chunks.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction, R the largest H or W of all layers.
"""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from atmviz.checkpoints import load_model, origin_of
from atmviz.data.images import ImageSet, find_images, load_image, preprocess
from atmviz.errors import AtmvizError, DatasetError
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId
from atmviz.recording.recorder import OffsetRecorder, infer, layer_infos, require_recordable
from atmviz.recording.store import (
    CHUNK_IMAGES,
    RECORDED,
    SKIPPED,
    LayerInfo,
    Recording,
    RecordingWriter,
    open_recording,
)

Progress = Callable[[int, int], None]


@dataclass
class RecordResult:
    """A finished recording and the images left out of it, by name, with the reason."""

    recording: Recording
    skipped: dict[str, str] = field(default_factory=dict)


def record_offsets(
    images: ImageSet | Sequence[str | Path],
    out: str | Path,
    network: nn.Module | str | Path = "atmnet_nano.shapes",
    *,
    preprocessing: Preprocessing | None = None,
    layers: Iterable[LayerId] | None = None,
    query: str = "center",
    batch_size: int = 8,
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    strict: bool = False,
    on_images: Progress | None = None,
) -> RecordResult:
    """Record the offsets, fusion weights and statistics of every image into a zarr folder.

    A run that was interrupted continues where it stopped and ends with the same arrays, to the bit, on one machine.

    Args:
        images: An `ImageSet`, or files, folders and globs.
        out: Folder of the recording; created, or continued if it holds the same one.
        network: A network on its device, in evaluation mode, or what `load_model` takes.
        preprocessing: Input size and fit; 224 x 224 with the released evaluation transform without it.
        layers: Layers to record; all without it.
        query: The token whose offsets are kept: "center", fractions of the input ("0.3,0.6") or "ROW:COL".
        batch_size: Images per forward pass; batches do not reach across the chunks of 64 images.
        workers: Processes that decode images; chosen from the number of images and cores without it.
        shard: (k, n) records the k-th of n parts (from 1); n processes with one `out` fill one recording.
        strict: Raise at the first unreadable image instead of skipping it.
        on_images: Called with (images done, images in all), resumed ones included.

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

    require_recordable(network)
    recorder = OffsetRecorder(network, layers)
    infos = layer_infos(recorder, preprocessing.size, query)
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
        "images": list(images.names),
    }
    context = {
        "image_root": str(images.root),
        "checkpoint_path": origin.path,
        "device": str(device),
        "versions": {name: version(name) for name in ("atmviz", "torch", "timm", "numpy", "pillow", "zarr")}
        | {"python": platform.python_version()},
    }
    writer = RecordingWriter(Path(out), identity, context, infos)

    done = writer.finished
    own = [_images_of(chunk, len(images)) for chunk in range(shard[0] - 1, len(done), shard[1])]
    missing = [indices for indices in own if not done[indices[0] // CHUNK_IMAGES]]
    total = sum(map(len, own))
    finished = total - sum(map(len, missing))
    batches = [
        indices[start : start + batch_size] for indices in missing for start in range(0, len(indices), batch_size)
    ]
    if on_images:
        on_images(finished, total)
    skipped: dict[str, str] = {}
    reduce = _Reduction(infos)
    parts: list[dict[str, np.ndarray]] = []
    loader = _loader(images, preprocessing, batches, workers, pin_memory=device.type == "cuda")
    with recorder, torch.inference_mode():
        for indices, (pixels, errors) in zip(batches, loader, strict=True):
            if errors and strict:
                raise DatasetError(next(iter(errors.values())))
            skipped.update({images.names[index]: reason for index, reason in errors.items()})
            if pixels is not None:
                infer(network, pixels)
            parts.append(reduce(recorder, [index not in errors for index in indices]))
            finished += len(indices)
            if indices[-1] + 1 == len(images) or (indices[-1] + 1) % CHUNK_IMAGES == 0:
                writer.write_chunk(indices[-1] // CHUNK_IMAGES, _join(parts))
                parts = []
            if on_images:
                on_images(finished, total)

    recording = open_recording(out)
    if recording.complete and not len(recording):
        first = next(iter(skipped.values()), "all were skipped in an earlier run")
        raise DatasetError(f"none of the {len(images)} images could be read; the first: {first}")
    if strict:
        recording.require_all()
    for name in recording.skipped:
        skipped.setdefault(name, "skipped in an earlier run")
    return RecordResult(recording, skipped)


class _Reduction:
    """One batch of recorded tensors -> per-image rows and the batch's counts, on the device, then as numpy."""

    def __init__(self, infos: Sequence[LayerInfo]) -> None:
        self.infos = infos
        self.sources = {info.source: info for info in infos}
        self.reach = max(max(info.map_size) for info in infos)

    def __call__(self, recorder: OffsetRecorder, readable: Sequence[bool]) -> dict[str, np.ndarray]:
        """Arrays by the schema's names; rows of unreadable images keep the fill value.

        Args:
            recorder: After a forward pass of the readable images of the batch.
            readable: For each image of the batch.
        """
        status = np.where(readable, RECORDED, SKIPPED).astype(np.uint8)
        counts = np.zeros((len(self.sources), 2, 2 * self.reach + 1), np.int64)
        rows: dict[str, np.ndarray] = {
            **{f"offset_{s}": _blank(status, 2, i.num_offsets, dtype=np.float32) for s, i in self.sources.items()},
            "mean_abs_offset": _blank(status, len(self.sources), 2, dtype=np.float32),
            "outside_share": _blank(status, len(self.sources), 2, dtype=np.float64),
            "fusion": _blank(status, len(self.infos), len(self.infos[0].branches), dtype=np.float32),
        }
        if any(readable):
            mask = status == RECORDED
            for g, (source, info) in enumerate(self.sources.items()):
                offset = recorder.offsets[source].float()  # [B, H, W, 2, O]
                if offset.shape[1:3] != info.map_size:
                    raise AtmvizError(
                        f"layer {source} has a map of {tuple(offset.shape[1:3])} tokens, expected {info.map_size}: "
                        "record the ATMNet itself, not a model that resizes its input"
                    )
                samples = offset[0].numel() // 2
                i, j = info.query
                mean_abs = torch.linalg.vector_norm(offset, ord=1, dim=(1, 2, 4)) / samples
                if not mean_abs.isfinite().all():
                    raise AtmvizError(f"layer {source} gave NaN or infinite offsets: check the checkpoint and images")
                rows[f"offset_{source}"][mask] = offset[:, i, j].cpu().numpy()
                rows["mean_abs_offset"][mask, g] = mean_abs.cpu().numpy()
                for axis, size in enumerate(info.map_size[::-1]):
                    nearest = offset[..., axis, :].round()
                    outside = self._outside(nearest, axis, size).cpu().numpy()
                    rows["outside_share"][mask, g, axis] = outside / samples
                    index = nearest.clamp_(-size, size).add_(self.reach).long().flatten()
                    counts[g, axis] = torch.bincount(index, minlength=counts.shape[2]).cpu().numpy()
            for row, info in enumerate(self.infos):
                weights = recorder.fusion[info.layer].float()  # [B, 1, 1, C, branches], or one for each token
                rows["fusion"][mask, row] = weights.mean((1, 2, 3)).cpu().numpy()
            if not np.isfinite(rows["fusion"][mask]).all():
                raise AtmvizError("the network gave NaN fusion weights: check the checkpoint and images")
        return {**rows, "counts": counts, "status": status}

    @staticmethod
    def _outside(nearest: Tensor, axis: int, size: int) -> Tensor:
        """How many samples' nearest token is outside the map, per image, from rounded offsets [B, H, W, O]."""
        own = torch.arange(size, device=nearest.device, dtype=nearest.dtype)
        own = own.view(1, size, 1) if axis == 0 else own.view(size, 1, 1)  # j for horizontal, i for vertical
        position = nearest + own
        return ((position < 0) | (position >= size)).sum((1, 2, 3))


def _blank(status: np.ndarray, *shape: int, dtype: type) -> np.ndarray:
    return np.full((len(status), *shape), np.nan, dtype)


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
            return index, preprocess(load_image(self.images.path(index)), self.preprocessing)[0]
        except DatasetError as error:
            return index, str(error)


def _collate(items: list[tuple[int, np.ndarray | str]]) -> tuple[Tensor | None, dict[int, str]]:
    """Readable images [B, 3, H, W] (None without any), and the reasons of the others by index."""
    pixels = [torch.from_numpy(item) for _, item in items if not isinstance(item, str)]
    return torch.stack(pixels) if pixels else None, {i: item for i, item in items if isinstance(item, str)}


def _loader(
    images: ImageSet,
    preprocessing: Preprocessing,
    batches: Sequence[Sequence[int]],
    workers: int | None,
    pin_memory: bool = False,
) -> DataLoader:
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(8, cores) if len(batches) > 8 else 0
    return DataLoader(
        _Inputs(images, preprocessing),
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin_memory,
    )
