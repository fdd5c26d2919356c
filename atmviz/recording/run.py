"""From images to a recording: decode, run the network, reduce on its device, write whole chunks.

Other processes decode, the next images travel to the device while it computes, and the results of a batch are fetched
while the next batch is computed.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atmviz.checkpoints import origin_of
from atmviz.choices import DataChoice, ModelChoice
from atmviz.data.fitting import normalize_batch
from atmviz.distributed import as_launched, gather_all, join_processes
from atmviz.errors import AtmvizError, DatasetError, SettingsError
from atmviz.events import QUIET, Events
from atmviz.geometry import Preprocessing
from atmviz.observe.hooks import Observation, find_sites, forward_to_sites, observing, require_observable
from atmviz.observe.site import sources_of
from atmviz.recording.batches import Batch, BatchSummary, ChunkBuffer, StageTimer, load_batches
from atmviz.recording.layout import CHUNK_IMAGES, RECORDED, SKIPPED, members_of
from atmviz.recording.quantities import QUANTITIES, Quantity, SiteBatch
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.sites import RecordedSite, recorded_sites
from atmviz.recording.store import Recording, open_recording
from atmviz.recording.writer import RecordingWriter
from atmviz.settings import split_settings, with_keywords
from atmviz.sources import Source


@dataclass
class RecordResult:
    """A recording, the images left out of it, and where the time went.

    Attributes:
        recording: Opened for reading.
        skipped: Why images were left out, by name.
        images: How many this call recorded, of all processes.
        seconds: Spent by this process waiting for "input" (images to be read), in the "network" (and reducing what it
            did) and on "output" (writing).
        elapsed: Seconds from start to end.
    """

    recording: Recording
    skipped: dict[str, str] = field(default_factory=dict)
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def bound(self) -> str:
        """The stage that takes most of the time: speeding it up makes recording faster."""
        return max(self.seconds, key=self.seconds.__getitem__)

    def describe(self) -> str:
        """`out holds 640 images, 85.0 images/s, bound by the network (91% of the time; input 7%, output 2%)`."""
        recording = self.recording
        total = len(recording.attrs["images"])
        state = "" if recording.complete else f" (of {total}: other parts are missing)"
        text = f"{recording.path} holds {len(recording)} images{state}"
        if not self.images:
            return f"{text}, nothing was left to do"
        busy = sum(self.seconds.values())
        fractions = {stage: f"{seconds / busy:.0%}" for stage, seconds in self.seconds.items()}
        most = fractions.pop(self.bound)
        rest = ", ".join(f"{stage} {fraction}" for stage, fraction in fractions.items())
        rate = self.images / self.elapsed
        return f"{text}, {rate:.1f} images/s, bound by the {self.bound} ({most} of the time; {rest})"


@with_keywords(RecordingSettings, DataChoice, ModelChoice, without=("checkpoint",))
def record(
    source: Source | str | Path | Sequence[str | Path] | None = None,
    network: nn.Module | str | Path | None = None,
    *,
    out: str | Path,
    events: Events = QUIET,
    quantities: Sequence[Quantity] = QUANTITIES,
    **settings: Any,
) -> Recording:
    """Record what every layer of a network fetches, image by image, into a folder that opens without torch.

    A run that was interrupted resumes where it stopped and ends with the same arrays, to the bit, on one machine with
    as many threads. Processes of `torchrun` share the chunks of images and fill one recording, with the arrays of one
    process.

    Args:
        source: Files, folders, globs, the name of a dataset, or an opened source; the bundled photographs without it.
        network: A network on its device, in evaluation mode, or what `load_model` takes; the demonstration model
            without it.
        out: Folder of the recording; created, or continued if it holds the same recording.
        events: Receives progress and what was left out.
        quantities: What is kept.
        settings: Fields of `RecordingSettings`, e.g. `layers` and `size`; of `DataChoice`, e.g. `limit`; and of
            `ModelChoice`.

    Raises:
        DatasetError: no readable image, or any unreadable one if strict.
        SettingsError, QueryError, LayerNotFoundError, CheckpointError, RecordingFormatError: see there.
    """
    chosen, data, model = split_settings(settings, RecordingSettings, DataChoice, ModelChoice)
    images = data.open(source, chosen.input_size, events)
    loaded = model.load(network, events)
    result = run_recording(images, loaded, out, chosen, events=events, quantities=quantities)
    events.message(result.describe())
    events.left_out(result.skipped)
    return result.recording


@as_launched()
def run_recording(
    images: Source,
    network: nn.Module,
    out: str | Path,
    settings: RecordingSettings | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    events: Events = QUIET,
    quantities: Sequence[Quantity] = QUANTITIES,
) -> RecordResult:
    """Record an opened source, and say how it went; see `record`.

    `preprocessing` replaces what the settings say of size and fit.
    """
    settings = settings or RecordingSettings()
    if not len(images):
        raise DatasetError(f"no images in {images.root}: expected at least one")
    preprocessing = preprocessing or settings.preprocessing_of(images.title)
    if preprocessing.fit == "whole":
        raise SettingsError("got fit 'whole', expected crop or squash: a recording needs one map size")
    require_observable(network)
    chosen = {site.name for site in find_sites(network, map(str, settings.layers or ("all",)))}
    sites = recorded_sites([s for s in find_sites(network) if s.name in chosen], preprocessing.size, settings.query)
    device = next(network.parameters()).device
    processes = join_processes(cpu=device.type != "cuda")
    with processes.main_process_first():
        identity = _identity(images, network, preprocessing, settings)
        writer = RecordingWriter(Path(out), identity, _context(images, network), sites, quantities)
    done = writer.finished
    processes.wait_for_everyone()  # what is finished is seen alike by all: before anything is written
    part, parts = settings.part
    first, step = part - 1 + parts * processes.process_index, parts * processes.num_processes
    local = [_images_of(chunk, len(images)) for chunk in range(first, len(done), step)]
    missing = [indices for indices in local if not done[indices[0] // CHUNK_IMAGES]]
    total, left = sum(map(len, local)), sum(map(len, missing))

    skipped: dict[str, str] = {}
    timer = StageTimer()
    batches = load_batches(images, preprocessing, _batches(missing, settings.batch_size), settings.workers, device)
    events.images(total - left, total)
    with (
        observing(network, sites) as observed,
        torch.inference_mode(),
        ChunkBuffer(writer, len(images), timer) as buffer,
    ):
        for batch in timer.waiting("input", batches):
            if batch.errors and settings.strict:
                raise DatasetError(next(iter(batch.errors.values())))
            skipped |= {images.name(index): reason for index, reason in batch.errors.items()}
            with timer.measure("network"):
                if batch.pixels is not None:
                    forward_to_sites(network, normalize_batch(batch.pixels, preprocessing))
                summary = _summarize(batch, observed, sites, quantities, writer)
            for fetched in buffer.add(summary):
                left -= fetched
                events.images(total - left, total)
        for fetched in buffer.flush():
            left -= fetched
            events.images(total - left, total)
    return _result(out, images, settings, skipped, sum(map(len, missing)), timer)


def _result(
    out: str | Path, images: Source, settings: RecordingSettings, skipped: dict[str, str], here: int, timer: StageTimer
) -> RecordResult:
    """Join what all processes did."""
    recorded = sum(gather_all([here]))
    reasons = {name: reason for part in gather_all([skipped]) for name, reason in part.items()}
    recording = open_recording(out)
    if recording.complete and not len(recording):
        reason = next(iter(reasons.values()), "all were skipped in an earlier run")
        raise DatasetError(f"none of the {len(images)} images could be read; the first: {reason}")
    if settings.strict:
        recording.require_all()
    for name in recording.skipped:
        reasons.setdefault(name, "skipped in an earlier run")
    return RecordResult(recording, reasons, recorded, timer.seconds, timer.elapsed)


def _identity(
    images: Source, network: nn.Module, preprocessing: Preprocessing, settings: RecordingSettings
) -> dict[str, Any]:
    """What makes two recordings the same."""
    origin = origin_of(network)
    return {
        "model": origin.model,
        "model_config": origin.config,
        "checkpoint": {key: getattr(origin, key) for key in ("sha256", "layout", "weights", "trained", "seed")},
        "preprocessing": asdict(preprocessing),
        "query": settings.query,
        "input_size": list(preprocessing.size),
        "dataset": images.title,
        "seed": images.sampling.get("seed"),
        "sampling": dict(images.sampling),
        "batch_size": settings.batch_size,
        "decoding": "opencv or pillow, resized by torchvision",
        "images": [images.name(index) for index in range(len(images))],
    }


def _context(images: Source, network: nn.Module) -> dict[str, Any]:
    """What may differ between the runs that fill a recording."""
    versions = {name: version(name) for name in ("atmviz", "torch", "timm", "numpy", "pillow", "zarr")}
    return {
        "image_root": images.root,
        "checkpoint_path": origin_of(network).path,
        "device": str(next(network.parameters()).device),
        "versions": {**versions, "python": platform.python_version()},
    }


def _images_of(chunk: int, total: int) -> range:
    return range(chunk * CHUNK_IMAGES, min((chunk + 1) * CHUNK_IMAGES, total))


def _batches(chunks: Sequence[range], batch_size: int) -> list[range]:
    return [indices[start : start + batch_size] for indices in chunks for start in range(0, len(indices), batch_size)]


def _summarize(
    batch: Batch,
    observed: Observation,
    sites: Sequence[RecordedSite],
    quantities: Sequence[Quantity],
    writer: RecordingWriter,
) -> BatchSummary:
    """Reduce what the sites did with the readable images of a batch, on the device."""
    status = np.where([index not in batch.errors for index in batch.indices], RECORDED, SKIPPED).astype(np.uint8)
    tensors: dict[str, Tensor] = {}
    if batch.pixels is not None:
        offsets = {source: _offsets(observed, site) for source, site in sources_of(sites).items()}
        done = {
            site.name: SiteBatch(site, sites, offsets[site.source], observed.fusion[site.name].float())
            for site in sites
        }
        for quantity in quantities:
            values = {member: quantity.reduce(done[site.name]) for member, site in members_of(quantity, sites).items()}
            if quantity.separate:
                tensors |= {f"{quantity.name}_{member}": value for member, value in values.items()}
            else:
                stacked = torch.stack(list(values.values()), 1 if quantity.per == "image" else 0)
                tensors[quantity.name] = stacked
    return BatchSummary(batch.indices, status, tensors, writer.arrays)


def _offsets(observed: Observation, site: RecordedSite) -> Tensor:
    """The offsets of a site, [B, H, W, 2, O], float32."""
    offsets = observed.offsets[site.name].float()
    if offsets.shape[1:3] != site.grid:
        raise AtmvizError(
            f"layer {site.source} has a map of {tuple(offsets.shape[1:3])} tokens, expected {site.grid}: "
            "record the ATMNet itself, not a model that resizes its input"
        )
    return offsets
