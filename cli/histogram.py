"""`atmviz histogram`: Figs. 3, 6 and 7."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError
from atmviz.figures.settings import FigureStyle
from atmviz.recording.array_files import is_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_RECORDED, HistogramSettings

from . import options
from .console import say_if_alone
from .delivery import deliver, prepare
from .progress import ProgressConsole


@options.with_settings(HistogramSettings, FigureStyle)
@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=NOT_RECORDED, recordings=True)
def histogram(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="A recording; or images, folders or globs. Default: the bundled photographs.",
            show_default=False,
        ),
    ] = None,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Draw histograms of the offsets of each layer, horizontal and vertical (Figs. 3, 6, 7).

    The offsets are recorded in a cache. Another layer or format is then drawn without running the model.
    """
    kinds = options.parse_formats(formats)
    if len([source for source in sources or () if is_recording(Path(source))]) > 1:
        raise SettingsError("got several recordings, expected one: atmviz compare draws two, atmviz merge joins them")
    say_if_alone()
    with ProgressConsole("loading", "recording", "recorded images are kept in the cache") as events:
        prepare(out, kinds)
        from atmviz.views import draw_histogram

        drawn = draw_histogram(sources or None, events=events, **options.given(settings))
    deliver(drawn, out, kinds, as_json)
