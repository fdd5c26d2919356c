"""A legend between the panels of a figure and its note."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from atmviz.figures.style import Look

_LINE = 1.6  # in the size of its type
_SYMBOL = 5  # characters that a symbol and the space after an entry take


def legend_grid(entries: Sequence[Any], width: float, look: Look) -> tuple[int, float]:
    """Return the number of columns and the height in inches of a legend in a figure of that width in inches."""
    if not entries:
        return 1, 0.0
    longest = max(len(entry.get_label()) for entry in entries) + _SYMBOL
    most = max(int(width * 72 / (0.55 * look.small * longest)), 1)
    columns = -(-len(entries) // -(-len(entries) // most))
    return columns, _LINE * look.small * -(-len(entries) // columns) / 72


def add_legend(figure: Figure, entries: Sequence[Any], columns: int, bottom: float, look: Look) -> None:
    """Draw a legend whose lower end is `bottom` inches above that of the figure."""
    if entries:
        figure.legend(
            handles=entries,
            ncols=columns,
            loc="lower center",
            bbox_to_anchor=(0.5, bottom / figure.get_figheight()),
            fontsize=look.small,
            frameon=False,
            borderpad=0.1,
            borderaxespad=0,
        )
