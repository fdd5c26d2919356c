"""`atmviz explore`: a web page in which the samples of every query are explored."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError
from atmviz.explorer.settings import ExplorerSettings
from atmviz.recording.array_files import is_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_RECORDED

from . import options
from .console import import_matplotlib, is_main_process, print_json, print_paths, say_if_alone
from .progress import ProgressConsole


@options.with_settings(ExplorerSettings)
@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=NOT_RECORDED, recordings=True)
def explore(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="A recording that keeps maps; or images, folders or globs. Default: the bundled photographs.",
            show_default=False,
        ),
    ] = None,
    other: Annotated[
        str | None,
        typer.Option(
            "--and",
            metavar="OTHER",
            help="Compare with a recording of the same images; or, for images, with a checkpoint. By default none.",
            rich_help_panel="Data",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page, a file ending in .html.", rich_help_panel="Output")
    ] = Path("explorer.html"),
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Write one web page, for any browser and without a network, in which queries are moved over images.

    The offsets of every token are recorded in a cache. The page holds all it needs and asks for nothing else.
    """
    if len([source for source in sources or () if is_recording(Path(source))]) > 1:
        raise SettingsError("got several recordings, expected one: name the second one by --and")
    say_if_alone()
    with ProgressConsole("loading", "recording", "recorded images are kept in the cache") as events:
        import_matplotlib()
        from atmviz.explorer import explore as explore_images
        from atmviz.explorer.page import require_page

        require_page(out)
        page = explore_images(
            sources or None, other=other, command=options.command_line(), events=events, **options.given(settings)
        )
    if not is_main_process():
        return  # the first of torchrun's processes writes
    page.save(out)
    if as_json:
        print_json({"files": [str(out)], **page.numbers})
    else:
        print_paths([out])
