"""The legend of an overlay: what circles, opacity and ticks mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from atmviz.figures.panels import OverlayPanel
from atmviz.figures.samples import Marks, Opacity
from atmviz.figures.style import NOTE, Look, drawable
from atmviz.statistics.sampling import Direction

MOST_QUERIES = 12  # of one figure that are listed, each with its color
_SCALE_COLOR = "#333333"  # also of the edges of symbols, which are on white
_NAMES: Mapping[Direction, str] = {"horizontal": "horizontally", "vertical": "vertically", "point": "at 2-D points"}
_HANDLE, _SPACE = 3.5, 1.2  # width of a symbol, and between columns, in the size of type
_LINE = 1.5


def key_entries(
    panels: Sequence[OverlayPanel], marks: Sequence[Marks], opacity: Opacity, look: Look, always: bool = False
) -> dict[str, Any]:
    """Return the symbols of a legend by their text; `always` that of samples outside, even where there are none."""
    samples = [shown.samples for panel in panels for shown in panel.queries]
    directions = list(dict.fromkeys(direction for sampled in samples for direction in sampled.samples))
    entries: dict[str, Any] = {}
    is_by_query = len(marks) > 1
    if not is_by_query:
        query = _symbol(look.colors["query"], 1)
        entries["query token" + " (cross: exact query)" * (len({p.site.name for p in panels}) > 1)] = query
    elif len(marks) <= MOST_QUERIES:
        for shown, mark in zip(panels[0].queries, marks, strict=True):
            entries[f"query {drawable(str(shown.query), 20)}"] = _symbol(mark.colors["query"], 1, "s")
    for direction in directions:
        color = _SCALE_COLOR if is_by_query else look.colors[direction]
        symbol = "s" if is_by_query and direction == "vertical" else "o"
        entries[f"sampled {_NAMES[direction]}"] = _symbol(color, 0.6 if is_by_query else 1, symbol)
    if opacity.channels:
        counts = [count / opacity.channels for count in opacity.counts]
        text = f"{' · '.join(map(str, opacity.counts))} of {opacity.channels} channels"
    else:
        counts = [opacity.strongest / 16, opacity.strongest / 4, opacity.strongest]
        text = f"{' · '.join(f'{100 * count:.{int(count < 0.1)}f}' for count in counts)} % of the channels"
    entries[text] = tuple(_symbol(_SCALE_COLOR, float(opacity(count))) for count in counts)
    if not is_by_query and (always or any(count for sampled in samples for count in sampled.outside.values())):
        entries["outside the map (% of the channels)"] = Line2D(
            [], [], color="black", lw=2, marker="", solid_capstyle="butt"
        )
    return entries


def _symbol(color: str, alpha: float, marker: str = "o") -> Line2D:
    return Line2D([], [], marker=marker, ls="", mfc=to_rgba(color, alpha), mec=_SCALE_COLOR, mew=0.4)


def key_height(texts: Sequence[str], width: float, look: Look) -> float:
    """Return the height of the legend in a figure of that width, inches."""
    return _LINE * look.small * -(-len(texts) // key_columns(texts, width, look)) / 72 + 0.06


def add_key(figure: Figure, entries: Mapping[str, Any], look: Look, bottom: float, columns: int = 0) -> None:
    """Draw the legend `bottom` inches above the foot of the figure, in as many columns as fit, or so many."""
    width, height = figure.get_size_inches()
    for symbol in (part for entry in entries.values() for part in (entry if isinstance(entry, tuple) else (entry,))):
        symbol.set_markersize(0.8 * look.small)
    figure.legend(
        list(entries.values()),
        list(entries),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.1)},
        loc="lower center",
        bbox_to_anchor=(0.5, bottom / height),
        borderaxespad=0,
        borderpad=0.1,
        labelspacing=_LINE - 1.2,
        ncols=columns or key_columns(list(entries), width, look),
        frameon=False,
        fontsize=look.small,
        labelcolor=NOTE,
        handlelength=2.7,
        handletextpad=0.6,
        columnspacing=_SPACE,
    )


def key_columns(texts: Sequence[str], width: float, look: Look) -> int:
    """Return how many columns of entries fit side by side; characters are 0.57 of the size wide on average."""
    for columns in range(len(texts), 1, -1):
        rows = -(-len(texts) // columns)
        groups = [texts[start : start + rows] for start in range(0, len(texts), rows)]
        needed = sum(_HANDLE + _SPACE + 0.57 * max(map(len, group)) for group in groups)
        if needed * look.small / 72 <= width and len(groups) == columns:
            return columns
    return 1
