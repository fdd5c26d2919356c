"""What other offsets change: bars of the change of a metric, and curves of it against the radius of clamped offsets."""

from collections.abc import Sequence
from itertools import cycle
from math import isfinite, nan
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import offset_copy

from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import NOTE, Look, ShownFigure, add_note, layout_above, wrap_note, wrap_title

Row = dict[str, Any]
REACHES = {1: "CycleMLP, Shift", 2: "AS-MLP of shift size 5"}
"""Mixers of fixed offsets, by the farthest token that they read along an axis.

Source: released code: `CycleFC` of CycleMLP, kernels of 1x3 and 3x1; `shift_feat` of ShiftViT, one token to each side;
`AxialShift` of AS-MLP, whose default shift size of 5 is -2 to 2 tokens.
"""
_LABELS = {"top1": "top-1", "miou": "mIoU", "box_ap": "box AP"}
_WIDEST = 5.8, 1.15  # inches of a figure without a width, and of a panel of several, for type of 9 and 7 points
_BAR, _INK = "0.65", "0.15"
_MARKERS = "osD^vPX*"


def draw_interventions(
    rows: Sequence[Row],
    *,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> Figure:
    """Return a figure of bars, one panel per intervention where there are several groups of layers, and of curves.

    Several clamps of one group are drawn as a curve against their radius, all other interventions as bars.

    Args:
        rows: See `InterventionResult` of `atmviz.training.intervene`.
        title: Text above the panels.
        note: Text at the foot.
        trained: Whether the weights are trained. False adds "untrained weights", None "weights of unknown origin".
        style: How it looks in print.
    """
    look = Look.of(style)
    scale = look.points / 9
    clamps = [row for row in rows if isfinite(_radius(row))]
    curves = clamps if len({_radius(row) for row in clamps}) > 1 else []
    bars = [row for row in rows if row not in curves]
    width = look.width or _WIDEST[0] * scale
    heights = []
    if bars:
        panels = _panels(bars)
        columns = _columns(len(panels), width, look, style.columns)
        longest = max(map(len, panels.values()))
        heights.append(-(-len(panels) // columns) * (0.2 * longest + 0.45) * scale + 0.35 * scale)
    if curves:
        heights.append(min(0.62 * width, 2.9 * scale))
    foot_note, foot = wrap_note(note if style.legend else "", width, trained, look.small)
    title, head = wrap_title(title, width, look.points + 1) if style.title else ("", 0.0)
    with look.applied():
        figure = ShownFigure(figsize=(width, sum(heights) + head + foot + 0.1), layout="constrained")
        layout_above(figure, foot)
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        if bars:
            _draw_bars(parts[0], panels, columns, f"change of {_LABELS[rows[0]['metric']]} (percentage points)")
        if curves:
            _draw_curves(parts[-1], curves, look, style.legend)
        if title:
            figure.suptitle(title, fontsize=look.points + 1)
        add_note(figure, foot_note, trained, look.small)
    return figure


def _radius(row: Row) -> float:
    """Return the radius of a clamp; NaN for another intervention."""
    name, _, argument = row["intervention"].partition(":")
    return float(argument) if name == "clamp" else nan


def _panels(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each panel: by intervention; all in one where there is one group of layers."""
    several = len({row["layer"] for row in rows}) > 1
    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(row["intervention"] if several else "", []).append(row)
    return panels


def _columns(panels: int, width: float, look: Look, asked: int | None) -> int:
    """Return the number of panels in a row, as fill rows evenly."""
    most = asked or max(int((width - 0.08 * look.points) / (_WIDEST[1] * look.points / 7)), 1)
    return min(asked, panels) if asked else -(-panels // -(-panels // min(most, 5)))


def _draw_bars(part: SubFigure, panels: dict[str, list[Row]], columns: int, label: str) -> None:
    axes = part.subplots(-(-len(panels) // columns), columns, squeeze=False, sharex=True, sharey=True)
    for panel, (title, rows) in zip(axes.flat, panels.items(), strict=False):
        names = [row["layer"] if title else row["intervention"] for row in rows]
        panel.barh(names, [row["change"] for row in rows], color=_BAR, height=0.7, linewidth=0)
        panel.hlines(names, [row["low"] for row in rows], [row["high"] for row in rows], color=_INK)
        panel.axvline(0, color=_INK, linewidth=0.8)
        panel.set_title(title)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    axes[0, 0].invert_yaxis()
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    for column in range(columns):  # the lowest panel of each column, also above an empty place
        lowest = [panel for panel in axes[:, column] if panel.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
    part.supxlabel(label, fontsize=mpl.rcParams["axes.labelsize"])


def _draw_curves(part: SubFigure, rows: Sequence[Row], look: Look, with_legend: bool) -> None:
    """Draw the metric against the radius of clamps, a line for each group of layers, above its legend."""
    panel, root = part.subplots(), part.get_figure(root=True)
    names = list(dict.fromkeys(row["layer"] for row in rows))
    shades = mpl.colormaps["viridis"].resampled(max(len(names), 2) + 1)
    for index, (name, marker) in enumerate(zip(names, cycle(_MARKERS), strict=False)):
        line = sorted(((_radius(row), row) for row in rows if row["layer"] == name), key=lambda pair: pair[0])
        radii, values = [radius for radius, _ in line], [row["value"] for _, row in line]
        color = shades(index / max(len(names), 2))
        shift = 0.3 * look.points * (index - (len(names) - 1) / 2) / max(len(names) / 4, 1)  # side by side
        beside = offset_copy(panel.transData, root, x=shift, units="points")
        looks: dict[str, Any] = {"marker": marker, "markersize": 0.5 * look.points, "label": _layer_label(name)}
        panel.plot(radii, values, color=color, transform=beside, **looks)
        low, high = ([row["baseline"] + row[end] for _, row in line] for end in ("low", "high"))
        panel.vlines(radii, low, high, color=color, linewidth=0.8, transform=beside)
    panel.axhline(rows[0]["baseline"], color=NOTE, linestyle="--", linewidth=1, label="learned offsets")
    _scale_radii(panel, sorted({*map(_radius, rows)}))
    shown = [row["baseline"] + change for row in rows for change in (0, *(row[x] for x in ("change", "low", "high")))]
    bottom, top = min(filter(isfinite, shown), default=0), max(filter(isfinite, shown), default=0)
    room = 0.05 * (top - bottom) or 1
    panel.set_ylim(bottom - room, top + room)
    panel.set(xlabel="largest offset (tokens)", ylabel=f"{_LABELS[rows[0]['metric']]} (%)")
    panel.spines[["top", "right"]].set_visible(False)
    if with_legend:
        columns = max(int(root.get_figwidth() / (0.24 * look.small)), 1)
        part.legend(loc="outside lower center", ncols=columns, fontsize=look.small, frameon=False)


def _layer_label(name: str) -> str:
    return "all layers" if name == "all" else name


def _scale_radii(panel: Axes, radii: list[float]) -> None:
    """Let powers of two lie equally far apart, mark the radii, and the reach of mixers of fixed offsets."""
    if radii[0] > 0:
        panel.set_xscale("log", base=2)
    else:
        panel.set_xscale("symlog", base=2, linthresh=radii[1])
    panel.set_xticks(radii)
    panel.set_xlim(radii[0] / 1.25 if radii[0] > 0 else -radii[1] / 5, 1.25 * radii[-1])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda radius, _: f"{radius:g}"))
    panel.minorticks_off()
    for (reach, name), line in zip(REACHES.items(), (":", "-."), strict=True):
        if radii[0] <= reach <= radii[-1]:
            panel.axvline(reach, color=NOTE, linestyle=line, linewidth=1, label=f"reach of {name} ({reach})")
