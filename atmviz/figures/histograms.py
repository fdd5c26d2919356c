"""Histograms of offsets in the style of Figs. 3, 6 and 7; of many layers, a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import (
    NOTE,
    Look,
    ShownFigure,
    add_note,
    format_fraction,
    layout_above,
    wrap,
    wrap_note,
    wrap_title,
)
from atmviz.layers import describe_layers
from atmviz.statistics import OffsetHistogram

MOST_PANELS = 8  # layers; of more, a heat map is drawn
_COLUMNS = 4
_PANEL_INCHES = (3.1, 2.1)  # for type of 9 points
_NARROWEST_INCHES = 1.5  # of a panel, for type of 7 points
_MAP_INCHES = 3.6  # width of a heat map for type of 9 points
_LINE = 1.45  # height of a heat map's row, in the size of its type


def draw_histograms(
    layers: Sequence[tuple[OffsetHistogram, OffsetHistogram]],
    *,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> Figure:
    """Return a figure with one column per layer, horizontal above vertical; of many layers, a heat map for each axis.

    Args:
        layers: The horizontal and the vertical histogram of each layer.
        title: Text above the panels, e.g. data, model, input size.
        note: Text at the foot: how many images, what was counted.
        trained: Whether the weights are trained. False adds "untrained weights", None "weights of unknown origin".
        style: How it looks in print.
    """
    look = Look.of(style)
    names = {pair[0].site.name for pair in layers}
    shown = [
        [_but_for(names, histogram) for histogram in pair if style.axis in ("both", histogram.axis)] for pair in layers
    ]
    is_map = len(shown) > MOST_PANELS and style.columns is None
    grid = _map_grid(shown, look) if is_map else _panel_grid(shown, look, style.columns)
    width = grid.width
    note, foot = wrap_note(note if style.legend else "", width, trained, look.small)
    title, head = wrap_title(title, width, look.points + 1) if style.title else ("", 0.0)
    with look.applied():
        figure = ShownFigure(figsize=(width, grid.height + head + foot + 0.1), layout="constrained")
        layout_above(figure, foot)
        if is_map:
            _draw_maps(figure, shown, look, grid)
        else:
            _draw_panels(figure, shown, look, grid, style.share_y)
        if title:
            figure.suptitle(title, fontsize=look.points + 1)
        add_note(figure, note, trained, look.small)
    return figure


def _but_for(shown: set[str], histogram: OffsetHistogram) -> OffsetHistogram:
    """Return a histogram without the layers that have panels among those that reuse its offsets."""
    return replace(histogram, reused_by=tuple(name for name in histogram.reused_by if name not in shown))


def layer_title(histogram: OffsetHistogram) -> str:
    """Return the name of a layer, and whose offsets it uses or which layers use its own."""
    users = f" (also {describe_layers(histogram.reused_by)})" if histogram.reused_by else ""
    return histogram.site.label + users


@dataclass(frozen=True)
class _Grid:
    """Rows and columns of panels.

    Attributes:
        cells: Row and column of the panels of each layer.
        width, height: Of all panels, inches.
    """

    cells: Sequence[Sequence[tuple[int, int]]]
    width: float
    height: float

    @property
    def rows(self) -> int:
        return 1 + max(row for cells in self.cells for row, _ in cells)

    @property
    def columns(self) -> int:
        return 1 + max(column for cells in self.cells for _, column in cells)


def _panel_grid(layers: Sequence[Sequence[OffsetHistogram]], look: Look, columns: int | None) -> _Grid:
    """Return panels that fill their rows evenly: a column per layer, or a row where two columns would leave a hole."""
    count, axes, scale = len(layers), len(layers[0]), look.points / 9
    most = _COLUMNS if look.width is None else max(int(look.width / (_NARROWEST_INCHES * look.points / 7)), 1)
    usual = -(-count // -(-count // most))
    if columns is None and usual == 2 and count % 2:
        cells = [[(index, axis) for axis in range(axes)] for index in range(count)]
    else:
        columns = min(columns or usual, count)
        cells = [[(axes * (k // columns) + axis, k % columns) for axis in range(axes)] for k in range(count)]
    grid = _Grid(cells, 0, 0)
    width = look.width or max(_PANEL_INCHES[0] * scale * grid.columns, 5.8 * scale)
    height = max(min(0.68 * width / grid.columns, _PANEL_INCHES[1] * max(0.8 * scale, 1)), 1.25 * look.points / 7)
    return replace(grid, width=width, height=height * grid.rows)


def _draw_panels(
    figure: Figure,
    layers: Sequence[Sequence[OffsetHistogram]],
    look: Look,
    grid: _Grid,
    share_y: bool,
) -> None:
    """Draw a panel for each layer and axis."""
    axes = figure.subplots(grid.rows, grid.columns, squeeze=False)
    inner = grid.height / grid.rows - 6.5 * look.points / 72  # less ticks, label and title
    tallest = [max(histogram.fractions.max() for histogram in pair) for pair in layers]
    for pair, cells in zip(layers, grid.cells, strict=True):
        for (row, column), histogram in zip(cells, pair, strict=True):
            panel = axes[row, column]
            top = max(tallest) if share_y else histogram.fractions.max()
            _draw_panel(panel, histogram, look, top / (1 - 2.8 * look.small / 72 / inner))  # room for the text
            panel.set_ylabel("samples (%)" if column == 0 else "")
            if share_y and column:
                panel.tick_params(labelleft=False)
        width = grid.width / grid.columns - 4 * look.points / 72  # beside the labels of the y axis
        title = layer_title(pair[0])
        is_long = len(wrap(title, width, look.points + 1)) > 1
        axes[cells[0]].set_title(title.replace(" (", "\n(") if is_long else title)
    for panel in axes.flat:
        panel.set_visible(panel.has_data())


def _draw_panel(panel: Axes, histogram: OffsetHistogram, look: Look, tallest: float) -> None:
    sns.histplot(
        x=histogram.offsets,
        weights=100 * histogram.fractions,
        discrete=True,
        color=look.colors[histogram.axis],
        linewidth=0,
        alpha=1,
        ax=panel,
    )
    panel.set_xlim(histogram.first - 0.5, histogram.last + 0.5)
    panel.xaxis.set_major_locator(_offset_ticks(5))
    panel.set_xlabel(f"{histogram.axis} offset (tokens)")
    panel.text(
        0.985,
        0.97,
        f"mean |offset| {histogram.mean_abs:.1f}\noutside the map {format_fraction(histogram.outside_share)}",
        transform=panel.transAxes,
        ha="right",
        va="top",
        fontsize=look.small,
        color=NOTE,
        bbox={"facecolor": panel.get_facecolor(), "edgecolor": "none", "pad": 1},  # over the grid of a style
    )
    top = 100 * max(tallest, 1e-3)
    panel.set_ylim(0, top)
    panel.set_yticks([tick for tick in MaxNLocator(4).tick_values(0, top) if tick <= min(top, 100)])
    sns.despine(ax=panel)


def _offset_ticks(most: int) -> MaxNLocator:
    """Return regular ticks: multiples of one step, so that 0 is among them."""
    return MaxNLocator(most, integer=True, steps=[1, 2, 4, 5, 8, 10])


def _map_grid(layers: Sequence[Sequence[OffsetHistogram]], look: Look) -> _Grid:
    """Return one heat map for each axis, side by side where they fit."""
    scale, maps = look.points / 9, len(layers[0])
    columns = maps if look.width is None or look.width > 2.2 * scale * maps else 1
    width = look.width or _MAP_INCHES * scale * columns
    height = len(layers) * _LINE * max(look.small, 6) / 72 + 1.1 * scale  # labels of the axis and a scale of colors
    return _Grid([[divmod(k, columns) for k in range(maps)]], width, height * -(-maps // columns))


def _draw_maps(figure: Figure, layers: Sequence[Sequence[OffsetHistogram]], look: Look, grid: _Grid) -> None:
    """Draw each axis as a heat map: a row per layer, from above, and a column per offset."""
    axes = figure.subplots(grid.rows, grid.columns, squeeze=False)
    tallest = 100 * max(histogram.fractions.max() for pair in layers for histogram in pair)
    for panel, histograms in zip(axes.flat, zip(*layers, strict=True), strict=True):
        first = min(histogram.first for histogram in histograms)
        last = max(histogram.last for histogram in histograms)
        values = np.full((len(histograms), last - first + 1), np.nan)  # beyond the range of a layer: nothing
        for row, histogram in zip(values, histograms, strict=True):
            row[histogram.first - first : histogram.last + 1 - first] = 100 * histogram.fractions
        drawn = panel.imshow(
            values,
            extent=(first - 0.5, last + 0.5, len(histograms) - 0.5, -0.5),
            cmap=sns.light_palette(look.colors[histograms[0].axis], as_cmap=True),
            norm=PowerNorm(0.5, 0, tallest),  # few samples are seen beside many
            aspect="auto",
            interpolation="nearest",
        )
        panel.xaxis.set_major_locator(_offset_ticks(7))
        panel.set_xlabel(f"{histograms[0].axis} offset (tokens)")
        names = [_row_title(histogram) for histogram in histograms] if panel in axes[:, 0] else []
        panel.set_yticks(range(len(names)), names, fontsize=look.small)
        for row, histogram in enumerate(histograms):
            text = format_fraction(histogram.outside_share)
            panel.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=look.small)
        panel.annotate("outside", (1.01, 1), (0, 2), "axes fraction", "offset points", fontsize=look.small, va="bottom")
        figure.colorbar(drawn, ax=panel, location="bottom", label="samples (%)", aspect=40, ticks=MaxNLocator(5))


def _row_title(histogram: OffsetHistogram) -> str:
    """`3_13 to 3_18`: a layer and those that use its offsets; `3_18 of 3_13` where it uses those of another."""
    site = histogram.site
    if not site.is_source:
        return f"{site.name} of {site.source}"
    return f"{site.name} to {histogram.reused_by[-1]}" if histogram.reused_by else site.name
