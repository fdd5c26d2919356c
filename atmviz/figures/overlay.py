"""Which tokens a query samples, drawn on the image: Fig. 5.

Positions are pixels of the original image. Query and samples go through the same `position_px`, so a zero offset lands
exactly on the query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from atmviz.errors import AtmvizError, QueryError
from atmviz.figures.style import (
    HORIZONTAL,
    MOST_PANELS,
    NOTE,
    VERTICAL,
    add_note,
    figure_style,
    format_share,
    wrap_note,
    wrap_title,
)
from atmviz.geometry import Anchor, Placement, token_center_px
from atmviz.observe.site import Site
from atmviz.recording.query import Query
from atmviz.statistics import SamplingMap, sampling_map

if TYPE_CHECKING:
    from atmviz.observe.image import ObservedImage

_FAINTEST = 0.25  # opacity of a token sampled by next to none of the channels; 1 is the most in a panel
_DISPLAY_PX = 1600  # longer side of what is drawn of the photograph
_PANEL_INCHES = 2.9  # width of an image that is not tall
_SIDE_INCHES, _ABOVE_INCHES, _BELOW_INCHES = 0.5, 0.66, 0.3  # around it, for titles and what lies outside
_NARROWEST_INCHES = 2.3  # what a panel's title needs
_LEGEND_INCHES = 5.8, 0.5  # width and height


@dataclass(frozen=True)
class OverlayPanel:
    """One panel: what one query samples in one layer.

    Attributes:
        site, query: Which.
        samples: The counts.
        placement: How the image was fitted to the network.
        anchor: Which point of a token is drawn, "cell" or "rf"; see `geometry.token_center_px`.
    """

    site: Site
    query: Query
    samples: SamplingMap
    placement: Placement
    anchor: Anchor = "cell"

    def position_px(self, i: float, j: float) -> tuple[float, float]:
        """Where token (i, j) is drawn: (y, x) in pixels of the original image."""
        vertical, horizontal = self.site.stride_px
        y, x = token_center_px(i, vertical, self.anchor), token_center_px(j, horizontal, self.anchor)
        return self.placement.to_image(y, x)

    def dots_px(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Sampled tokens: horizontal positions (y, x) [M, 2] and counts [M], vertical positions and counts."""
        i, j = self.samples.query
        columns, rows = np.flatnonzero(self.samples.horizontal), np.flatnonzero(self.samples.vertical)
        horizontal = np.array([self.position_px(i, column) for column in columns.tolist()]).reshape(-1, 2)
        vertical = np.array([self.position_px(row, j) for row in rows.tolist()]).reshape(-1, 2)
        return horizontal, self.samples.horizontal[columns], vertical, self.samples.vertical[rows]

    def seen_px(self) -> tuple[float, float, float, float]:
        """What the network saw, as (top, left, bottom, right) edges in pixels of the original image."""
        height, width = self.placement.size
        top, left = self.placement.to_image(-0.5, -0.5)
        bottom, right = self.placement.to_image(height - 0.5, width - 0.5)
        return top, left, bottom, right


def overlay_panels(observed: "ObservedImage", queries: Sequence[Query], anchor: Anchor = "cell") -> list[OverlayPanel]:
    """One panel per query and layer, layers side by side.

    Raises:
        QueryError: a query lies outside the image or the map, or there are more panels than a figure can show.
    """
    if len(queries) * len(observed.sites) > MOST_PANELS:
        raise QueryError(
            f"got {len(queries)} queries in {len(observed.sites)} layers, expected at most {MOST_PANELS} panels"
        )
    panels = []
    for query in queries:
        for site in observed.sites:
            if site.kind == "point":
                raise AtmvizError("this network takes one 2-D sample per channel; an overlay draws rows and columns")
            distinct = observed.offsets[site.name]
            grid = distinct.shape[0], distinct.shape[1]
            i, j = query.token(observed.placement, grid, site.stride_px, anchor)
            offsets = np.repeat(distinct[i, j], site.channels_per_offset, axis=1)  # [2, C]
            samples = sampling_map(offsets, (i, j), grid)
            panels.append(OverlayPanel(site, query, samples, observed.placement, anchor))
    return panels


def draw_overlay(
    image: np.ndarray, panels: Sequence[OverlayPanel], *, columns: int, title: str, note: str, trained: bool | None
) -> Figure:
    """One panel per query and layer.

    Args:
        image: The photograph, [height, width, 3], uint8 RGB, upright.
        panels: In reading order.
        columns: Panels per row.
        title, note: Above everything and at the foot.
        trained: False adds "untrained weights", None "weights of unknown origin".
    """
    top, left, bottom, right = panels[0].seen_px()
    shape = (bottom - top) / (right - left)
    widest = _PANEL_INCHES if len(panels) > 1 else 1.5 * _PANEL_INCHES
    width = widest * min(1, 1.4 / shape)
    height = width * shape
    cell = (max(width + 2 * _SIDE_INCHES, _NARROWEST_INCHES), height + _ABOVE_INCHES + _BELOW_INCHES)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure_width = max(columns * cell[0], _LEGEND_INCHES[0])
    title, head = wrap_title(title, figure_width)
    note, foot = wrap_note(note, figure_width, trained)
    size = (figure_width, rows * cell[1] + head + foot + _LEGEND_INCHES[1])
    indent = (size[0] - columns * cell[0]) / 2
    shown = _shrink(image)
    with figure_style():
        figure = Figure(figsize=size)
        for index, panel in enumerate(panels):
            row, column = divmod(index, columns)
            x = indent + column * cell[0] + (cell[0] - width) / 2
            y = size[1] - head - row * cell[1] - _ABOVE_INCHES - height
            axis = figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))
            _draw_panel(axis, shown, image.shape[:2], panel, dot_points=_dot_points(panel, width))
        _add_legend(figure, foot)
        figure.suptitle(title, fontsize=10, y=1 - 0.08 / size[1], va="top")
        add_note(figure, note, trained)
    return figure


def _shrink(image: np.ndarray) -> np.ndarray:
    """At most `_DISPLAY_PX` on the longer side: a large photograph would only slow drawing down."""
    scale = _DISPLAY_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _draw_panel(
    axis: Axes, shown: np.ndarray, size_px: tuple[int, int], panel: OverlayPanel, dot_points: float
) -> None:
    height, width = size_px
    axis.imshow(shown, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="antialiased", aspect="auto")
    horizontal, across, vertical, down = panel.dots_px()
    strongest = max(across.max(initial=1), down.max(initial=1))
    for dots, counts, color in ((horizontal, across, HORIZONTAL), (vertical, down, VERTICAL)):
        opacity = 1 - (1 - _FAINTEST) * (1 - counts / strongest)
        axis.scatter(
            dots[:, 1],
            dots[:, 0],
            s=dot_points**2,
            c=_with_opacity(color, opacity),
            edgecolors=_with_opacity("white", opacity),  # type: ignore[arg-type]
            linewidths=dot_points / 14,
            zorder=3,
            clip_on=False,
        )
    y, x = panel.position_px(*panel.samples.query)
    ring = dot_points + 3
    axis.plot(x, y, "o", ms=ring, mfc="none", mec="black", mew=2.6, zorder=4, clip_on=False)
    axis.plot(x, y, "o", ms=ring, mfc="none", mec="white", mew=1.2, zorder=5, clip_on=False, gid="query")
    _draw_outside(axis, panel)
    top, left, bottom, right = panel.seen_px()
    axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axis.spines[:].set(linewidth=0.4, color=NOTE)
    site, (i, j) = panel.site, panel.samples.query
    axis.set_title(site.title, pad=32)
    source = "" if site.is_source else f"offsets of {site.source}, "
    text = f"{source}query token {i}:{j}"
    axis.annotate(text, (0.5, 1), (0, 22), "axes fraction", "offset points", ha="center", fontsize=7.5, color=NOTE)


def _with_opacity(color: str, opacity: np.ndarray) -> np.ndarray:
    """RGBA rows, [M, 4]."""
    rgba = np.tile(to_rgba(color), (len(opacity), 1))
    rgba[:, 3] = opacity
    return rgba


def _dot_points(panel: OverlayPanel, width_inches: float) -> float:
    """Diameter of a dot in points: most of one token's cell, within what the eye can use."""
    return min(max(0.8 * 72 * width_inches / panel.samples.grid[1], 2.5), 9.0)


def _draw_outside(axis: Axes, panel: OverlayPanel) -> None:
    """Ticks at the border, with the share of the axis's channels that sample beyond it."""
    top, left, bottom, right = panel.seen_px()
    y, x = panel.position_px(*panel.samples.query)
    samples = panel.samples
    sides = (
        (samples.left, HORIZONTAL, (left, y), (-9, 0), "right", "center"),
        (samples.right, HORIZONTAL, (right, y), (9, 0), "left", "center"),
        (samples.top, VERTICAL, (x, top), (0, 9), "center", "bottom"),
        (samples.bottom, VERTICAL, (x, bottom), (0, -9), "center", "top"),
    )
    for count, color, border_px, points, ha, va in sides:
        if count:
            axis.annotate(
                format_share(count / samples.channels),
                border_px,
                points,
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize=6.5,
                color=color,
                arrowprops={"arrowstyle": "-", "color": color, "lw": 2.5, "shrinkA": 0, "shrinkB": 0},
                annotation_clip=False,
            )


def _add_legend(figure: Figure, above_inches: float) -> None:
    def dot(color: str, alpha: float) -> Line2D:
        return Line2D([], [], marker="o", ls="", mfc=to_rgba(color, alpha), mec="none", ms=7)

    query = (
        Line2D([], [], marker="o", ls="", mfc="none", mec="black", mew=2.6, ms=9),
        Line2D([], [], marker="o", ls="", mfc="none", mec="white", mew=1.2, ms=9),
    )
    tick = Line2D([], [], color="black", lw=2.5, marker="")
    shades = (_FAINTEST, (1 + _FAINTEST) / 2, 1.0)
    handles: list[Any] = [
        query,
        tuple(dot(HORIZONTAL, alpha) for alpha in shades),
        tuple(dot(VERTICAL, alpha) for alpha in shades),
        tick,
    ]
    labels = [
        "query token",
        "sampled horizontally: by few … most channels of a panel",
        "sampled vertically",
        "outside the map: share of channels",
    ]
    figure.legend(
        handles,
        labels,
        handler_map={query: HandlerTuple(ndivide=1, pad=0), tuple: HandlerTuple(ndivide=None, pad=0.2)},
        loc="lower center",
        bbox_to_anchor=(0.5, above_inches / figure.get_figheight()),
        ncols=2,
        frameon=False,
        fontsize=7,
        handlelength=2.2,
        columnspacing=1.5,
    )
