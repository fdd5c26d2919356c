"""`atmviz histogram`: Figs. 3, 6 and 7."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_RECORDED, HistogramSettings

from . import options
from .console import CONSOLE, import_matplotlib, is_main_process, print_json, print_path, say, say_if_alone
from .progress import shown


@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=NOT_RECORDED)
@options.with_settings(HistogramSettings, FigureStyle)
def histogram(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="A recording, or images, folders or globs; the bundled photographs without one.",
            show_default=False,
        ),
    ] = None,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Draw how far the channels of each layer look, horizontally and vertically (Figs. 3, 6, 7).

    The recording behind the figure is cached: another layer or format is drawn without the model.
    """
    kinds = options.parse_formats(formats)
    say_if_alone()
    try:
        with shown("loading", "recording") as events:
            import_matplotlib()
            from atmviz.views import draw_histogram

            drawn = draw_histogram(sources or None, events=events, **options.given(settings))
    except KeyboardInterrupt:
        say("interrupted: recorded images are kept in the cache; the same command resumes")
        raise typer.Exit(130) from None
    if not is_main_process():
        return  # the first of torchrun's processes writes
    files = drawn.save(out, kinds, command=options.command_line(), events=CONSOLE)
    if as_json:
        print_json({"files": [str(file) for file in files], **drawn.numbers})
    else:
        for file in files:
            print_path(file)
