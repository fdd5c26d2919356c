"""`atmviz intervene`."""

from pathlib import Path
from typing import Any

from atmviz.figures.settings import FigureStyle
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.intervention_settings import InterventionSettings

from . import options
from .console import METRIC_LABELS, print_rows, say_if_alone
from .delivery import deliver, prepare
from .evaluate import require_inputs
from .progress import ProgressConsole

_UNUSED = ("offsets", "confusion", "per_class", "axis", "share_y")


@options.with_settings(InterventionSettings, EvaluationSettings, FigureStyle, without=_UNUSED)
def intervene(
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Measure what learned offsets are worth: evaluate a checkpoint with others in their place.

    The network is not retrained; `atmviz ablate` trains networks without offsets. Processes of torchrun share the
    images.
    """
    kinds = options.parse_formats(formats)
    require_inputs(checkpoint, settings, settings["layers"] or ())
    say_if_alone()
    with ProgressConsole("loading the model", "evaluating") as events:
        prepare(out, kinds)
        from atmviz.views import intervene as measure

        drawn = measure(checkpoint, events=events, **options.given(settings))
    deliver(drawn, out, kinds, as_json, _show)


def _show(drawn: Any) -> None:
    """Print a row for each intervention and group of layers."""
    numbers = drawn.numbers
    rows = numbers["rows"]
    several = len({row["layer"] for row in rows}) > 1
    metric = METRIC_LABELS[rows[0]["metric"]]
    cells = [
        [
            *(row["intervention"], *([row["layer"]] if several else [])),
            *(_number(row["value"], ".1f"), _number(row["change"], "+.1f")),
            *(f"{row['low']:+.1f} to {row['high']:+.1f}" if row["low"] == row["low"] else None,),
            "<0.0001" if row["p_corrected"] < 1e-4 else _number(row["p_corrected"], ".1g"),
        ]
        for row in rows
    ]
    print_rows(
        "{model} on {dataset} {split}, {images} images: {metric} {:.1f} % with learned offsets".format(
            rows[0]["baseline"], metric=metric, **numbers
        ),
        ("offsets", *(["layer"] if several else []), f"{metric} (%)", "change", "95 % interval", "p"),
        cells,
        "change in percentage points, its interval over images; p by Holm for all rows\n"
        "not retrained: networks trained without offsets are trained by `atmviz ablate`",
        texts=1 + several,
    )


def _number(value: float, form: str) -> str | None:
    """Return a number as text; None for NaN."""
    return format(value, form) if value == value else None
