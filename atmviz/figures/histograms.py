"""Histograms of offsets in the style of Figs. 3, 6 and 7."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from atmviz.errors import count
from atmviz.figures.style import (
    COLORS,
    NOTE,
    add_note,
    figure_style,
    format_fraction,
    layout_above,
    wrap_note,
    wrap_title,
)
from atmviz.statistics import OffsetHistogram

_COLUMNS = 4
_PANEL_INCHES = (3.1, 2.1)


def draw_histograms(
    layers: Sequence[tuple[OffsetHistogram, OffsetHistogram]], *, title: str, note: str, trained: bool | None
) -> Figure:
    """Return a figure with one column per layer: horizontal above, vertical below; after four layers a new row begins.

    Args:
        layers: The horizontal and the vertical histogram of each layer.
        title: Text above the panels, e.g. data, model, input size.
        note: Text at the foot: how many images, what was counted.
        trained: Whether the weights are trained. False adds "untrained weights", None "weights of unknown origin".
    """
    columns = min(len(layers), _COLUMNS)
    bands = -(-len(layers) // columns)
    width, height = _PANEL_INCHES
    with figure_style():
        figure_width = max(width * columns, 5.8)
        title, head = wrap_title(title, figure_width)
        note, foot = wrap_note(note, figure_width, trained)
        figure = Figure(figsize=(figure_width, 2 * height * bands + head + foot + 0.1), layout="constrained")
        layout_above(figure, foot)
        axes = figure.subplots(2 * bands, columns, squeeze=False)
        for index, pair in enumerate(layers):
            band, column = divmod(index, columns)
            for row, histogram in enumerate(pair):
                _draw_panel(axes[2 * band + row, column], histogram, first_column=column == 0)
            axes[2 * band, column].set_title(pair[0].site.label)
        for panel in axes.flat:
            panel.set_visible(panel.has_data())
        figure.suptitle(title, fontsize=10)
        add_note(figure, note, trained)
    return figure


def _draw_panel(panel: Axes, histogram: OffsetHistogram, first_column: bool) -> None:
    sns.histplot(
        x=histogram.offsets,
        weights=100 * histogram.fractions,
        discrete=True,
        color=COLORS[histogram.axis],
        linewidth=0,
        alpha=1,
        ax=panel,
    )
    first, last = histogram.first, histogram.last
    panel.set_xlim(first - 0.5, last + 0.5)
    ticks = [tick for tick in MaxNLocator(6, integer=True).tick_values(first, last) if first < tick < last]
    gap = (last - first) / 9  # keep inner ticks clear of the two ends, which always have labels
    panel.set_xticks([first, *(tick for tick in ticks if first + gap < tick < last - gap), last])
    panel.set_xlabel(f"{histogram.axis} offset (tokens)")
    panel.set_ylabel("share of samples (%)" if first_column else "")
    counted = f"{count(histogram.images, 'image')} × {count(histogram.site.channels, 'channel')}"
    if histogram.tokens == "all":
        counted += f" × {count(int(np.prod(histogram.site.grid)), 'token')}"
    panel.text(
        0.985,
        0.97,
        f"{counted}\noutside the map: {format_fraction(histogram.outside_share)}",
        transform=panel.transAxes,
        ha="right",
        va="top",
        fontsize=7,
        color=NOTE,
    )
    top = 1.35 * 100 * max(histogram.fractions.max(), 1e-3)  # room for the text
    panel.set_ylim(0, top)
    panel.set_yticks([tick for tick in MaxNLocator(5).tick_values(0, top) if tick <= min(top, 100)])
    sns.despine(ax=panel)
