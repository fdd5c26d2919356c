"""Two networks compared: open, take from the cache or make their recordings, compare, draw. Torch only to record."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count, describe
from atmviz.events import QUIET, Events
from atmviz.figures import comparison as drawing
from atmviz.figures.saving import figure_name, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.recording.array_files import is_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.settings import split_settings, with_keywords
from atmviz.statistics.comparison import Baseline, Comparison, compare_recordings
from atmviz.views.drawn import DrawnFigure, describe_style
from atmviz.views.recordings import Images, RecordedSource, describe_source
from atmviz.views.settings import AnswerSettings

if TYPE_CHECKING:
    from torch import nn

_SETTINGS = (AnswerSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)
_NOT_SHOWN = ("query", "shard", "checkpoint", "model", "keep", "labels")


@with_keywords(*_SETTINGS, without=_NOT_SHOWN)
def compare(
    a: "Recording | nn.Module | str | Path",
    b: "Recording | nn.Module | str | Path",
    source: Images | None = None,
    *,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Draw how the offsets of two recordings differ, or those of two networks on the same images.

    Args:
        a, b: Two recordings, opened or as folders; or two networks, each in evaluation mode or what `load_model` takes.
        source: Images for two networks, as `atmviz.histogram` takes them. Their recordings are kept in the cache if
            the network is a name or a file.
        baseline: "init" for offset layers before training, or a recording; drawn beside A and B.
        events: Receives messages, e.g. what is left out, and how many images are recorded.
        settings: `layers` of `AnswerSettings`, by default all that generate offsets in both; fields of
            `DataChoice`, `RecordingSettings`, `ModelChoice` and `FigureStyle`.

    Returns:
        A matplotlib figure: histograms over each other, reach of each image, reach against depth.

    Raises:
        SettingsError: a recording and a network, settings that exclude each other, or no such baseline.
        LayerNotFoundError: the two have no layer in common, or not the layers asked for.
        DatasetError: no readable image.
        CheckpointError: a network cannot be loaded, or has no sites.
        RecordingFormatError: a recording is damaged or holds no finished image.
    """
    return draw_comparison(a, b, source, baseline=baseline, events=events, **settings).figure


@with_keywords(*_SETTINGS, without=_NOT_SHOWN)
def draw_comparison(
    a: "Recording | nn.Module | str | Path",
    b: "Recording | nn.Module | str | Path",
    source: Images | None = None,
    *,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Draw a comparison and return it with file name, table and numbers; see `compare`.

    The table, and "rows" of the numbers, are those of `atmviz.statistics.comparison.compare_recordings`.
    """
    chosen, data, running, model, style = split_settings(settings, *_SETTINGS)
    against = _open_baseline(baseline)
    are_recordings = _is_recording(a), _is_recording(b)
    if are_recordings == (True, True) and source is None:
        asked = [RecordedSource.of(each, None, data, running, model) for each in (a, b)]  # type: ignore[arg-type]
    elif any(are_recordings):
        raise SettingsError(
            f"got recordings and {'images' if all(are_recordings) else 'a network'}, "
            "expected two recordings, or two networks and images"
        )
    else:
        asked = [RecordedSource.of(source, each, data, running, model) for each in (a, b)]  # type: ignore[arg-type]
    with ExitStack() as stack:
        first, second = (stack.enter_context(each.recording(events)) for each in asked)
        comparison = compare_recordings(first, second, chosen.layers, against, data.seed)
        for text in comparison.left_out:
            events.message(text)
        return _draw(first, second, against, comparison, style)


def _is_recording(source: Any) -> bool:
    return isinstance(source, Recording) or (isinstance(source, str | Path) and is_recording(Path(source)))


def _open_baseline(baseline: Recording | str | Path | None) -> Baseline | None:
    if baseline is None or baseline == "init":
        return baseline  # type: ignore[return-value]
    if not _is_recording(baseline):
        raise SettingsError(f"got baseline {describe(baseline)}, expected init or the folder of a recording")
    return open_recording(baseline)


def _draw(
    a: Recording, b: Recording, baseline: Baseline | None, comparison: Comparison, style: FigureStyle
) -> DrawnFigure:
    """Draw a comparison and return it with file name, numbers and table."""
    from pandas import DataFrame

    recordings = (a, b)
    weights = [weights_name(each.model, each.trained, each.attrs["checkpoint"]["sha256"]) for each in recordings]
    layers = list(dict.fromkeys(row["layer"] for row in comparison.rows))
    against = {"baseline": describe_source(baseline) if isinstance(baseline, Recording) else baseline}
    about = {
        "figure": "comparison",
        "a": describe_source(a),
        "b": describe_source(b),
        **(against if baseline else {}),
        "layers": layers,
        "style": describe_style(style),
    }
    trained = [each.trained for each in recordings]
    figure = drawing.draw_comparison(
        comparison,
        title=_title(a, b, weights),
        note=_note(comparison, layers, style),
        trained=False if False in trained else None if None in trained else True,
        style=style,
    )
    numbers = {
        "model": [each.model for each in recordings],
        "dataset": [each.attrs["dataset"] for each in recordings],
        "images": [len(each) for each in recordings],
        "a": a.summary(),
        "b": b.summary(),
        "left_out": comparison.left_out,
        "rows": comparison.rows,
    }
    dataset = "-".join(dict.fromkeys(numbers["dataset"]))
    name = figure_name(dataset, "comparison", "-".join(dict.fromkeys(weights)), layers, about)
    return DrawnFigure(figure, name, numbers, about, DataFrame(comparison.rows), style)


def _title(a: Recording, b: Recording, weights: list[str]) -> str:
    names, places = [], []
    for recording, name in zip((a, b), weights, strict=True):
        origin = {True: "", False: " (untrained)", None: " (weights of unknown origin)"}[recording.trained]
        names.append(f"{name}{origin}")
        places.append(f"{recording.attrs['dataset']}, {'×'.join(map(str, recording.attrs['input_size']))} px")
    if places[0] == places[1]:
        return f"A: {names[0]}, B: {names[1]}, on {places[0]}: offsets of all tokens"
    return f"A: {names[0]} on {places[0]}; B: {names[1]} on {places[1]}: offsets of all tokens"


def _note(comparison: Comparison, layers: list[str], style: FigureStyle) -> str:
    row, shown = comparison.rows[0], drawing.shown_layers(comparison, style)
    images = count(row["n_images"], "image")
    counted = [row["n_images_a"], row["n_images_b"]]
    histograms = (
        "" if counted == [row["n_images"]] * 2 else f", {counted[0]:,} in the histograms of A, {counted[1]:,} of B"
    )
    parts = [
        f"{images}{histograms}",
        f"W₁ in tokens [95 % interval over chunks of images]; {drawing.SHOWN_PERCENT} % of samples are shown",
        f"bands: {drawing.BAND[0]} to {drawing.BAND[1]} % of images",
    ]
    if len(shown) < len(layers):
        parts.append(f"histograms of {len(shown)} of {len(layers)} layers")
    return "; ".join([*parts, *comparison.left_out])
