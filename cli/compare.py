"""`atmviz compare`: the offsets of two recordings or two networks."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count
from atmviz.figures.settings import FigureStyle
from atmviz.recording.array_files import is_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_RECORDED, AnswerSettings

from . import completion, options
from .console import print_rows, say_if_alone
from .delivery import deliver, prepare
from .progress import ProgressConsole


@options.with_settings(AnswerSettings, FigureStyle)
@options.with_settings(
    DataChoice,
    RecordingSettings,
    ModelChoice,
    without=(*NOT_RECORDED, "keep", "labels", "checkpoint", "model"),
    recordings=True,
)
def compare(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="Two recordings; or images for two networks.", show_default=False),
    ] = None,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="Twice: networks to record on the same images, as checkpoint files or names; by default recordings.",
            rich_help_panel="Model",
            autocompletion=completion.checkpoints,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="init (offset layers before training) or a recording: adds growth over it. By default none.",
            rich_help_panel="Comparison",
        ),
    ] = None,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Compare the offsets of two recordings, or of two networks on the same images.

    Prints Wasserstein-1 distance, shift and reach of each layer and axis, and draws them.
    """
    kinds = options.parse_formats(formats)
    a, b = _pair(sources or [], checkpoints or [], settings.get("layers") or [])
    say_if_alone()
    with ProgressConsole("loading", "recording", "recorded images are kept in the cache") as events:
        prepare(out, kinds)
        from atmviz.views import draw_comparison

        images = (sources or None) if checkpoints else None
        drawn = draw_comparison(a, b, images, baseline=baseline, events=events, **options.given(settings))
    deliver(drawn, out, kinds, as_json, lambda drawn: _show(f"A: {a}, B: {b}", drawn.numbers["rows"]))


def _pair(sources: list[str], checkpoints: list[str], layers: list[str]) -> list[str]:
    """Return the two recordings or networks that are compared."""
    expected = "expected two recordings, or --checkpoint twice and images"
    pair = checkpoints or sources
    if len(pair) != 2:
        raise SettingsError(f"got {count(len(pair), 'checkpoint' if checkpoints else 'source')}, {expected}")
    for each in checkpoints:
        ModelChoice(checkpoint=each).require(layers)
    if others := [source for source in sources if not (checkpoints or is_recording(Path(source)))]:
        raise SettingsError(f"got {others[0]}, which is no recording, {expected}")
    return pair


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    has_baseline = "growth_a" in rows[0]
    growth = {"A/base": "growth_a", "B/base": "growth_b"} if has_baseline else {"B/A": "growth"}
    headings = ["layer, axis", "W1", "A", "B", *growth, "B - A", *([] if has_baseline else ["p"])]
    cells = [
        [
            f"{row['layer']} {row['axis']}",
            *(f"{row[name]:.2f}" for name in ("w1", "reach_a", "reach_b", *growth.values())),
            _interval(row, "difference"),
            *([] if has_baseline else [_p_value(row["p_corrected"])]),
        ]
        for row in rows
    ]
    p_value = "" if has_baseline else "; p: of A = B, by Holm"
    caption = f"tokens; A, B: mean |offset|; W1: Wasserstein-1 distance{p_value}; the CSV has all"
    print_rows(title, headings, cells, caption)


def _interval(row: dict[str, Any], name: str) -> str:
    """Return an estimate with its interval, where there is one; what rounds to 0 has no sign."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:z.2f}" + ("" if math.isnan(low) else f" [{low:z.2f}, {high:z.2f}]")


def _p_value(value: float) -> str | None:
    return None if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
