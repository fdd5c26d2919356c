"""From images to a recording: decode, infer, reduce on the device, write whole chunks.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction, R the largest H or W of all layers.
"""

import os
import platform
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import atmviz
from atmviz.checkpoints import load_model
from atmviz.data.images import ImageSet, find_images, load_image, preprocess
from atmviz.errors import AtmvizError, DatasetError
from atmviz.geometry import Placement, Preprocessing, map_size
from atmviz.layers import LayerId
from atmviz.recording.query import fixed_query
from atmviz.recording.recorder import OffsetRecorder, find_atmnet
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
    network: nn.Module | str | Path = "atmnet_nano",
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
        batch_size: Images per forward pass.
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
    if not 1 <= shard[0] <= shard[1]:
        raise AtmvizError(f"got shard {shard[0]}/{shard[1]}, expected K/N with K from 1 to N")

    recorder = OffsetRecorder(network, layers)
    writer = RecordingWriter(
        Path(out),
        _identity(network, images, preprocessing, query, batch_size),
        _context(network, images),
        describe_layers_of(recorder, preprocessing, query),
    )
    done = writer.done
    own = [chunk for chunk in range(len(done)) if chunk % shard[1] == shard[0] - 1]
    missing = [chunk for chunk in own if not done[chunk]]
    total = sum(len(_chunk_range(chunk, len(images))) for chunk in own)
    finished = total - sum(len(_chunk_range(chunk, len(images))) for chunk in missing)
    skipped: dict[str, str] = {}
    if missing:
        device = next(network.parameters()).device
        batches = _batches(missing, len(images), batch_size)
        loader = _loader(images, preprocessing, [indices for _, indices in batches], workers, device)
        reduction = _Reduction(writer.layers)
        with recorder, torch.inference_mode(), _deterministic():
            parts: list[dict[str, np.ndarray]] = []
            for (chunk, indices), (pixels, errors) in zip(batches, loader, strict=True):
                for index, reason in errors.items():
                    if strict:
                        raise DatasetError(reason)
                    skipped[images.names[index]] = reason
                if len(errors) < len(indices):
                    network(pixels.to(device, non_blocking=True))
                    parts.append(reduction(recorder, indices, set(errors)))
                else:
                    parts.append(reduction.empty(indices))
                finished += len(indices)
                if indices[-1] == _chunk_range(chunk, len(images))[-1]:
                    writer.write_chunk(chunk, _join(parts))
                    parts = []
                if on_images:
                    on_images(finished, total)
    recording = open_recording(out)
    if recording.complete and not len(recording):
        raise DatasetError(f"none of the {len(images)} images could be read; the first: {_first(skipped)}")
    for name in recording.skipped:
        skipped.setdefault(name, "skipped in an earlier run")
    return RecordResult(recording, skipped)


def describe_layers_of(recorder: OffsetRecorder, preprocessing: Preprocessing, query: str) -> list[LayerInfo]:
    """What a recording will say of its layers; raises QueryError for a query outside the map."""
    wanted = fixed_query(query)
    size = preprocessing.size
    placement = Placement(image=size, resized=size, origin=(0, 0), size=size)
    infos = []
    for layer in recorder.layers:
        grid = map_size(size, layer.id.stage)
        linear = find_source_linear(recorder, layer.source)
        infos.append(
            LayerInfo(
                layer=layer.id,
                source=layer.source,
                module=layer.id.module,
                channels=linear.in_features * layer.mixer.num_samples,
                num_offsets=linear.out_features // 2,
                map_size=grid,
                query=wanted.token(placement, grid, layer.id.stage),
                branches=layer.mixer.branches,
            )
        )
    return infos
