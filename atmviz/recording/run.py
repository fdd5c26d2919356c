"""From images to a recording: decode, run the network, reduce on its device, write whole chunks.

Other processes decode, the next images travel to the device while it computes, and the results of a batch are fetched
while the next batch is computed.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atmviz.checkpoints import origin_of
from atmviz.choices import DataChoice, ModelChoice
from atmviz.data.fitting import normalize_batch
from atmviz.distributed import as_launched, gather_all, join_processes
from atmviz.errors import DatasetError, SettingsError, count, require_type
from atmviz.events import QUIET, Events
from atmviz.files import VERSION
from atmviz.geometry import Preprocessing
from atmviz.observe.hooks import find_sites, forward_to_sites, observing, require_observable
from atmviz.observe.site import select_sites
from atmviz.recording.again import images_of, settings_of_again
from atmviz.recording.array_files import is_recording
from atmviz.recording.batches import ChunkBuffer, StageTimer, load_batches
from atmviz.recording.label_quantities import asked_quantities
from atmviz.recording.labels import with_labels
from atmviz.recording.layout import CHUNK_IMAGES
from atmviz.recording.precision import computing_in, require_precision
from atmviz.recording.quantities import QUANTITIES, Quantity
from atmviz.recording.reducer import Reducer
from atmviz.recording.settings import DEFAULT_BATCH, RecordingSettings
from atmviz.recording.sites import recorded_sites
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
        """Name of the stage that takes most of the time: speeding it up makes recording faster."""
        return max(self.seconds, key=self.seconds.__getitem__)

    def describe(self) -> str:
        """`out holds 640 images, 85.0 images/s, bound by the network (91% of the time; input 7%, output 2%)`."""
        recording = self.recording
        total = len(recording.attrs["images"])
        state = "" if recording.complete else f" (of {total}: other parts are missing)"
        text = f"{recording.path} holds {count(len(recording), 'image')}{state}"
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
    like: Recording | str | Path | None = None,
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
        like: A recording whose images, geometry, query, labels and kept quantities are repeated, with another network.
        events: Receives progress and what was left out.
        quantities: What is kept, beside what `labels` and `keep` add.
        settings: Fields of `RecordingSettings`, e.g. `layers` and `size`; of `DataChoice`, e.g. `limit`; and of
            `ModelChoice`.

    Returns:
        The recording, opened for reading.

    Raises:
        DatasetError: no readable image, or any unreadable one if strict.
        SettingsError: an argument of another type or outside its range, or two that exclude each other.
        QueryError: the query is not one token for all images.
        LayerNotFoundError: the network has no such layer.
        CheckpointError: the network cannot be loaded, or has no sites.
        RecordingFormatError: `out` holds something else, or another recording.
    """
    chosen, data, model = split_settings(settings, RecordingSettings, DataChoice, ModelChoice)
    preprocessing = None
    if like is None:
        images = data.open(source, chosen.size, events)
    else:
        if source is not None or replace(data, seed=0) != DataChoice():
            raise SettingsError("got images, or a choice of them, and a recording to repeat: leave one out")
        earlier = open_recording(like)
        images, preprocessing = images_of(earlier), earlier.preprocessing
        chosen = settings_of_again(earlier, chosen)
    loaded = model.load(network, events, data.seed)
    result = run_recording(
        images, loaded, out, chosen, preprocessing=preprocessing, events=events, quantities=quantities
    )
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
    quantities = _all_quantities(quantities, settings)
    images, labels = with_labels(images, settings.labels)
    every_site = find_sites(network)
    chosen = select_sites(map(str, settings.layers or ("all",)), every_site)
    sites = recorded_sites([site for site in every_site if site in chosen], preprocessing.size, settings.query)
    device = next(network.parameters()).device
    require_precision(settings.precision, device)
    processes = join_processes(cpu=device.type != "cuda")
    with processes.main_process_first():
        size = settings.batch_size or _usual_batch(Path(out), device)
        identity = {**_identity(images, network, preprocessing, settings), "batch_size": size, **labels}
        writer = RecordingWriter(Path(out), identity, _context(images, network), sites, quantities)
    done = writer.finished
    processes.wait_for_everyone()  # what is finished is seen alike by all: before anything is written
    part, parts = settings.shard
    first, step = part - 1 + parts * processes.process_index, parts * processes.num_processes
    every = range(len(images))
    chunks = {c: every[c * CHUNK_IMAGES : (c + 1) * CHUNK_IMAGES] for c in range(first, len(done), step)}
    missing = [indices for chunk, indices in chunks.items() if not done[chunk]]
    total, left = sum(map(len, chunks.values())), sum(map(len, missing))
    if part > len(done):
        events.message(
            f"shard {part}/{parts} has no images: shards are made of whole blocks of {CHUNK_IMAGES} images, of which "
            f"{len(images)} images make {len(done)}"
        )

    skipped: dict[str, str] = {}
    timer, done_images = StageTimer(), total - left
    indices = [chunk[start : start + size] for chunk in missing for start in range(0, len(chunk), size)]
    batches = load_batches(
        images, preprocessing, indices, settings.workers, device, labeled=settings.labels is not None
    )
    buffer = ChunkBuffer(writer, len(images), timer)
    reducer = Reducer(sites, quantities, writer.arrays)
    events.images(done_images, total)
    with observing(network, sites) as observed, torch.inference_mode():
        for batch in timer.waiting("input", batches):
            if batch.errors and settings.strict:
                raise DatasetError(next(iter(batch.errors.values())))
            skipped |= {images.name(index): reason for index, reason in batch.errors.items()}
            tensors: dict[str, Tensor] = {}
            with timer.measure("network"):
                if batch.pixels is not None:
                    with computing_in(settings.precision, device):
                        forward_to_sites(network, normalize_batch(batch.pixels, preprocessing))
                    tensors = reducer.reduce(observed, batch)
                if (batch.indices[-1] + 1) % CHUNK_IMAGES == 0 or batch.indices[-1] + 1 == len(images):
                    tensors = reducer.end_chunk(tensors)
            if arrived := buffer.add(batch, tensors):
                done_images += arrived
                events.images(done_images, total)
        if arrived := buffer.flush():
            events.images(done_images + arrived, total)
    return _result(out, images, settings, skipped, left, timer)


def _usual_batch(out: Path, device: torch.device) -> int:
    """Return how many images pass at once where nobody says: as before where a recording is continued."""
    begun = open_recording(out).attrs.get("batch_size") if is_recording(out) else None
    return begun or DEFAULT_BATCH.get(device.type, DEFAULT_BATCH["cpu"])


def _all_quantities(quantities: Sequence[Quantity], settings: RecordingSettings) -> tuple[Quantity, ...]:
    """Return the quantities with those that labels and `keep` add."""
    require_type(quantities, Iterable, "quantities", "several, as in (*atmviz.QUANTITIES, mine)")
    quantities = (*quantities, *asked_quantities(settings.labels is not None, settings.keep))
    for quantity in quantities:
        require_type(quantity, Quantity, "a quantity", "an atmviz.Quantity")
        if quantity.labels and settings.labels is None:
            raise SettingsError(f"got quantity {quantity.name} and no labels, expected labels: say where they are")
    return quantities


def _result(
    out: str | Path, images: Source, settings: RecordingSettings, skipped: dict[str, str], here: int, timer: StageTimer
) -> RecordResult:
    """Join the results of all processes; `here` images were recorded by this one."""
    recorded = sum(gather_all([here]))
    reasons = {name: reason for part in gather_all([skipped]) for name, reason in part.items()}
    recording = open_recording(out)
    if recording.complete and not len(recording):
        reason = next(iter(reasons.values()), "all were skipped in an earlier run")
        raise DatasetError(f"none of {count(len(images), 'image')} could be read; the first: {reason}")
    if settings.strict:
        recording.require_all()
    for name in recording.skipped:
        reasons.setdefault(name, "skipped in an earlier run")
    return RecordResult(recording, reasons, recorded, timer.seconds, timer.elapsed)


def _identity(
    images: Source, network: nn.Module, preprocessing: Preprocessing, settings: RecordingSettings
) -> dict[str, Any]:
    """Return what makes two recordings the same."""
    origin = origin_of(network)
    return {
        "model": origin.model,
        "model_config": origin.config,
        "checkpoint": origin.identity,
        "preprocessing": asdict(preprocessing),
        "query": settings.query,
        "input_size": list(preprocessing.size),
        "dataset": images.title,
        "seed": images.sampling.get("seed"),
        "sampling": dict(images.sampling),
        "precision": settings.precision,
        "decoding": "opencv or pillow, resized by torchvision",
        "images": [images.name(index) for index in range(len(images))],
    }


def _context(images: Source, network: nn.Module) -> dict[str, Any]:
    """Return what may differ between the runs that fill a recording."""
    versions = {name: version(name) for name in ("torch", "timm", "numpy", "pillow", "numcodecs")}
    return {
        "image_root": images.root,
        "checkpoint_path": origin_of(network).path,
        "device": str(next(network.parameters()).device),
        "versions": {"atmviz": VERSION, **versions, "python": platform.python_version()},
    }
