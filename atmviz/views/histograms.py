"""Histograms of offsets: open or make a recording, count, draw (Figs. 3, 6, 7). Torch is loaded only to record."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.architecture import require_model
from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count
from atmviz.events import QUIET, Events
from atmviz.figures.histograms import draw_histograms
from atmviz.figures.saving import figure_name, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import MAX_PANELS
from atmviz.recording.array_files import is_recording
from atmviz.recording.cache import RecordingRequest, cached_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.settings import split_settings, with_keywords
from atmviz.sources import DATASETS, Source
from atmviz.statistics.histogram import DEFAULT_LAYERS, OffsetHistogram, choose_layers, layer_histograms, tabulate
from atmviz.views.drawn import DrawnFigure, describe_preprocessing, describe_style
from atmviz.views.settings import HistogramSettings

if TYPE_CHECKING:
    from torch import nn

Images = Source | str | Path | Sequence[str | Path]


_SETTINGS = (HistogramSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)


@with_keywords(*_SETTINGS, without=("query", "shard", "checkpoint"))
def histogram(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Draw how far the channels of layers look, horizontally and vertically (Figs. 3, 6, 7).

    Args:
        source: An opened recording or its folder; or images: files, folders, globs, the name of a dataset, or an
            opened source. The bundled photographs without it. Images are recorded on the way; the recording is kept in
            the cache if `network` is a name or a file, so that the next figure needs no network.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        events: Receives messages, and how many images are recorded.
        settings: `layers` ("3_18" or ["2_1", "3_*"]; by default 2_1, 3_1 and 3_last), `tokens` ("center" or "all"),
            and `figure` (3, 6 or 7 sets dataset, size, layers and number of images as in the paper) of
            `HistogramSettings`; fields of `DataChoice`, e.g. `limit`, of `RecordingSettings`, e.g. `size`, and of
            `ModelChoice`; and of `FigureStyle`, e.g. `width="column"`.

    Returns:
        A matplotlib figure, one column per layer; of more than eight layers, a heat map for each axis.

    Raises:
        SettingsError: settings that exclude each other, or a setting that the recording has fixed.
        DatasetError: no readable image.
        LayerNotFoundError: the recording or the network has no such layer.
        CheckpointError: the network cannot be loaded, or has no sites.
        RecordingFormatError: the recording is damaged.

    Source: Figs. 3, 6 and 7.
    """
    return draw_histogram(source, network, events=events, **settings).figure


@with_keywords(*_SETTINGS, without=("query", "shard"))
def draw_histogram(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Draw a histogram and return it with file name, numbers and table; see `histogram`."""
    asked = _Request.of(source, network, settings)
    recording = asked.open_recording(events)
    if recording is not None:
        preset = asked.settings.preset
        if preset and (preset.dataset, list(preset.size)) != (
            recording.attrs["dataset"],
            recording.attrs["input_size"],
        ):
            shown = "×".join(map(str, preset.size))
            events.message(
                f"Fig. {preset.figure} shows {preset.dataset} at {shown} px: of a recording of other images only its "
                "layers are drawn"
            )
        return draw_recording(recording, asked.settings, asked.style)
    with asked.make_recording(events) as recording:
        return draw_recording(recording, asked.settings, asked.style)


def draw_recording(
    recording: Recording,
    settings: HistogramSettings = HistogramSettings(),  # noqa: B008
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> DrawnFigure:
    """Draw the histogram of a recording and return it with file name, numbers and table.

    Raises:
        LayerNotFoundError: a layer was not recorded.
        SettingsError: there are more layers than a figure can show.
    """
    chosen = choose_layers(recording, settings.chosen_layers)
    if 2 * len(chosen) > MAX_PANELS:
        raise SettingsError(
            f"got {len(chosen)} layers of 2 panels, expected at most {MAX_PANELS} panels: name fewer layers"
        )
    pairs = layer_histograms(recording, chosen, settings.tokens)
    histograms = [histogram for pair in pairs for histogram in pair]
    about = _about(recording, settings, chosen, style)
    checkpoint = recording.attrs["checkpoint"]
    weights = weights_name(recording.model, recording.trained, checkpoint["sha256"])
    figure = draw_histograms(
        pairs,
        title=_title(recording, settings, weights),
        note=_note(recording, settings),
        trained=recording.trained,
        style=style,
    )
    numbers = {
        **recording.summary(),
        "preprocessing": describe_preprocessing(recording.preprocessing),
        "panels": [describe_histogram(histogram) for histogram in histograms],
    }
    name = figure_name(recording.attrs["dataset"], "histogram", weights, chosen, about)
    return DrawnFigure(figure, name, numbers, about, tabulate(histograms), style)


def _about(
    recording: Recording, settings: HistogramSettings, layers: Sequence[str], style: FigureStyle
) -> dict[str, Any]:
    attrs = recording.attrs
    paths = [attrs["image_root"], *recording.images]  # told apart, but not disclosed
    return {
        "figure": "histogram",
        **{key: attrs.get(key) for key in ("model", "model_config", "checkpoint", "preprocessing", "query")},
        "data": {
            **{key: attrs.get(key) for key in ("dataset", "sampling")},
            "images": len(recording),
            "fingerprint of paths": sha256("\0".join(paths).encode(errors="surrogatepass")).hexdigest(),
        },
        "layers": list(layers),
        "tokens": settings.tokens,
        "style": describe_style(style),
    }


def describe_histogram(histogram: OffsetHistogram) -> dict[str, Any]:
    """Return the numbers of a histogram that are not in its table, ready for JSON."""
    return {
        "layer": histogram.site.name,
        "source": histogram.site.source,
        "axis": histogram.axis,
        "map_size": list(histogram.site.grid),
        "query": list(histogram.site.query),
        "channels": histogram.site.channels,
        "range": [histogram.first, histogram.last],
        "mean_abs_offset": histogram.mean_abs,
        "outside_share": histogram.outside_share,
    }


def _title(recording: Recording, settings: HistogramSettings, weights: str) -> str:
    height, width = recording.attrs["input_size"]
    query = recording.attrs["query"]
    token = "the center token" if query == "center" else f"query token {query}"
    which = "all tokens" if settings.tokens == "all" else token
    return f"{weights} on {recording.attrs['dataset']}, {height}×{width} px: offsets of {which}"


def _note(recording: Recording, settings: HistogramSettings) -> str:
    outside = "are in the bars" if settings.tokens == "all" else "have no bar"
    dataset = DATASETS.get(recording.attrs["dataset"])
    fitted = "scenes are drawn at this size" if dataset and dataset.is_drawn else recording.preprocessing.describe()
    images = count(len(recording), "image")
    return f"{images}; a sample counts for its nearest token; samples outside the map {outside}; {fitted}"


@dataclass(frozen=True)
class _Request:
    """The source of a histogram, and all that is needed to record it."""

    source: Recording | Images | None
    network: "nn.Module | str | Path | None"
    settings: HistogramSettings
    data: DataChoice
    running: RecordingSettings
    model: ModelChoice
    style: FigureStyle

    @classmethod
    def of(cls, source: Recording | Images | None, network: Any, values: dict[str, Any]) -> "_Request":
        settings, data, running, model, style = split_settings(values, *_SETTINGS)
        if isinstance(network, str | Path):
            network, model = None, replace(model, checkpoint=str(network))
        return cls(source, network, settings, data, running, model, style)

    def open_recording(self, events: Events) -> Recording | None:
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
            raise SettingsError(f"got the recording {recording.path} and {fixed}, which it has fixed: leave one out")
        if not recording.complete:
            events.message(f"{recording.path} is incomplete: drawing {count(len(recording), 'finished image')}")
        return recording

    def _fixed_by_recording(self) -> str:
        """Return the name of a setting that only makes sense for images; "" if none was given."""
        given = {"network": self.network is not None}
        for choice, names in (
            (self.data, ("dataset", "data_dir", "limit")),
            (self.running, ("size", "fit")),
            (self.model, ("checkpoint", "model", "weights")),
        ):
            usual = type(choice)()
            given |= {name: getattr(choice, name) != getattr(usual, name) for name in names}
        return next((name for name, is_given in given.items() if is_given), "")

    @contextmanager
    def make_recording(self, events: Events) -> Iterator[Recording]:
        """Record the images, or take their recording from the cache."""
        data, running, preset = self.data, self.running, self.settings.preset
        if preset:  # the caller's settings override the preset
            dataset: Any = data.dataset or (None if self.source else preset.dataset)
            data = replace(data, dataset=dataset, limit=data.limit or preset.limit)
            running = replace(running, size=running.size or preset.size)
        images = data.open(self.source, running.size, events)  # type: ignore[arg-type]
        if self.network is None:
            yield self._cached_recording(images, running, events)
        else:
            with TemporaryDirectory(prefix="atmviz-") as folder:
                yield self._record(images, running, Path(folder) / "recording", events)

    def _cached_recording(self, images: Source, running: RecordingSettings, events: Events) -> Recording:
        made: list[Path] = []

        def make(folder: Path) -> Recording:
            made.append(folder)
            return self._record(images, running, folder, events)

        request = RecordingRequest(images, self.model.checkpoint, self.model.weights, running)
        recording = cached_recording(request, make)
        if not made:
            require_model(recording.model, self.model.model, self.model.checkpoint)
            if running.strict:
                recording.require_all()
            events.message(f"using the cached recording {recording.path}")
            events.left_out(dict.fromkeys(recording.skipped, ""))
        return recording

    def _record(self, images: Source, running: RecordingSettings, folder: Path, events: Events) -> Recording:
        """Record all layers into a folder, after a check that the layers to draw exist."""
        from atmviz.observe import find_sites
        from atmviz.recording.run import record

        network = self.model.load(self.network, events)
        find_sites(network, self.settings.chosen_layers or DEFAULT_LAYERS)
        return record(images, network, out=folder, events=events, **vars(running))
