"""Reach against depth: the distribution of |offset| of each layer as a line in its bands, beside the untrained one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from atmviz.figures.forest import MARKERS, axis_color
from atmviz.figures.legend import add_legend, legend_grid
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import NOTE, Look, ShownFigure, add_note, layout_above, wrap_note, wrap_title

_PANEL_INCHES = 3.1, 2.4  # for type of 9 points
_LIGHT, _DARK = 0.18, 0.4  # opacity of the bands of 95 % and 50 %


@dataclass(frozen=True)
class ReachProfile:
    """|offset| of the layers along one axis.

    Attributes:
        axis: "horizontal" or "vertical".
        layers: Names of the layers that generate offsets, L in order.
        quantiles: Quantiles 2.5, 25, 50, 75 and 97.5 % of |offset|, [L, 5].
        untrained: Median of |offset| of the untrained network, [L].
    """

    axis: str
    layers: Sequence[str]
    quantiles: np.ndarray
    untrained: np.ndarray


def draw_reach(
    profiles: Sequence[ReachProfile],
    unit: str,
    *,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> Figure:
    """Return a figure with a panel for each axis: reach against depth.

    Args:
        profiles: What is drawn, of one axis or of both.
        unit: Unit of reach.
        title: Text above the panels.
        note: Text at the foot.
        trained: Whether the weights are trained, see `draw_histograms`.
        style: How it looks in print.
    """
    look = Look.of(style)
    shown = [profile for profile in profiles if style.axis in ("both", profile.axis)]
    scale, columns = look.points / 9, min(style.columns or len(shown), len(shown))
    width = look.width or max(_PANEL_INCHES[0] * scale * columns, 4.2 * scale)
    lines = -(-len(shown) // columns)
    height = lines * max(min(0.75 * width / columns, _PANEL_INCHES[1] * scale), 18 * look.points / 72)
    note, foot = wrap_note(note if style.legend else "", width, trained, look.small)
    title, head = wrap_title(title, width, look.points + 1) if style.title else ("", 0.0)
    entries = _legend(look) if style.legend else []
    across, key = legend_grid(entries, width, look)
    with look.applied():
        figure = ShownFigure(figsize=(width, height + head + foot + key + 0.1), layout="constrained")
        layout_above(figure, foot + key)
        axes = figure.subplots(lines, columns, squeeze=False, sharey=style.share_y)
        for index, (panel, profile) in enumerate(zip(axes.flat, shown, strict=False)):
            _draw_panel(panel, profile, look, width / columns - 5 * look.points / 72)
            panel.set_ylabel(f"|offset| ({unit})" if index % columns == 0 else "")
        for panel in list(axes.flat)[len(shown) :]:
            panel.set_visible(False)
        add_legend(figure, entries, across, foot, look)
        if title:
            figure.suptitle(title, fontsize=look.points + 1)
        add_note(figure, note, trained, look.small)
    return figure


def _draw_panel(panel: Axes, profile: ReachProfile, look: Look, width: float) -> None:
    """Draw the lines and bands of an axis on `width` inches."""
    color, places = axis_color(profile.axis, look), np.arange(len(profile.layers))
    low, lower, median, upper, high = profile.quantiles.T
    panel.fill_between(places, low, high, color=color, alpha=_LIGHT, lw=0)
    panel.fill_between(places, lower, upper, color=color, alpha=_DARK, lw=0)
    size: Any = {"lw": 1.5, "ms": 0.5 * look.points}
    panel.plot(places, median, color=color, marker=MARKERS[profile.axis], **size)
    panel.plot(places, profile.untrained, color=NOTE, ls="--", lw=1.2)
    longest = max(map(len, profile.layers)) + 1
    step = -(-len(places) * 0.64 * longest * look.points // (72 * width))  # as many labels as fit
    panel.set_xticks(places[:: int(step)], profile.layers[:: int(step)])
    panel.set_title(profile.axis)
    panel.set_xlabel("layer")
    panel.set_ylim(bottom=0)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(look: Look) -> list[Any]:
    """Return what lines and bands mean, in grey: each axis has a color of its own."""
    return [
        Line2D([], [], color=NOTE, lw=1.5, marker="o", ms=0.5 * look.points, label="median"),
        Patch(color=NOTE, alpha=_DARK, lw=0, label="50 % of samples"),
        Patch(color=NOTE, alpha=_LIGHT, lw=0, label="95 % of samples"),
        Line2D([], [], color=NOTE, ls="--", lw=1.2, label="untrained, median"),
    ]
