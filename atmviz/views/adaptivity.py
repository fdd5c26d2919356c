"""Which part of offsets is constant, position, image and content: open or make a recording, estimate, draw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import count
from atmviz.events import QUIET, Events
from atmviz.figures.adaptivity import draw_shares
from atmviz.figures.saving import figure_name
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording
from atmviz.settings import split_settings, with_keywords
from atmviz.statistics.adaptivity import PARTS, VarianceShares, channel_rows, layer_shares, share_rows
from atmviz.views.claims import describe_size, weights_of
from atmviz.views.drawn import DrawnFigure, describe_preprocessing, describe_style
from atmviz.views.recordings import Images, RecordedSource, describe_source
from atmviz.views.settings import NOT_ASKED, AnswerSettings

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

_SETTINGS = (AnswerSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)


@with_keywords(*_SETTINGS, without=(*NOT_ASKED, "checkpoint", "share_y"))
def adaptivity(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Draw which part of the offsets is constant, position, image and content, by layer and axis.

    Args:
        source: An opened recording that keeps positions, or its folder; or images, as `atmviz.histogram` takes them.
            400 scenes of shapes without it.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        events: Receives messages, and how many images are recorded.
        settings: `layers` of `AnswerSettings`, by default all that generate offsets; fields of `DataChoice`,
            `RecordingSettings`, `ModelChoice` and `FigureStyle`.

    Returns:
        A matplotlib figure: a stacked bar for each layer and axis, above the content shares of its channels.

    Raises:
        SettingsError: settings that exclude each other, a setting that the recording has fixed, a recording that does
            not keep positions, or fewer than two images.
        DatasetError: no readable image.
        LayerNotFoundError: the recording or the network has no such layer.
        CheckpointError: the network cannot be loaded, or has no sites.
        RecordingFormatError: the recording is damaged.

    Source: Sec. 3.2, which says that offsets adapt to content; the estimate is that of `statistics.adaptivity`.
    """
    return draw_adaptivity(source, network, events=events, **settings).figure


@with_keywords(*_SETTINGS, without=(*NOT_ASKED, "share_y"))
def draw_adaptivity(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Draw the parts of offsets and return the figure with file name, numbers and table; see `adaptivity`."""
    chosen, data, running, model, style = split_settings(settings, *_SETTINGS)
    asked = RecordedSource.of(source, network, data, running, model).asking(("positions",))
    with replace(asked, layers=chosen.layers).recording(events) as recording:
        return draw_recorded_adaptivity(recording, chosen, style)


def draw_recorded_adaptivity(
    recording: Recording,
    settings: AnswerSettings = AnswerSettings(),  # noqa: B008
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> DrawnFigure:
    """Draw the parts of recorded offsets and return the figure with file name, numbers and table.

    Raises:
        LayerNotFoundError: a layer was not recorded.
        SettingsError, RecordingFormatError: see `layer_shares`.
    """
    layers = layer_shares(recording, settings.layers)
    weights = weights_of(recording)
    about = {
        "figure": "adaptivity",
        **describe_source(recording),
        "layers": list(layers),
        "style": describe_style(style),
    }
    figure = draw_shares(
        {_label(recording, layer): shares for layer, shares in layers.items()},
        title=f"{weights} on {recording.attrs['dataset']}, {describe_size(recording)}: parts of the offsets",
        note=_note(layers),
        trained=recording.trained,
        style=style,
    )
    rows = share_rows(layers)
    numbers = {
        **recording.summary(),
        "preprocessing": describe_preprocessing(recording.preprocessing),
        "rows": rows,
        "channels": channel_rows(layers),
    }
    name = figure_name(recording.attrs["dataset"], "adaptivity", weights, list(layers), about)
    import pandas

    return DrawnFigure(figure, name, numbers, about, pandas.DataFrame(rows), style, printed_shares(rows))


def printed_shares(rows: Sequence[Mapping[str, Any]]) -> "DataFrame":
    """Return shares as texts for people, in percent; content with its interval, the root mean square in tokens.

    Args:
        rows: See `share_rows`.
    """
    import pandas

    return pandas.DataFrame(
        {
            "layer": row["layer"],
            "axis": row["axis"],
            **{part: _percent(row[part]) for part in PARTS},
            "content": _percent(row["content"], row["content_low"], row["content_high"]),
            "rms": f"{row['rms']:.2f}",
        }
        for row in rows
    )


def _percent(share: float, low: float = math.nan, high: float = math.nan) -> str:
    interval = "" if math.isnan(low) else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return "–" if math.isnan(share) else f"{100 * share:.1f}{interval}"


def _label(recording: Recording, layer: str) -> str:
    site = recording.site(layer)
    return site.name if site.is_source else f"{site.name}\nof {site.source}"


def _note(layers: Mapping[str, VarianceShares]) -> str:
    shares = next(iter(layers.values()))
    has_interval = any(interval.error >= 0 for part in shares.shares for interval in part)
    line = "line: 95 % interval of content" if has_interval else "too few images for intervals"
    return f"{count(shares.images, 'image')}, all tokens; {line}; below: content share of each channel, sorted"
