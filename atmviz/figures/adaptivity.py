"""Parts of offsets as stacked bars, one per layer and axis, and below each bar the content share of its channels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from atmviz.figures.key import add_key, key_height
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import NOTE, Look, ShownFigure, add_note, layout_above, wrap_note, wrap_title
from atmviz.observe.site import AXES
from atmviz.statistics.adaptivity import PARTS, VarianceShares

# From below; apart in grey too, and no color of an axis
_COLORS = {"content": "#2a9d6f", "image": "#b9a6d3", "position": "#54418a", "constant": "#dedede"}
_SYMBOLS = {"horizontal": "_", "vertical": "|"}  # below each bar, along its offsets
_LAYER_INCHES = 0.42  # least width of a layer's two bars, for type of 7 points
_BAND_INCHES = 2.6  # height of bars and what is below them, for type of 9 points
_USUAL_INCHES = 6.4  # width for type of 9 points where none is given
_HEIGHTS = (3, 1)  # of the bars and of what is below them


def draw_shares(
    layers: Mapping[str, VarianceShares],
    *,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> Figure:
    """Return a figure with a stacked bar for each layer and axis: content at the foot, with its interval.

    Below each bar stand the content shares of its channels, the largest first. A part estimated below 0 is drawn as 0.

    Args:
        layers: The parts by name of the layer.
        title: Text above the panels, e.g. data, model, input size.
        note: Text at the foot: how many images, what was estimated.
        trained: Whether the weights are trained. False adds "untrained weights", None "weights of unknown origin".
        style: How it looks in print.
    """
    look, names = Look.of(style), list(layers)
    axes = [axis for axis in AXES if style.axis in ("both", axis)]
    width = look.width or _USUAL_INCHES * look.points / 9
    most = style.columns or max(int((width - 0.6) / (_LAYER_INCHES * look.points / 7)), 1)
    bands = -(-len(names) // most)
    columns = -(-len(names) // bands)
    entries = _entries(axes, look) if style.legend else {}
    note, below = wrap_note(note if style.legend else "", width, trained, look.small)
    foot = below + (key_height(list(entries), width, look) if entries else 0)
    title, head = wrap_title(title, width, look.points + 1) if style.title else ("", 0.0)
    height = bands * _BAND_INCHES * look.points / 9 + head + foot
    with look.applied():
        figure = ShownFigure(figsize=(width, height), layout="constrained")
        layout_above(figure, foot)
        panels = figure.subplots(2 * bands, 1, height_ratios=_HEIGHTS * bands, squeeze=False)[:, 0]
        for band in range(bands):
            shown = {name: layers[name] for name in names[band * columns : (band + 1) * columns]}
            _draw_band(panels[2 * band], panels[2 * band + 1], shown, axes, look, columns)
        if title:
            figure.suptitle(title, fontsize=look.points + 1)
        if entries:
            add_key(figure, entries, look, below)
        add_note(figure, note, trained, look.small)
    return figure


def _entries(axes: Sequence[str], look: Look) -> dict[str, Line2D]:
    """Return the symbols of the legend by their text."""
    parts = {part: Line2D([], [], ls="", marker="s", mfc=_COLORS[part], mec=NOTE, mew=0.4) for part in PARTS}
    return parts | {axis: _symbol(axis, look) for axis in axes}


def _symbol(axis: str, look: Look) -> Line2D:
    return Line2D([], [], ls="", marker=_SYMBOLS[axis], mec=look.colors[axis], mew=2)  # type: ignore[index]


def _draw_band(
    bars: Axes, channels: Axes, layers: Mapping[str, VarianceShares], axes: Sequence[str], look: Look, columns: int
) -> None:
    """Draw layers side by side: their bars, and the content share of each of their channels."""
    width = 0.76 / len(axes)
    for column, shares in enumerate(layers.values()):
        for place, axis in enumerate(axes):
            middle = column + (place - (len(axes) - 1) / 2) * (width + 0.04)
            _draw_bar(bars, middle, width, shares, AXES.index(axis))
            _draw_channels(channels, middle, width, shares, axis, look)
            symbol = _symbol(axis, look)
            symbol.set(data=([middle], [-0.045]), transform=bars.get_xaxis_transform(), clip_on=False)
            symbol.set_markersize(0.7 * look.points)
            bars.add_artist(symbol)
    bars.set(ylabel="share of the\nmean square (%)", ylim=(0, 100))
    channels.set(ylabel="content (%)\nby channel", ylim=(0, 100), yticks=(0, 100))
    channels.set_xticks(range(len(layers)), list(layers))
    bars.set_xticks([])
    for panel in (bars, channels):
        panel.set_xlim(-0.5, columns - 0.5)
        panel.tick_params(axis="x", length=0)
        panel.spines[["top", "right"]].set_visible(False)


def _draw_bar(panel: Axes, middle: float, width: float, shares: VarianceShares, axis: int) -> None:
    intervals = {part: shares.shares[PARTS.index(part)][axis] for part in _COLORS}
    content = intervals["content"]
    if not np.isfinite(content.estimate):
        panel.text(middle, 50, "–", ha="center", va="center", color=NOTE)
        return
    bottom = 0.0
    for part, interval in intervals.items():
        height = 100 * max(interval.estimate, 0)
        panel.bar(middle, height, width, bottom, color=_COLORS[part], edgecolor=NOTE, linewidth=0.4, gid=part)
        bottom += height
    panel.vlines(
        middle,
        100 * content.low,
        100 * content.high,
        color="black",
        lw=1.2,
        path_effects=[withStroke(linewidth=2.4, foreground="white")],
        gid="interval",
    )


def _draw_channels(panel: Axes, middle: float, width: float, shares: VarianceShares, axis: str, look: Look) -> None:
    """Draw the content share of each distinct offset, the largest at the left; one that is always 0 is left out."""
    values = shares.channel_shares[PARTS.index("content"), AXES.index(axis)]
    values = np.sort(100 * np.clip(values[np.isfinite(values)], 0, 1))[::-1]
    edges = np.linspace(middle - width / 2, middle + width / 2, len(values) + 1)
    panel.stairs(values, edges, fill=True, color=look.colors[axis], lw=0, gid=axis)  # type: ignore[index]
