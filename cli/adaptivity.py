"""`atmviz adaptivity`: which part of the offsets adapts to content."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_RECORDED, AdaptivitySettings

from . import options
from .console import CONSOLE, import_matplotlib, is_main_process, print_json, print_paths, print_rows, say_if_alone
from .progress import ProgressConsole


@options.with_settings(AdaptivitySettings, FigureStyle, without=("share_y",))
@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=NOT_RECORDED, recordings=True)
def adaptivity(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="A recording made with --keep positions; or images, folders or globs. Default: 400 scenes of shapes.",
            show_default=False,
        ),
    ] = None,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Draw which part of the offsets is constant, position, image and content, by layer and axis.

    The parts are shares of the mean square. All 95 % intervals over images are in the CSV file and in --json.
    """
    kinds = options.parse_formats(formats)
    say_if_alone()
    with ProgressConsole("loading", "recording", "recorded images are kept in the cache") as events:
        import_matplotlib()
        from atmviz.views.adaptivity import draw_adaptivity, printed_shares

        drawn = draw_adaptivity(sources or None, events=events, **options.given(settings))
    if not is_main_process():
        return  # the first of torchrun's processes writes
    files = drawn.save(out, kinds, command=options.command_line(), events=CONSOLE)
    if as_json:
        print_json({"files": [str(file) for file in files], **drawn.numbers})
        return
    table = printed_shares(drawn.numbers["rows"])
    caption = "% of the mean square [95 % interval over images]; rms: its root, tokens"
    print_rows(None, table, table.to_numpy(), caption, texts=2)
    print_paths(files)
