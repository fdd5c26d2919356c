"""Reach against depth: recorded and drawn. Torch is loaded only to record."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import count
from atmviz.events import QUIET, Events
from atmviz.figures.reach import ReachProfile, draw_reach
from atmviz.figures.saving import figure_name
from atmviz.figures.settings import FigureStyle
from atmviz.observe.site import AXES
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.settings import split_settings, with_keywords
from atmviz.statistics.reach import QUANTILES, reach_rows
from atmviz.views.claims import describe_size, weights_of
from atmviz.views.drawn import DrawnFigure, describe_preprocessing, describe_style
from atmviz.views.recordings import Images, RecordedSource, describe_source
from atmviz.views.settings import NOT_ASKED, DepthSettings

if TYPE_CHECKING:
    from torch import nn

_SETTINGS = (DepthSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)
_UNITS = {"tokens": "tokens", "px": "px", "percent": "% of the axis"}


@with_keywords(*_SETTINGS, without=(*NOT_ASKED, "checkpoint"))
def depth(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Draw how far each layer that generates offsets reaches: median, 50 % and 95 % of |offset|, of all tokens.

    Args:
        source: An opened recording or its folder, which keeps moments or labels; or images as in `histogram`. 400 drawn
            scenes without it.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        baseline: A recording of the untrained network, whose median is drawn beside; a formula stands for it otherwise.
        events: Receives messages, and how many images are recorded.
        settings: `layers`, by default all that generate offsets; `unit` ("tokens", "px" or "percent" of the axis);
            fields of `DataChoice`, `RecordingSettings`, `ModelChoice` and `FigureStyle`.

    Returns:
        A matplotlib figure, one panel per axis, layers from left to right.

    Raises:
        SettingsError, LayerNotFoundError, RecordingFormatError: see `depth_table`.
        DatasetError: no readable image.
        CheckpointError: the network cannot be loaded, or has no sites.

    Source: Figs. 3, 6 and 7; A2.2.
    """
    return draw_depth(source, network, baseline=baseline, events=events, **settings).figure


@with_keywords(*_SETTINGS, without=NOT_ASKED)
def draw_depth(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Draw reach against depth and return the figure with file name, numbers and table; see `depth`."""
    answer, data, running, model, style = split_settings(settings, *_SETTINGS)
    untrained = None if baseline is None else open_recording(baseline)
    asked = RecordedSource.of(source, network, data, running, model).asking(("moments",))
    with asked.recording(events) as recording:
        rows = reach_rows(recording, answer.layers, unit=answer.unit, baseline=untrained)
        return _draw(recording, rows, answer, untrained, style)


def _draw(
    recording: Recording,
    rows: list[dict[str, Any]],
    answer: DepthSettings,
    untrained: Recording | None,
    style: FigureStyle,
) -> DrawnFigure:
    import pandas

    layers = list(dict.fromkeys(row["layer"] for row in rows))
    about = {
        "figure": "depth",
        **describe_source(recording),
        "baseline": None if untrained is None else describe_source(untrained),
        **{"layers": layers, "unit": answer.unit, "style": describe_style(style)},
    }
    profiles = []
    for axis in AXES:
        of_axis = [row for row in rows if row["axis"] == axis]
        quantiles = np.array([[row[name] for name in QUANTILES] for row in of_axis])
        profiles.append(ReachProfile(axis, layers, quantiles, np.array([row["untrained_median"] for row in of_axis])))
    weights = weights_of(recording)
    before = "as recorded" if untrained else "by formula"
    figure = draw_reach(
        profiles,
        _UNITS[answer.unit],
        title=f"{weights} on {recording.attrs['dataset']}, {describe_size(recording)}: reach against depth",
        note=f"{count(len(recording), 'image')}, all tokens; layers that generate offsets; untrained network {before}",
        trained=recording.trained,
        style=style,
    )
    numbers = {
        **recording.summary(),
        "preprocessing": describe_preprocessing(recording.preprocessing),
        "baseline": None if untrained is None else untrained.summary(),
        "rows": rows,
    }
    name = figure_name(recording.attrs["dataset"], "depth", weights, layers, about)
    return DrawnFigure(figure, name, numbers, about, pandas.DataFrame(rows), style)
