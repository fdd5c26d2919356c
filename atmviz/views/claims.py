"""The paper's claims about offsets as numbers with intervals and nulls, and reach against depth: recorded and drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import count, join_limited
from atmviz.events import QUIET, Events
from atmviz.figures.forest import draw_forest
from atmviz.figures.saving import figure_name, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.settings import split_settings, with_keywords
from atmviz.statistics.claims import claims_of, generating_sites
from atmviz.statistics.intervals import MIN_IMAGES
from atmviz.statistics.measures import DEFINITIONS
from atmviz.views.drawn import DrawnFigure, describe_preprocessing, describe_style
from atmviz.views.recordings import Images, RecordedSource, describe_source
from atmviz.views.settings import NOT_ASKED, ClaimSettings

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

PANELS = ("growth", "mirror_gap", "elasticity", "anisotropy", "boundary")
"""Measures that the figure shows."""
PRINTED = ("trend_growth", *PANELS)
"""Measures that the printed table shows: those that decide a claim."""
_SETTINGS = (ClaimSettings, DataChoice, RecordingSettings, ModelChoice, FigureStyle)
_HIDDEN = tuple(name for name in NOT_ASKED if name != "labels")


@with_keywords(*_SETTINGS, without=(*_HIDDEN, "checkpoint"))
def claims(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    against: Recording | str | Path | None = None,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Measure what the paper claims of offsets, and draw each measure with its interval and its null.

    Depth: does training lengthen offsets, and more so in deep layers? Segment: do they stay in the segment of their
    token? Scale and shape: are they longer on larger objects, and along the longer side? Boundary: do they end at the
    segment's border? `claims_table` gives the numbers, docs/definitions the definitions.

    Args:
        source: An opened recording or its folder; or images as in `histogram`, which are recorded on the way with the
            objects that their dataset knows. 400 drawn scenes without it.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        against: A recording of the same images: the differences are drawn, this recording less that one.
        baseline: A recording of the untrained network; without it, a formula stands for the untrained network.
        events: Receives messages, and how many images are recorded.
        settings: `layers`, by default all that generate offsets; `seed` of the draws of images; `labels`, a folder of
            masks of the images' names; other fields of `DataChoice`, `RecordingSettings`, `ModelChoice` and
            `FigureStyle`.

    Returns:
        A matplotlib figure, one panel per measure, layers from above.

    Raises:
        SettingsError: see `claims_table`, or settings that exclude each other or that the recording has fixed.
        DatasetError: no readable image, or annotations are missing.
        LayerNotFoundError: the recording or the network has no such layer.
        CheckpointError: the network cannot be loaded, or has no sites.
        RecordingFormatError: a recording is damaged.

    Source: Sec. 3.2, A2.1 and A2.2.
    """
    return draw_claims(source, network, against=against, baseline=baseline, events=events, **settings).figure


@with_keywords(*_SETTINGS, without=_HIDDEN)
def draw_claims(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    *,
    against: Recording | str | Path | None = None,
    baseline: Recording | str | Path | None = None,
    events: Events = QUIET,
    **settings: Any,
) -> DrawnFigure:
    """Measure and draw claims, and return the figure with file name, numbers and tables; see `claims`."""
    answer, data, running, model, style = split_settings(settings, *_SETTINGS)
    other, untrained = (None if each is None else open_recording(each) for each in (against, baseline))
    running = replace(running, labels=answer.labels)
    asked = RecordedSource.of(source, network, data, running, model)
    with asked.asking(("moments",), labels=True).recording(events) as recording:
        rows = claims_of(recording, answer.layers, against=other, baseline=untrained, seed=data.seed)
        _say_what_is_missing(recording, other, events)
        return _draw(recording, rows, other, untrained, style)


def _say_what_is_missing(recording: Recording, other: Recording | None, events: Events) -> None:
    """Report too few images, layers that are not compared, no labels, and recordings of other objects."""
    if len(recording) < MIN_IMAGES:
        events.message(
            f"got {count(len(recording), 'image')}, expected {MIN_IMAGES} or more: no intervals, no verdicts"
        )
    if any("hits" not in each.quantities for each in (recording, other) if each):
        events.message(
            "only depth is measured, because no objects are known: take shapes, ade20k or coco, or record with masks "
            "(labels)"
        )
    if other is not None:
        objects = [each.attrs.get("labels") for each in (recording, other)]
        if all(objects) and objects[0] != objects[1]:
            events.message(f"not of the same objects: {objects[0]} here, {objects[1]} there; only depth is comparable")
        names, others = generating_sites(recording), generating_sites(other)
        if left_out := [name for name in {**names, **others} if name not in names or name not in others]:
            events.message(f"layers that one of the recordings lacks are left out: {join_limited(left_out, 8)}")


def _draw(
    recording: Recording,
    rows: Sequence[dict[str, Any]],
    other: Recording | None,
    untrained: Recording | None,
    style: FigureStyle,
) -> DrawnFigure:
    import pandas

    sources = {"against": other, "baseline": untrained}
    about = {
        "figure": "claims",
        **describe_source(recording),
        **{name: None if each is None else describe_source(each) for name, each in sources.items()},
        "rows": len(rows),
        "style": describe_style(style),
    }
    panels = [
        (
            DEFINITIONS[measure].title,
            DEFINITIONS[measure].unit,
            [_as_drawn(row, other) for row in rows if row["measure"] == measure],
        )
        for measure in PANELS
    ]
    weights = weights_of(recording)
    less = f" less {weights_of(other)}" if other is not None else ""
    figure = draw_forest(
        [panel for panel in panels if panel[2]],
        title=f"{weights}{less} on {recording.attrs['dataset']}, {describe_size(recording)}: claims",
        note=_note(recording, other, untrained),
        trained=recording.trained,
        style=style,
    )
    numbers = {
        **recording.summary(),
        "preprocessing": describe_preprocessing(recording.preprocessing),
        "labels": recording.attrs.get("labels"),
        **{name: None if each is None else each.summary() for name, each in sources.items()},
        "rows": list(rows),
    }
    layers = list(dict.fromkeys(row["layer"] for row in rows if row["layer"] != "all"))
    name = figure_name(recording.attrs["dataset"], "claims", weights, layers, about)
    table = pandas.DataFrame(rows)
    return DrawnFigure(figure, name, numbers, about, table, style, printed_claims(rows, other is not None))


def _as_drawn(row: dict[str, Any], other: Recording | None) -> dict[str, Any]:
    """Return a row as it is drawn: of a difference the effect, whose null is 0."""
    if other is None:
        return row
    ends = {"estimate": row["effect"], "low": row["effect_low"], "high": row["effect_high"]}
    return {**row, **ends, "null": 0.0, "null_low": None, "null_high": None}


def weights_of(recording: Recording) -> str:
    """Return a name that tells the weights of a recording apart."""
    return weights_name(recording.model, recording.trained, recording.attrs["checkpoint"]["sha256"])


def describe_size(recording: Recording) -> str:
    """Return the input size of a recording like `128×128 px`."""
    height, width = recording.attrs["input_size"]
    return f"{height}×{width} px"


def _note(recording: Recording, other: Recording | None, untrained: Recording | None) -> str:
    images = count(len(recording), "image")
    if other is not None:
        return f"{images}; differences of effects (estimate less null), paired by image, with 95 % intervals"
    before = "a recording of the untrained network" if untrained else "the untrained network by formula"
    intervals = "95 % intervals over images" if len(recording) >= MIN_IMAGES else "too few for intervals"
    labels = recording.attrs.get("labels")
    nulls = "; of the others another image's offsets, permuted masks, or the border behind" if labels else ""
    return (
        f"{images}{f', {labels}' if labels else ''}; {intervals}. Null of growth: {before}{nulls}. "
        "Filled: decided after Holm's correction"
    )


def printed_claims(rows: Sequence[dict[str, Any]], differences: bool = False) -> "DataFrame":
    """Return the measures that decide claims as texts for people.

    Args:
        rows: See `claim_rows`.
        differences: They are differences of two recordings, of which the effects are shown.

    Returns:
        Columns `measure`, with its unit, `layer`, `axis`, `estimate` and `null`, `effect` with its interval (of two
        recordings only their `difference`), `images`, `p` after Holm's correction, and `verdict`.
    """
    import pandas

    printed = []
    for row in (row for measure in PRINTED for row in rows if row["measure"] == measure):
        definition = DEFINITIONS[row["measure"]]
        p = row["p_corrected"]
        value, low, high = (_number(row[name], 2) for name in ("effect", "effect_low", "effect_high"))
        printed.append(
            {
                **{"measure": f"{definition.title} ({definition.unit})", "layer": row["layer"], "axis": row["axis"]},
                **({} if differences else {name: _number(row[name], 2) for name in ("estimate", "null")}),
                "difference" if differences else "effect": f"{value} [{low}, {high}]" if low else value,
                "images": str(row["n_images"]),
                "p": "<0.001" if p < 0.001 else _number(p, 3),
                "verdict": row["verdict"],
            }
        )
    return pandas.DataFrame(printed)


def _number(value: float, digits: int) -> str:
    """Return a number with so many decimals; "" for NaN."""
    return "" if value != value else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.00
