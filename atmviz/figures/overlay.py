"""The tokens that a query samples, drawn on the image: Fig. 5.

Positions in px are pixels of the original image. `position_px` places query and samples alike, so a zero offset lands
exactly on the query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from atmviz.errors import QueryError, count
from atmviz.figures.style import (
    COLORS,
    MAX_PANELS,
    NOTE,
    add_note,
    figure_style,
    format_fraction,
    wrap_note,
    wrap_title,
)
from atmviz.geometry import Anchor, Placement, token_center_px
from atmviz.observe.site import Site
from atmviz.recording.query import Query
from atmviz.statistics.sampling import Direction, SamplingMap, sampling_map

if TYPE_CHECKING:
    from atmviz.observe.image import ObservedImage

_FAINTEST = 0.25  # opacity of a token that few channels sample; 1 is the most in a panel
_DISPLAY_PX = 1600  # longer side of the photograph in the figure
_PANEL_INCHES = 2.9  # width of an image that is not tall
_SIDE_INCHES, _ABOVE_INCHES, _BELOW_INCHES = 0.5, 0.66, 0.3  # around an image, for titles and samples outside
_NARROWEST_INCHES = 2.3  # width that a panel's title needs
_LEGEND_INCHES = 5.8, 0.5  # width and height


@dataclass(frozen=True)
class OverlayPanel:
    """One panel: the tokens that one query samples in one layer.

    Attributes:
        site: The layer.
        query: The query.
        samples: The sampled tokens.
        placement: How the image was fitted to the network.
        anchor: The point of a token that is drawn, "cell" or "rf"; see `geometry.token_center_px`.
    """

    site: Site
    query: Query
    samples: SamplingMap
    placement: Placement
    anchor: Anchor = "cell"

    def position_px(self, i: float, j: float) -> tuple[float, float]:
        """Return where token (i, j) is drawn: (y, x) in pixels of the original image."""
        vertical, horizontal = self.site.stride_px
        y, x = token_center_px(i, vertical, self.anchor), token_center_px(j, horizontal, self.anchor)
        return self.placement.to_image(y, x)

    def dots_px(self) -> dict[Direction, tuple[np.ndarray, np.ndarray]]:
        """Return where sampled tokens are drawn, (y, x), [M, 2], and by how many channels each is sampled, [M]."""
        return {
            direction: (
                np.array([self.position_px(i, j) for i, j in sampled.positions.tolist()]).reshape(-1, 2),
                sampled.counts,
            )
            for direction, sampled in self.samples.samples.items()
        }

    def seen_px(self) -> tuple[float, float, float, float]:
        """Return the part that the network saw: (top, left, bottom, right) edges in pixels of the original image."""
        height, width = self.placement.size
        top, left = self.placement.to_image(-0.5, -0.5)
        bottom, right = self.placement.to_image(height - 0.5, width - 0.5)
        return top, left, bottom, right


def overlay_panels(observed: "ObservedImage", queries: Sequence[Query], anchor: Anchor = "cell") -> list[OverlayPanel]:
    """Return one panel per query and layer, query by query.

    Raises:
        QueryError: a query lies outside the image or the map, or there are more panels than a figure can show.
    """
    if len(queries) * len(observed.sites) > MAX_PANELS:
        raise QueryError(
            f"got {len(queries)} queries in {count(len(observed.sites), 'layer')}, expected at most {MAX_PANELS} panels"
        )
    panels = []
    for query in queries:
        for site in observed.sites:
            distinct = observed.offsets[site.name]
            grid = distinct.shape[0], distinct.shape[1]
            i, j = query.token(observed.placement, grid, site.stride_px, anchor)
            offsets = np.repeat(distinct[i, j], site.channels_per_offset, axis=1)  # [2, C]
            samples = sampling_map(offsets, (i, j), grid, site.kind)
            panels.append(OverlayPanel(site, query, samples, observed.placement, anchor))
    return panels


@dataclass(frozen=True)
class _Page:
    """Sizes of a figure's parts in inches, set by hand so that all images are equally large and pixels are square."""

    columns: int
    rows: int
    image: tuple[float, float]  # width, height
    head: float
    foot: float

    @classmethod
    def of(cls, panels: Sequence[OverlayPanel], columns: int) -> "_Page":
        top, left, bottom, right = panels[0].seen_px()
        shape = (bottom - top) / (right - left)
        widest = _PANEL_INCHES if len(panels) > 1 else 1.5 * _PANEL_INCHES
        width = widest * min(1, 1.4 / shape)
        columns = min(columns, len(panels))
        return cls(columns, -(-len(panels) // columns), (width, width * shape), 0, 0)

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a panel with its titles."""
        width, height = self.image
        return max(width + 2 * _SIDE_INCHES, _NARROWEST_INCHES), height + _ABOVE_INCHES + _BELOW_INCHES

    @property
    def size(self) -> tuple[float, float]:
        width, height = self.cell
        return max(self.columns * width, _LEGEND_INCHES[0]), (
            self.rows * height + self.head + self.foot + _LEGEND_INCHES[1]
        )

    def axes(self, index: int) -> tuple[float, float, float, float]:
        """Return the image of a panel as fractions of the figure: left, bottom, width, height."""
        (width, height), (cell_width, cell_height), size = self.image, self.cell, self.size
        row, column = divmod(index, self.columns)
        x = (size[0] - self.columns * cell_width) / 2 + column * cell_width + (cell_width - width) / 2
        y = size[1] - self.head - row * cell_height - _ABOVE_INCHES - height
        return x / size[0], y / size[1], width / size[0], height / size[1]


def draw_overlay(
    image: np.ndarray, panels: Sequence[OverlayPanel], *, columns: int, title: str, note: str, trained: bool | None
) -> Figure:
    """Return a figure with one panel per query and layer.

    Args:
        image: The photograph, [height, width, 3], uint8 RGB, upright.
        panels: In reading order.
        columns: Panels per row.
        title: Text above the panels.
        note: Text at the foot.
        trained: Whether the weights are trained. False adds "untrained weights", None "weights of unknown origin".
    """
    page = _Page.of(panels, columns)
    title, head = wrap_title(title, page.size[0])
    note, foot = wrap_note(note, page.size[0], trained)
    page = replace(page, head=head, foot=foot)
    shown, extent = _shrink(image), (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    with figure_style():
        figure = Figure(figsize=page.size)
        for index, panel in enumerate(panels):
            axis = figure.add_axes(page.axes(index))
            axis.imshow(shown, extent=extent, interpolation="antialiased", aspect="auto")
            _draw_panel(axis, panel, dot_points=_dot_points(panel, page.image[0]))
        _add_legend(figure, foot, list(dict.fromkeys(name for panel in panels for name in panel.samples.samples)))
        figure.suptitle(title, fontsize=10, y=1 - 0.08 / page.size[1], va="top")
        add_note(figure, note, trained)
    return figure


def _shrink(image: np.ndarray) -> np.ndarray:
    """Return at most `_DISPLAY_PX` on the longer side: a large photograph would only slow drawing down."""
    scale = _DISPLAY_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _draw_panel(axis: Axes, panel: OverlayPanel, dot_points: float) -> None:
    dots = panel.dots_px()
    strongest = max(counts.max(initial=1) for _, counts in dots.values())
    for direction, (positions, counts) in dots.items():
        opacity = 1 - (1 - _FAINTEST) * (1 - counts / strongest)
        axis.scatter(
            positions[:, 1],
            positions[:, 0],
            s=dot_points**2,
            c=_with_opacity(COLORS[direction], opacity),
            edgecolors=_with_opacity("white", opacity),  # type: ignore[arg-type]
            linewidths=dot_points / 14,
            zorder=3,
            clip_on=False,
            gid=direction,
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
    """Return RGBA rows, [M, 4]."""
    rgba = np.tile(to_rgba(color), (len(opacity), 1))
    rgba[:, 3] = opacity
    return rgba


def _dot_points(panel: OverlayPanel, width_inches: float) -> float:
    """Return the diameter of a dot in points: most of one token's cell, neither tiny nor huge."""
    return min(max(0.8 * 72 * width_inches / panel.samples.grid[1], 2.5), 9.0)


def _draw_outside(axis: Axes, panel: OverlayPanel) -> None:
    """Draw ticks at the border with the percentage of channels that sample beyond it."""
    top, left, bottom, right = panel.seen_px()
    y, x = panel.position_px(*panel.samples.query)
    sides: tuple[tuple[str, Direction, Any, Any, str, str], ...] = (
        ("left", "horizontal", (left, y), (-9, 0), "right", "center"),
        ("right", "horizontal", (right, y), (9, 0), "left", "center"),
        ("top", "vertical", (x, top), (0, 9), "center", "bottom"),
        ("bottom", "vertical", (x, bottom), (0, -9), "center", "top"),
    )
    for side, direction, border_px, points, ha, va in sides:
        if count := panel.samples.outside[side]:
            color = COLORS["point" if "point" in panel.samples.samples else direction]
            axis.annotate(
                format_fraction(count / panel.samples.channels),
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


def _add_legend(figure: Figure, above_inches: float, directions: Sequence[Direction]) -> None:
    """Explain query, dots and ticks above the foot."""

    def dot(color: str, alpha: float) -> Line2D:
        return Line2D([], [], marker="o", ls="", mfc=to_rgba(color, alpha), mec="none", ms=7)

    query = (
        Line2D([], [], marker="o", ls="", mfc="none", mec="black", mew=2.6, ms=9),
        Line2D([], [], marker="o", ls="", mfc="none", mec="white", mew=1.2, ms=9),
    )
    entries: dict[str, Any] = {"query token": query}
    names: Mapping[Direction, str] = {"horizontal": "horizontally", "vertical": "vertically", "point": "at 2-D points"}
    for direction in directions:
        label = f"sampled {names[direction]}" + ": by few … most channels of a panel" * (len(entries) == 1)
        shades = (_FAINTEST, (1 + _FAINTEST) / 2, 1.0)
        entries[label] = tuple(dot(COLORS[direction], alpha) for alpha in shades)
    entries["outside the map: percentage of channels"] = Line2D([], [], color="black", lw=2.5, marker="")
    figure.legend(
        list(entries.values()),
        list(entries),
        handler_map={query: HandlerTuple(ndivide=1, pad=0), tuple: HandlerTuple(ndivide=None, pad=0.2)},
        loc="lower center",
        bbox_to_anchor=(0.5, above_inches / figure.get_figheight()),
        ncols=2,
        frameon=False,
        fontsize=7,
        handlelength=2.2,
        columnspacing=1.5,
    )
