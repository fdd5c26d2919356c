"""What learned offsets are worth: evaluate with other offsets, draw the changes. Torch is loaded when it runs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmviz.errors import count
from atmviz.events import QUIET, Events
from atmviz.figures import interventions as figures
from atmviz.figures.saving import figure_name, fingerprint, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.settings import split_settings, with_keywords
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.intervention_settings import InterventionSettings
from atmviz.views.drawn import DrawnFigure, describe_style
from atmviz.views.recordings import ANSWER_SCENES

if TYPE_CHECKING:
    from atmviz.training.intervene import InterventionResult

NOT_CHANGED = ("offsets", "confusion", "per_class", "axis", "share_y")
"""Settings of evaluations and figures that interventions do not have."""
_SETTINGS = (InterventionSettings, EvaluationSettings, FigureStyle)


@with_keywords(*_SETTINGS, without=NOT_CHANGED)
def intervene(checkpoint: str | Path = "atmnet_nano.shapes", *, events: Events = QUIET, **settings: Any) -> DrawnFigure:
    """Measure what learned offsets are worth: evaluate a network with others in their place, without retraining it.

    Args:
        checkpoint: What `evaluate` takes: a file, the folder of a run, or a name.
        events: Receives messages, and how many images of all evaluations are done.
        settings: `do` ("zero", "clamp:0.5,1,2" or several; see `KINDS` of `atmviz.observe.interventions`), `by`,
            `layers` and `calibration` of `InterventionSettings`; fields of `EvaluationSettings`, e.g. `dataset` and
            `limit` (400 where neither is given); and of `FigureStyle`, e.g. `width="column"`.

    Returns:
        The figure, with one row for each intervention and group of layers in `table`: metric with and without the
        intervention in percent, the change with its 95 % interval over images, and its p-value.

    Raises:
        SettingsError: no such intervention, or none that these images permit.
        LayerNotFoundError: the network has no such layer.
        CheckpointError, DatasetError, AtmvizError: see `evaluate`.

    >>> intervene(do=["zero", "clamp:1"], limit=300).table  # doctest: +SKIP
    """
    from atmviz.training.intervene import measure_interventions

    asked, evaluation, style = split_settings(settings, *_SETTINGS)
    if evaluation.dataset is evaluation.limit is None:
        evaluation = replace(evaluation, limit=ANSWER_SCENES)
        events.message(f"evaluating the first {ANSWER_SCENES} images: choose a limit for more")
    return draw_result(measure_interventions(checkpoint, asked, evaluation, events=events), style)


def draw_result(result: "InterventionResult", style: FigureStyle = FigureStyle()) -> DrawnFigure:  # noqa: B008
    """Draw what interventions change, and return it with file name, numbers and table."""
    from pandas import DataFrame

    setup, rows, origin = result.setup, result.rows, result.origin
    names = {key: list(dict.fromkeys(row[key] for row in rows)) for key in ("intervention", "layer")}
    about = {
        "figure": "interventions",
        **{"model": origin.model, "model_config": origin.config, "checkpoint": origin.identity},
        **{"data": {name: setup[name] for name in setup if name not in ("checkpoint", "model", "weights")}},
        "fingerprint of values": fingerprint({"values": [row["value"] for row in rows]}),  # tells folders apart
        **{"interventions": names["intervention"], "layers": names["layer"], "style": describe_style(style)},
    }
    weights = weights_name(origin.model, origin.trained, origin.sha256)
    figure = figures.draw_interventions(
        rows,
        title="{} on {dataset} {split}, {}: worth of offsets".format(weights, count(setup["images"], "image"), **setup),
        note=_note(result),
        trained=origin.trained,
        style=style,
    )
    numbers = {**setup, "retrained": False, "rows": rows}
    name = figure_name(setup["dataset"], "interventions", weights, names["layer"], about)
    return DrawnFigure(figure, name, numbers, about, DataFrame(rows), style)


def _note(result: "InterventionResult") -> str:
    calibration = result.setup["calibration"]
    means = "; means over {images} images of {split}".format(**calibration) if calibration else ""
    baseline = f"{result.rows[0]['baseline']:.1f} % with learned offsets"
    known = any(row["low"] == row["low"] for row in result.rows)
    intervals = "lines: 95 % intervals of the change over images" if known else "too few images for intervals"
    return f"not retrained; {baseline}; {intervals}{means}"
