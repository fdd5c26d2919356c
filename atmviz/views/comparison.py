"""Two networks compared: open, take from the cache or make their recordings, compare, draw. Torch only to record."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count, describe
from atmviz.events import QUIET, Events
from atmviz.figures.comparison import BAND, SHOWN_PERCENT, draw_comparison, shown_layers
from atmviz.figures.saving import figure_name, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.recording.array_files import is_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.settings import split_settings, with_keywords
from atmviz.statistics.comparison import Baseline, Comparison, compare_recordings
from atmviz.views.drawn import DrawnFigure, describe_style
from atmviz.views.recordings import Images, RecordedSource, describe_source
from atmviz.views.settings import ComparisonSettings

if TYPE_CHECKING:
    from torch import nn

_SETTINGS = (ComparisonSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)


@with_keywords(*_SETTINGS, without=("query", "shard", "checkpoint", "model", "baseline"))
def compare(
    a: "Recording | nn.Module | str | Path",
    b: "Recording | nn.Module | str | Path",
    source: Images | None = None,
    *,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Compare the offsets of two recordings, or of two networks on the same images.

    Args:
        a, b: Two recordings, opened or as folders; or two networks, each in evaluation mode or what `load_model` takes.
        source: Images for two networks: files, folders, globs, the name of a dataset, or an opened source. Their
            recordings are kept in the cache if the network is a name or a file.
        baseline: "init" for untrained offset layers, or a recording: adds the growth of A and B over it.
        events: Receives messages, e.g. what is left out, and how many images are recorded.
        settings: `layers` ("3_18" or ["2_1", "3_*"]; by default all that generate offsets in both); fields of
            `DataChoice`, e.g. `limit`, of `RecordingSettings`, e.g. `size`, of `ModelChoice`, and of `FigureStyle`,
            e.g. `width="column"`.

    Returns:
        The figure; its `numbers` and `table` have the rows of `compare_recordings`.

    Raises:
        SettingsError: a recording and a network, or settings that exclude each other.
        LayerNotFoundError: the two have no layer in common, or not the layers asked for.
        DatasetError: no readable image.
        CheckpointError: a network cannot be loaded, or has no sites.
        RecordingFormatError: a recording is damaged or holds no finished image.
    """
    known = {} if isinstance(baseline, Recording) else {"baseline": baseline}
    chosen, data, running, model, style = split_settings({**settings, **known}, *_SETTINGS)
    against = _open_baseline(baseline if isinstance(baseline, Recording) else chosen.baseline)
    are_recordings = [_is_recording(each) for each in (a, b)]
    if any(are_recordings) and (not all(are_recordings) or source is not None):
        other = "images" if all(are_recordings) else "a network"
        raise SettingsError(f"got a recording and {other}, expected two recordings, or two networks and images")
    with ExitStack() as stack:
        sources = [
            RecordedSource.of(each, None, data, running, model)  # type: ignore[arg-type]
            if are_recordings[0]
            else RecordedSource.of(source, each, data, running, model)  # type: ignore[arg-type]
            for each in (a, b)
        ]
        first, second = (stack.enter_context(each.recording(events)) for each in sources)
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
    figure = draw_comparison(
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
    row, shown = comparison.rows[0], shown_layers(comparison, style)
    images = count(row["n_images"], "image")
    counted = [row["n_images_a"], row["n_images_b"]]
    histograms = "" if counted == [row["n_images"]] * 2 else f", histograms of {counted[0]:,} and {counted[1]:,}"
    parts = [
        f"{images}{histograms}",
        f"W₁ in tokens, with its 95 % interval over chunks of images, above histograms of {SHOWN_PERCENT} % of samples",
        f"bands: {BAND[0]} to {BAND[1]} % of images",
    ]
    if len(shown) < len(layers):
        parts.append(f"panels of {len(shown)} of {len(layers)} layers, the last part of all")
    return "; ".join([*parts, *comparison.left_out])
