"""Histograms of offsets: open or make a recording, count, draw (Figs. 3, 6, 7). Torch is loaded only to record."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count
from atmviz.events import QUIET, Events
from atmviz.figures.histograms import draw_histograms
from atmviz.figures.saving import figure_name, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import MAX_PANELS
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording
from atmviz.settings import split_settings, with_keywords
from atmviz.sources import DATASETS
from atmviz.statistics.histogram import DEFAULT_LAYERS, OffsetHistogram, choose_layers, layer_histograms, tabulate
from atmviz.views.drawn import DrawnFigure, describe_preprocessing, describe_style
from atmviz.views.recordings import Images, RecordedSource, describe_source
from atmviz.views.settings import HistogramSettings

if TYPE_CHECKING:
    from torch import nn

_SETTINGS = (HistogramSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)


@with_keywords(*_SETTINGS, without=("query", "shard", "labels", "keep", "checkpoint"))
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


@with_keywords(*_SETTINGS, without=("query", "shard", "labels", "keep"))
def draw_histogram(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Draw a histogram and return it with file name, numbers and table; see `histogram`."""
    chosen, data, running, model, style = split_settings(settings, *_SETTINGS)
    asked = RecordedSource.of(source, network, data, running, model)
    recording, preset = asked.opened(events), chosen.preset
    if recording is None:
        data, running = asked.data, asked.running
        if preset:  # the caller's settings override the preset
            dataset: Any = data.dataset or (None if source else preset.dataset)
            data = replace(data, dataset=dataset, limit=data.limit or preset.limit)
            running = replace(running, size=running.size or preset.size)
        layers = chosen.chosen_layers or DEFAULT_LAYERS
        with replace(asked, data=data, running=running, layers=layers).made(events) as recording:
            return draw_recording(recording, chosen, style)
    if preset and (preset.dataset, list(preset.size)) != (recording.attrs["dataset"], recording.attrs["input_size"]):
        shown = "×".join(map(str, preset.size))
        events.message(
            f"Fig. {preset.figure} shows {preset.dataset} at {shown} px: of a recording of other images only its "
            "layers are drawn"
        )
    return draw_recording(recording, chosen, style)


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
    return {
        "figure": "histogram",
        **describe_source(recording),
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
