"""`atmviz overlay`: Fig. 5."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.views.settings import OverlaySettings

from . import options
from .console import import_matplotlib, print_json, print_path
from .progress import shown


@options.with_settings(FigureStyle, without=("share_y",))
@options.with_settings(OverlaySettings, DataChoice, ModelChoice)
def overlay(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders or globs; a bundled photograph without one.",
            show_default=False,
        ),
    ] = None,
    out: options.FigureFolder = Path("."),
    formats: options.Format = "png",
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Draw which tokens a query samples, on the image (Fig. 5)."""
    kinds = options.parse_formats(formats)
    described = []
    with shown("loading the model", "drawing") as events:
        import_matplotlib()
        from atmviz.views import draw_overlays

        overlays = draw_overlays(sources or None, events=events, **options.given(settings))
        for drawn in overlays:
            files = drawn.save(out, kinds)
            described.append({"files": [str(file) for file in files], **drawn.numbers})
            if not as_json:
                for file in files:
                    print_path(file)
    if as_json:
        print_json({**overlays.numbers, "skipped": overlays.skipped, "images": described})
