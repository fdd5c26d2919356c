"""`atmviz overlay`: Fig. 5."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.views.settings import OverlaySettings, is_moving, moving_path

from . import options
from .console import CONSOLE, print_json, print_paths
from .delivery import prepare
from .progress import ProgressConsole


@options.with_settings(FigureStyle, without=("share_y",))
@options.with_settings(OverlaySettings, DataChoice, ModelChoice)
def overlay(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders or globs, or a clip. Default: a bundled photograph.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for figures and their data, or a file: NAME.png, .pdf or .svg; with .mp4 or .gif it moves.",
            rich_help_panel="Output",
        ),
    ] = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Draw on an image the tokens that a query token samples (Fig. 5)."""
    kinds = options.parse_formats(formats)
    moves = is_moving(sources or (), out, settings["queries"] or ())
    if moves:
        moving_path(out, "", kinds)
    described = []
    with ProgressConsole("loading the model", "drawing", unit="frames" if moves else "images") as events:
        prepare(out, kinds)
        from atmviz.views import draw_moving, draw_overlays

        overlays = (draw_moving if moves else draw_overlays)(sources or None, events=events, **options.given(settings))
        for drawn in overlays:
            files = drawn.save(out, kinds, command=options.command_line(), events=CONSOLE)
            described.append({"files": [str(file) for file in files], **drawn.numbers})
            if not as_json:
                print_paths(files)
    if as_json:
        print_json({**overlays.numbers, "skipped": overlays.skipped, "images": described})
