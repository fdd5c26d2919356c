"""`atmviz claims`: what the paper claims of offsets, as numbers with intervals and nulls."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_ASKED, ClaimSettings

from . import options
from .console import (
    print_line,
    print_rows,
    say_if_alone,
)
from .delivery import deliver, prepare
from .progress import ProgressConsole


@options.with_settings(ClaimSettings, FigureStyle, without=("share_y",))
@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=(*NOT_ASKED, "layers"), recordings=True)
def claims(
    sources: options.AnswerSource = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDING",
            help="A recording of the same images: print the differences, paired by image; by default none.",
            rich_help_panel="Answer",
        ),
    ] = None,
    baseline: options.Baseline = None,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Measure the paper's claims about offsets: depth, segment, scale, shape and boundary.

    Each number has a 95 % interval over images and a null: what it is without what is claimed. Without arguments, 400
    drawn scenes are recorded with the demonstration model.
    """
    kinds = options.parse_formats(formats)
    say_if_alone()
    with ProgressConsole("loading", "recording", "recorded images are kept in the cache") as events:
        prepare(out, kinds)
        from atmviz.views import draw_claims

        drawn = draw_claims(
            sources or None, against=against, baseline=baseline, events=events, **options.given(settings)
        )
    deliver(drawn, out, kinds, as_json, _show)


def _show(drawn: Any) -> None:
    """Print a table for each measure; without nulls and p-values, they fit 80 columns."""
    for measure, rows in drawn.printed.groupby("measure", sort=False):
        places = (rows["layer"] + " " + rows["axis"]).tolist()
        cells = rows.drop(columns=["measure", "layer", "axis", "null", "p"], errors="ignore")
        print_rows(measure, ["layer, axis", *cells], zip(places, *(cells[name] for name in cells), strict=True))
    print_line("effect: estimate less null [95 % interval over images]; a verdict holds by Holm over layers and axes")
