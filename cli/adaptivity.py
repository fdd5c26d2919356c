"""`atmviz adaptivity`: which part of the offsets adapts to content."""

from pathlib import Path
from typing import Any

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_ASKED, AnswerSettings

from . import options
from .console import print_rows, say_if_alone
from .delivery import deliver, prepare
from .progress import ProgressConsole


@options.with_settings(AnswerSettings, FigureStyle, without=("share_y",))
@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=(*NOT_ASKED, "layers"), recordings=True)
def adaptivity(
    sources: options.AnswerSource = None,
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
        prepare(out, kinds)
        from atmviz.views.adaptivity import draw_adaptivity

        drawn = draw_adaptivity(sources or None, events=events, **options.given(settings))
    deliver(drawn, out, kinds, as_json, _show)


def _show(drawn: Any) -> None:
    table = drawn.printed
    caption = "% of the mean square [95 % interval over images]; rms: its root, tokens"
    print_rows(None, table, table.to_numpy(), caption, texts=2)
