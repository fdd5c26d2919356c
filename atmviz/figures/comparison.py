"""Two recordings in one figure: histograms over each other, reach of each image, reach against depth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import NOTE, Look, ShownFigure, add_note, layout_above, wrap_note, wrap_title
from atmviz.layers import title_of
from atmviz.observe.site import AXES
from atmviz.statistics.comparison import ComparedLayer, Comparison, nearest_offsets
from atmviz.statistics.intervals import Interval

SHOWN_PERCENT = 99.5  # of the samples of A and of B: what lies farther out is beyond the x axes
BAND = (10, 90)  # percentiles over images
_MOST_COLUMNS = 4  # layers with panels of their own
_NARROWEST_INCHES = 1.5  # of a panel, for type of 7 points
_PANEL_INCHES = (2.6, 1.7)  # for type of 9 points
_HEADROOM = 1.25  # of histograms, for the legend
_SLIDE_INCHES = 9.0  # width from which parts stand side by side
_MOST_DOTS = 1000  # of images; a vector file of more could hardly be opened
_DARK = "0.15"  # color of B
_MARKERS = {"horizontal": "o", "vertical": "D"}


def draw_comparison(
    comparison: Comparison,
    *,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
) -> Figure:
    """Return a figure of histograms of A and B over each other with W1, reach of each image, and reach against depth.

    A is in the color of the axis, B is dark. The reach of each image is drawn where both hold the same images. The
    panels in columns are of the layers that `shown_layers` chooses; reach against depth is of all layers.

    Args:
        comparison: The two recordings compared.
        title: Text above the panels: what A and B are.
        note: Text at the foot: how many images, what was left out.
        trained: Whether all weights are trained; see `draw_histograms`.
        style: How it looks in print.
    """
    look, shown = Look.of(style), shown_layers(comparison, style)
    scale, axes = look.points / 9, [axis for axis in AXES if style.axis in ("both", axis)]
    rows, is_wide = len(axes) + comparison.is_paired, _is_wide(look)
    width = look.width or max(len(shown), 2) * _PANEL_INCHES[0] * scale
    row_height = 2.05 * width / 10 if is_wide else max(_PANEL_INCHES[1] * scale, 1.3 * look.points / 7)
    note, foot = wrap_note(note if style.legend else "", width, trained, look.small)
    title, head = wrap_title(title, width, look.points + 1) if style.title else ("", 0.0)
    height = (rows + (not is_wide)) * row_height + head + foot + 0.1
    with look.applied():
        figure = ShownFigure(figsize=(width, height), layout="constrained")
        layout_above(figure, foot)
        parts: Any = (
            figure.subfigures(1, 2, width_ratios=(len(shown), 1))
            if is_wide
            else figure.subfigures(2, 1, height_ratios=(rows, 1))
        )
        _draw_layers(parts[0].subplots(rows, len(shown), squeeze=False), comparison, axes, shown, look, style.share_y)
        _draw_depths(parts[1], comparison, axes, look, is_wide, width / (len(shown) + 1 if is_wide else len(axes)))
        if title:
            figure.suptitle(title, fontsize=look.points + 1)
        add_note(figure, note, trained, look.small)
    return figure


def shown_layers(comparison: Comparison, style: FigureStyle = FigureStyle()) -> list[str]:  # noqa: B008
    """Return the layers that have panels of their own: all, or as many as can be read, evenly over the depth."""
    names = list(dict.fromkeys(layer.sites[0].name for layer in comparison.layers))
    look = Look.of(style)
    room = _MOST_COLUMNS if look.width is None else int(look.width / (_NARROWEST_INCHES * look.points / 7))
    most = max(min(room - _is_wide(look), _MOST_COLUMNS), 2)
    return [names[index] for index in _spread(len(names), style.columns or most)]


def _is_wide(look: Look) -> bool:
    """Whether reach against depth stands beside the panels of layers, as on a slide, and not below them."""
    return look.width is not None and look.width >= _SLIDE_INCHES


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the indices below `count`, evenly, the first and the last among them."""
    return np.linspace(0, count - 1, min(max(most, 1), count)).round().astype(int).tolist()


def _draw_layers(
    panels: np.ndarray,
    comparison: Comparison,
    axes: Sequence[str],
    shown: Sequence[str],
    look: Look,
    share_y: bool,
) -> None:
    """Draw histograms, and below them images: a column for each layer, [rows, columns]."""
    layers = [layer for layer in comparison.layers if layer.axis in axes and layer.sites[0].name in shown]
    tallest = max(_percent(counts).max() for layer in layers for counts in layer.counts) if share_y else None
    for row, axis in enumerate(axes):
        _draw_row(panels[row], [layer for layer in layers if layer.axis == axis], look, tallest)
    for panel, name in zip(panels[0], shown, strict=True):
        panel.set_title(f"{title_of(name)}\n{panel.get_title()}", fontsize=look.points)
    if comparison.is_paired:
        for panel, name in zip(panels[-1], shown, strict=True):
            _draw_images(panel, [layer for layer in layers if layer.sites[0].name == name], look)
        panels[-1, 0].set_ylabel("reach in B (tokens)")


def _draw_row(panels: Sequence[Axes], layers: Sequence[ComparedLayer], look: Look, tallest: float | None) -> None:
    """Draw the histograms of one axis, a panel for each layer; each up to its own tallest bin if `tallest` is None."""
    for panel, layer in zip(panels, layers, strict=True):
        color, reach = look.colors[layer.axis], 1  # type: ignore[index]
        for counts, label, edge in zip(layer.counts, "AB", (color, _DARK), strict=True):
            offsets = nearest_offsets(counts)
            edges = np.append(offsets - 0.5, offsets[-1] + 0.5)
            if label == "A":
                panel.stairs(_percent(counts), edges, fill=True, color=color, alpha=0.4, linewidth=0)
            panel.stairs(_percent(counts), edges, color=edge, linewidth=1.2, label=label)
            within = np.cumsum(np.bincount(np.abs(offsets), weights=_percent(counts)))
            reach = max(reach, int(np.searchsorted(within, SHOWN_PERCENT)))
        panel.set_xlim(-reach - 0.5, reach + 0.5)
        panel.set_ylim(0, _HEADROOM * (tallest or max(_percent(counts).max() for counts in layer.counts)))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 4, 5, 8, 10]))
        panel.set_yticks(
            [tick for tick in MaxNLocator(4).tick_values(0, panel.get_ylim()[1] / _HEADROOM) if tick <= 100]
        )
        panel.set_xlabel(f"{layer.axis} offset (tokens)")
        panel.set_title(f"W₁ {_describe(layer.w1)}", fontsize=look.points)
        panel.tick_params(labelleft=panel is panels[0] or tallest is None)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("samples (%)")
    panels[0].legend(loc="upper left", ncols=2, columnspacing=1, **_legend(look))


def _draw_images(panel: Axes, layers: Sequence[ComparedLayer], look: Look) -> None:
    """Draw the reach of each image in A and in B, of both axes, and the line on which they are equal."""
    for layer in layers:
        chosen = _spread(len(layer.reach[0]), _MOST_DOTS)
        panel.plot(
            layer.reach[0][chosen],
            layer.reach[1][chosen],
            linestyle="",
            marker=_MARKERS[layer.axis],
            markersize=2.2 if len(chosen) > 100 else 4,
            markeredgewidth=0,
            alpha=0.5,
            color=look.colors[layer.axis],  # type: ignore[index]
            label=layer.axis,
        )
    values = np.concatenate([reach for layer in layers for reach in layer.reach])
    room = 0.05 * (np.ptp(values) or 1)
    limits = values.min() - room, values.max() + room
    panel.axline((limits[0], limits[0]), slope=1, color=NOTE, linewidth=0.8, zorder=0)
    panel.set(xlim=limits, ylim=limits, xlabel="reach in A (tokens)")
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.yaxis.set_major_locator(MaxNLocator(4))


def _draw_depths(
    figure: SubFigure, comparison: Comparison, axes: Sequence[str], look: Look, is_wide: bool, width: float
) -> None:
    """Draw reach against depth, a panel of `width` inches for each axis."""
    shape = (len(axes), 1) if is_wide else (1, len(axes))
    panels = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
    for panel, axis in zip(panels, axes, strict=True):
        layers = [layer for layer in comparison.layers if layer.axis == axis]
        _draw_depth(panel, layers, [row for row in comparison.rows if row["axis"] == axis], look)
        names = [layer.sites[0].name for layer in layers]
        letter = 0.65 * look.points / 72  # with room for the labels of the y axis, and a letter between names
        named = _spread(len(names), int((width - 9 * letter) / letter / (max(map(len, names)) + 1)))
        panel.set_xticks(named, [names[index] for index in named])
        panel.set_xlabel(f"layer, {axis} offsets")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1, **_legend(look))
    panels[0].set_ylim(0, panels[0].get_ylim()[1])
    for panel in panels if is_wide else panels[:1]:
        panel.set_ylabel("reach (tokens)")


def _draw_depth(panel: Axes, layers: Sequence[ComparedLayer], rows: Sequence[dict], look: Look) -> None:
    """Draw the mean reach of A and B in each layer, bands over their images, and the baseline."""
    places, axis = np.arange(len(layers)), layers[0].axis
    for index, (label, color) in enumerate((("A", look.colors[axis]), ("B", _DARK))):  # type: ignore[index]
        low, high = np.transpose([np.percentile(layer.reach[index], BAND) for layer in layers])
        panel.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
        panel.plot(
            places,
            [layer.reach[index].mean() for layer in layers],
            color=color,
            marker=_MARKERS[axis],
            markersize=4,
            markerfacecolor="white" if index else color,
            linewidth=1.2,
            label=label,
        )
    if "baseline_a" in rows[0]:
        of_a, of_b = ([row[name] for row in rows] for name in ("baseline_a", "baseline_b"))
        panel.plot(places, of_a, color=NOTE, linestyle=":", linewidth=1.2, label="baseline")
        if of_a != of_b:
            panel.plot(places, of_b, color=_DARK, linestyle="--", linewidth=1.2, label="baseline of B")


def _legend(look: Look) -> dict[str, Any]:
    """Return how legends look."""
    return {"fontsize": look.small, "frameon": False, "handlelength": 1.5, "borderpad": 0.1}


def _percent(counts: np.ndarray) -> np.ndarray:
    return 100 * counts / counts.sum()


def _describe(interval: Interval) -> str:
    """Return an estimate with its interval, where there is one: `0.36 [0.35, 0.38]`."""
    digits = 2 if not interval.high - interval.low < 0.02 else 3
    ends = f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]" if np.isfinite(interval.low) else ""
    return f"{interval.estimate:.{digits}f}{ends}"
