"""Forest plots: layers down, each estimate with its interval beside its null, one panel per measure."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from atmviz.figures.legend import add_legend, legend_grid
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import NOTE, Look, ShownFigure, add_note, layout_above, wrap, wrap_note, wrap_title

MARKERS = {"horizontal": "o", "vertical": "D", "both": "s"}
_PLACES = {"horizontal": -0.2, "vertical": 0.2, "both": 0.0}  # of a marker in the row of its layer
_NAMES = {"both": "ratio of both axes"}
_NULL = "#c8c8c8"
_OPEN = "not decidable"
_NARROWEST_INCHES = 1.35  # of a panel, for type of 7 points
_MOST_COLUMNS = 3  # where no width is given
_WIDEST_INCHES = 2.6  # of a panel where no width is given, for type of 9 points
_ROW, _FRAME = 2.3, 6.0  # heights of a layer, and of title and labels, in the size of type


def draw_forest(
    panels: Sequence[tuple[str, str, Sequence[dict[str, Any]]]],
    *,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> Figure:
    """Return a figure with a panel for each measure, and a row in it for each layer.

    Args:
        panels: Title, unit and rows of each measure, see `atmviz.statistics.measures.claim_rows`. All are drawn with
            the same layers.
        title: Text above the panels.
        note: Text at the foot.
        trained: Whether the weights are trained, see `draw_histograms`.
        style: How it looks in print.
    """
    look = Look.of(style)
    shown = [
        (name, unit, [row for row in rows if style.axis in ("both", row["axis"]) or row["axis"] == "both"])
        for name, unit, rows in panels
    ]
    layers = list(dict.fromkeys(row["layer"] for _, _, rows in shown for row in rows))
    scale = look.points / 9
    most = _MOST_COLUMNS if look.width is None else max(int(look.width / (_NARROWEST_INCHES * look.points / 7)), 1)
    columns = min(style.columns or -(-len(shown) // -(-len(shown) // most)), len(shown))
    width = look.width or _WIDEST_INCHES * scale * columns
    lines = -(-len(shown) // columns)
    height = lines * (_ROW * len(layers) * max(look.small, 6) + _FRAME * look.points) / 72
    entries = _legend(shown, look) if style.legend else []
    across, key = legend_grid(entries, width, look)
    note, foot = wrap_note(note if style.legend else "", width, trained, look.small)
    title, head = wrap_title(title, width, look.points + 1) if style.title else ("", 0.0)
    with look.applied():
        figure = ShownFigure(figsize=(width, height + head + foot + key + 0.1), layout="constrained")
        layout_above(figure, foot + key)
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for index, (panel, (name, unit, rows)) in enumerate(zip(axes.flat, shown, strict=False)):
            _draw_panel(panel, rows, layers, look)
            room = width / columns - (4 * look.small / 72 if index % columns == 0 else 0)
            panel.set_title("\n".join(wrap(name, room, look.points + 1)))
            panel.set_xlabel(unit)
        for panel in list(axes.flat)[len(shown) :]:
            panel.set_visible(False)
        axes[0, 0].set_ylim(len(layers) - 0.5, -0.5)
        axes[0, 0].set_yticks(range(len(layers)), layers)
        add_legend(figure, entries, across, foot, look)
        if title:
            figure.suptitle(title, fontsize=look.points + 1)
        add_note(figure, note, trained, look.small)
    return figure


def _draw_panel(panel: Axes, rows: Sequence[dict[str, Any]], layers: Sequence[str], look: Look) -> None:
    """Draw the rows of a measure: grey what their nulls are, in color the estimates."""
    for row in rows:
        place = layers.index(row["layer"]) + _PLACES[row["axis"]]
        if row["null_low"] is not None:
            panel.barh(place, row["null_high"] - row["null_low"], 0.34, row["null_low"], color=_NULL, lw=0, zorder=1)
        color = axis_color(row["axis"], look)
        size = 0.5 * look.points
        panel.plot([row["low"], row["high"]], [place, place], color=color, lw=1.2, zorder=2, solid_capstyle="butt")
        face = "white" if row["verdict"] == _OPEN else color
        panel.plot(row["estimate"], place, MARKERS[row["axis"]], color=color, mfc=face, ms=size, mew=1, zorder=3)
    for null in {row["null"] for row in rows if row["null_low"] is None}:
        panel.axvline(null, color=_NULL, lw=1.2, zorder=0)
    panel.use_sticky_edges = False  # bars have room at their ends, too
    panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    for line in range(1, len(layers)):
        panel.axhline(line - 0.5, color="#ececec", lw=0.6, zorder=-1)


def axis_color(axis: str, look: Look) -> str:
    """Return the color of an axis; of both together, that of 2-D points."""
    return look.colors[axis if axis != "both" else "point"]  # type: ignore[index]


def _legend(panels: Sequence[tuple[str, str, Sequence[dict[str, Any]]]], look: Look) -> list[Any]:
    """Return what axes, bands and open markers mean, as far as there are any."""
    rows = [row for _, _, rows in panels for row in rows]
    size: dict[str, Any] = {"ms": 0.5 * look.points, "lw": 1.2}
    entries: list[Any] = [
        Line2D([], [], color=axis_color(axis, look), marker=MARKERS[axis], label=_NAMES.get(axis, axis), **size)
        for axis in MARKERS
        if any(row["axis"] == axis for row in rows)
    ]
    if any(row["verdict"] == _OPEN for row in rows):
        entries.append(Line2D([], [], color=NOTE, marker="o", mfc="white", label=_OPEN, **size | {"lw": 0}))
    if any(row["null_low"] is not None for row in rows):
        entries.append(Patch(color=_NULL, lw=0, label="null (95 % band)"))
    if any(row["null_low"] is None for row in rows):
        entries.append(Line2D([], [], color=_NULL, label="null (a number)"))
    return entries
