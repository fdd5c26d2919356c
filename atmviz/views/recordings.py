"""The recording that a figure or an answer is made of: opened, taken from the cache, or made. Torch-free until then."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from atmviz.architecture import require_model
from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count
from atmviz.events import QUIET, Events
from atmviz.layers import Layers
from atmviz.recording.array_files import is_recording
from atmviz.recording.cache import RecordingRequest, cached_recording
from atmviz.recording.label_quantities import Keep
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.sources import Source

if TYPE_CHECKING:
    from torch import nn

ANSWER_SCENES = 400
"""Drawn scenes that an answer is about where no images are named."""
WITH_OBJECTS = ("shapes", "ade20k", "coco")
"""Datasets whose objects are known."""
Images = Source | str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class RecordedSource:
    """A recording, or images and all that is needed to record them.

    Attributes:
        source: An opened recording or its folder; or images, see `DataChoice.open`.
        network: A network in evaluation mode; None for the one that `model` names.
        data, running, model: Which images, how they are recorded, and by which weights.
        layers: Layers that the network must have, checked before anything is recorded.
    """

    source: Recording | Images | None
    network: "nn.Module | None"
    data: DataChoice
    running: RecordingSettings
    model: ModelChoice
    layers: Layers = ()

    @classmethod
    def of(
        cls,
        source: Recording | Images | None,
        network: "nn.Module | str | Path | None",
        data: DataChoice,
        running: RecordingSettings,
        model: ModelChoice,
    ) -> "RecordedSource":
        """Return a source whose `network` may also be what `load_model` takes, in place of `model.checkpoint`."""
        if isinstance(network, str | Path):
            network, model = None, replace(model, checkpoint=str(network))
        return cls(source, network, data, running, model)

    def asking(self, keep: tuple[Keep, ...] = (), labels: bool = False) -> "RecordedSource":
        """Return the source of an answer: of no images, scenes are drawn; and what the answer needs is recorded.

        Args:
            keep: What it needs of each offset.
            labels: Whether it takes the objects of images, where the dataset knows them and no masks are named.
        """
        data, running = self.data, self.running
        if self.source is None and data.dataset is None:
            data = replace(data, dataset="shapes", limit=data.limit or ANSWER_SCENES)
        source = self.source if isinstance(self.source, str) else getattr(self.source, "title", "")
        known = "auto" if labels and (data.dataset or source) in WITH_OBJECTS else None
        running = replace(running, keep=(*running.keep, *keep), labels=running.labels or known)
        return replace(self, data=data, running=running)

    @contextmanager
    def recording(self, events: Events = QUIET) -> Iterator[Recording]:
        """Open the recording, or make it; one of a network that has no name or file is removed again.

        Raises:
            SettingsError: several sources with a recording among them, or settings that a recording has fixed.
            DatasetError: no readable image.
            LayerNotFoundError: the network has none of `layers`.
            CheckpointError: the network cannot be loaded, or has no sites.
            RecordingFormatError: the recording is damaged.
        """
        opened = self.opened(events)
        if opened is not None:
            yield opened
        else:
            with self.made(events) as recording:
                yield recording

    def opened(self, events: Events = QUIET) -> Recording | None:
        """Return the recording that the source is, None if it is images.

        Raises:
            SettingsError: several sources with a recording among them, or settings that a recording has fixed.
        """
        if isinstance(self.source, Recording):
            recording = self.source
        else:
            paths = [self.source] if isinstance(self.source, str | Path) else self.source
            paths = paths if isinstance(paths, Sequence) else []
            recordings = [path for path in paths if isinstance(path, str | Path) and is_recording(Path(path))]
            if not recordings:
                return None
            if len(paths) > 1:
                raise SettingsError(f"got {recordings[0]} and other sources, expected one: merge recordings first")
            recording = open_recording(recordings[0])
        if fixed := self._fixed_by_recording():
            raise SettingsError(
                f"got {fixed} for the recording {recording.path}, which was made with its own: leave it out"
            )
        if not recording.complete:
            events.message(f"{recording.path} is incomplete: drawing {count(len(recording), 'finished image')}")
        return recording

    def _fixed_by_recording(self) -> str:
        """Return the name of a setting that only makes sense for images; "" if none was given."""
        given = {"network": self.network is not None}
        for choice, names in (
            (self.data, ("dataset", "data_dir", "limit")),
            (self.running, ("size", "fit", "labels", "precision")),
            (self.model, ("checkpoint", "model", "weights")),
        ):
            usual = type(choice)()
            given |= {name: getattr(choice, name) != getattr(usual, name) for name in names}
        return next((name for name, is_given in given.items() if is_given), "")

    @contextmanager
    def made(self, events: Events = QUIET) -> Iterator[Recording]:
        """Record the images, or take their recording from the cache."""
        images = self.data.open(self.source, self.running.size, events)  # type: ignore[arg-type]
        if self.network is None:
            yield replace(self, model=self.model.pinned())._cached(images, events)
        else:
            with TemporaryDirectory(prefix="atmviz-") as folder:
                yield self._record(images, Path(folder) / "recording", events)

    def _cached(self, images: Source, events: Events) -> Recording:
        made: list[Path] = []

        def make(folder: Path) -> Recording:
            made.append(folder)
            return self._record(images, folder, events)

        request = RecordingRequest(images, self.model.checkpoint, self.model.weights, self.running, self.data.seed)
        recording = cached_recording(request, make)
        if not made:
            require_model(recording.model, self.model.model, self.model.checkpoint)
            if self.running.strict:
                recording.require_all()
            events.message(f"using the cached recording {recording.path}")
            events.left_out(dict.fromkeys(recording.skipped, ""))
        return recording

    def _record(self, images: Source, folder: Path, events: Events) -> Recording:
        """Record all layers into a folder, after a check that `layers` exist."""
        from atmviz.observe import find_sites
        from atmviz.recording.run import record

        network = self.model.load(self.network, events, self.data.seed)
        find_sites(network, self.layers)
        return record(images, network, out=folder, events=events, **vars(self.running))


def describe_source(recording: Recording) -> dict[str, Any]:
    """Return what makes a recording what it is, ready for the metadata of figures; paths are not disclosed."""
    attrs = recording.attrs
    paths = [attrs["image_root"], *recording.images]  # told apart, but not disclosed
    return {
        **{key: attrs.get(key) for key in ("model", "model_config", "checkpoint", "preprocessing", "query")},
        "data": {
            **{key: attrs.get(key) for key in ("dataset", "sampling")},
            "images": len(recording),
            "fingerprint of paths": sha256("\0".join(paths).encode(errors="surrogatepass")).hexdigest(),
        },
    }
