"""`atmviz depth`: reach against depth."""

from pathlib import Path
from typing import Any

from atmviz.choices import DataChoice, ModelChoice
from atmviz.figures.settings import FigureStyle
from atmviz.recording.settings import RecordingSettings
from atmviz.views.settings import NOT_ASKED, DepthSettings

from . import options
from .console import say_if_alone
from .delivery import deliver, prepare
from .progress import ProgressConsole


@options.with_settings(DepthSettings, FigureStyle)
@options.with_settings(DataChoice, RecordingSettings, ModelChoice, without=(*NOT_ASKED, "layers"), recordings=True)
def depth(
    sources: options.AnswerSource = None,
    baseline: options.Baseline = None,
    out: options.FigurePath = Path("."),
    formats: options.Format = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Draw how far each layer reaches, from the first to the last, beside the untrained network.

    Shown are the median, 50 % and 95 % of all samples of the layers that generate offsets. Without arguments, 400 drawn
    scenes are recorded with the demonstration model.
    """
    kinds = options.parse_formats(formats)
    say_if_alone()
    with ProgressConsole("loading", "recording", "recorded images are kept in the cache") as events:
        prepare(out, kinds)
        from atmviz.views import draw_depth

        drawn = draw_depth(sources or None, baseline=baseline, events=events, **options.given(settings))
    deliver(drawn, out, kinds, as_json)
