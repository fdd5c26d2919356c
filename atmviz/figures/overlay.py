"""Photographs with the tokens that queries sample (Fig. 5), how often each token is sampled, or fusion weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure

from atmviz.figures.key import add_key, key_columns, key_entries, key_height
from atmviz.figures.maps import BARS_SHAPE, add_colorbar, bar_room, colorbar_height, draw_bars, draw_map, heat_scale
from atmviz.figures.outside import draw_outside, room_outside
from atmviz.figures.page import Margins, Page, lay_out
from atmviz.figures.panels import OverlayPanel, TokenMap, common_title, panel_titles
from atmviz.figures.samples import Canvas, Marks, Opacity
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import NOTE, Look, ShownFigure, add_note, palette_colors, wrap_note, wrap_title
from atmviz.statistics.fusion import BranchWeights

_QUERY_COLORS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#ece133", "#56b4e9")
"""Of seaborn's "colorblind" palette."""


@dataclass
class Steady:
    """The layout of the first of several figures, which those after it take: frames of a moving picture.

    Attributes:
        page: Where everything lies; None before the first figure.
        columns: Columns of the legend.
        note: Text at the foot.
    """

    page: Page | None = None
    columns: int = 1
    note: str = ""


def draw_overlay(
    panels: Sequence[OverlayPanel],
    *,
    row: int = 1,
    title: str,
    note: str,
    trained: bool | None,
    style: FigureStyle = FigureStyle(),  # noqa: B008
    steady: Steady | None = None,
) -> Figure:
    """Return a figure of panels.

    Args:
        panels: In reading order.
        row: Panels that belong side by side, e.g. the layers of one query.
        title: Text above the panels.
        note: Text at the foot.
        trained: Whether the weights are trained. False adds "untrained weights", None "weights of unknown origin".
        style: How it looks in print.
        steady: The layout that frames share. It has room for all that other frames may show.

    Raises:
        SettingsError: there are more panels than a figure of this width can show.
    """
    title = ", ".join(filter(None, [title, common_title(panels)]))
    if steady:
        note = steady.note = steady.note or note
    texts = title if style.title else "", note if style.legend else ""
    drawing = _Drawing(panels, Look.of(style), style, *texts, trained, steady)
    if steady and steady.page:
        page = steady.page.with_titles(panel_titles(panels), drawing.look)
    else:
        page = drawing.lay_out(row)
    with drawing.look.applied():
        figure = ShownFigure(figsize=(page.width, page.height))
        drawing.draw_panels(figure, page)
        drawing.draw_frame(figure, page)
    return figure


@dataclass(frozen=True)
class _Drawing:
    """What a figure shows, and how."""

    panels: Sequence[OverlayPanel]
    look: Look
    style: FigureStyle
    title: str
    note: str
    trained: bool | None
    steady: Steady | None = None

    def lay_out(self, row: int) -> Page:
        """Return where everything lies; see `draw_overlay`."""
        page = lay_out(
            [BARS_SHAPE if isinstance(panel.shown, BranchWeights) else panel.photo.shape for panel in self.panels],
            panel_titles(self.panels),
            row,
            margins=[self._margins(panel) for panel in self.panels],
            frame=self.frame,
            look=self.look,
            columns=self.style.columns,
        )
        if self.steady:
            self.steady.page, self.steady.columns = page, key_columns(list(self.key), page.width, self.look)
        return page

    def _margins(self, panel: OverlayPanel) -> Margins:
        """Return the room beside an image: for samples outside, or the names of bars."""
        if isinstance(panel.shown, BranchWeights):
            return bar_room(self.look)
        return room_outside(panel, self.look, always=self.steady is not None)

    @cached_property
    def marks(self) -> list[Marks]:
        """How the samples of each query of a panel look: a color each, if there are several."""
        count = max(len(panel.queries) for panel in self.panels)
        marks = Marks.of(self.look)
        if count < 2:
            return [marks]
        if self.style.palette:
            colors = palette_colors(self.style.palette, count)
            return [marks.in_one_color(colors[index % len(colors)]) for index in range(count)]
        if count <= len(_QUERY_COLORS):
            return [marks.in_one_color(color) for color in _QUERY_COLORS[:count]]
        return [marks.in_one_color(to_hex(colormaps["turbo"](index / (count - 1)))) for index in range(count)]

    @cached_property
    def opacity(self) -> Opacity:
        """How opaque circles are."""
        return Opacity.of(self.panels)

    @cached_property
    def many_layers(self) -> bool:
        """Whether there are several layers, each of which rounds a query to its tokens."""
        return len({panel.site.name for panel in self.panels}) > 1

    @cached_property
    def maps(self) -> list[TokenMap]:
        """All maps."""
        return [panel.shown for panel in self.panels if isinstance(panel.shown, TokenMap)]

    @cached_property
    def scale(self) -> Normalize | None:
        """The scale of all maps."""
        return heat_scale(self.maps) if self.maps else None

    @cached_property
    def key(self) -> dict[str, Any]:
        """Symbols of the legend by their text."""
        has_samples = any(panel.queries for panel in self.panels)
        if not (self.style.legend and has_samples):
            return {}
        return key_entries(self.panels, self.marks, self.opacity, self.look, always=self.steady is not None)

    def frame(self, width: float) -> tuple[float, float]:
        """Return the heights of the title, and of legend, color bar and note, in inches."""
        head = wrap_title(self.title, width, self.look.points + 1)[1] if self.title else 0.05
        bar = colorbar_height(self.look) if self.maps else 0
        return head, self._note(width)[1] + key_height(list(self.key), width, self.look) + bar

    def _note(self, width: float) -> tuple[str, float]:
        return wrap_note(self.note, width, self.trained, self.look.small)

    def draw_panels(self, figure: Figure, page: Page) -> None:
        """Draw each panel."""
        parts = zip(self.panels, page.images, page.titles, page.above, strict=True)
        for panel, box, title, above in parts:
            axis = figure.add_axes(box)
            _draw_titles(axis, title, 72 * above, self.look)
            if isinstance(panel.shown, BranchWeights):
                draw_bars(axis, panel.shown, self.look)
                continue
            _draw_photo(axis, panel)
            if self.scale is not None and isinstance(panel.shown, TokenMap):
                draw_map(axis, panel, panel.shown, self.scale)
            else:
                size = 72 * box[2] * page.width, 72 * box[3] * page.height
                self._draw_samples(axis, panel, size, page.is_brief)

    def _draw_samples(self, axis: Axes, panel: OverlayPanel, size: tuple[float, float], is_brief: bool) -> None:
        """Draw what the queries of a panel sample, on an axis of width and height `size` in points."""
        top, _, bottom, _ = panel.photo.seen_px
        canvas = Canvas(axis, panel, self.opacity, size, size[1] / (bottom - top))
        for shown, marks in zip(panel.queries, self.marks, strict=True):
            canvas.draw(shown, marks)
            if self.many_layers:
                canvas.draw_exact(shown)
        if len(panel.queries) == 1:
            draw_outside(canvas, panel.queries[0].samples, self.look, is_brief)
            if not is_brief and canvas.needs_inset(panel.queries[0]):
                canvas.draw_inset(panel.queries[0], self.marks[0])

    def draw_frame(self, figure: Figure, page: Page) -> None:
        """Draw the title, the legend or color bar, and the note."""
        width, height = figure.get_size_inches()
        note, bottom = self._note(width)
        if self.key:
            add_key(figure, self.key, self.look, bottom, self.steady.columns if self.steady else 0)
        if self.scale is not None:
            add_colorbar(figure, self.scale, self.maps[0].unit, self.look, bottom)
        if self.title:
            title, _ = wrap_title(self.title, width, self.look.points + 1)
            figure.suptitle(title, fontsize=self.look.points + 1, y=1 - 0.05 / height, va="top")
        left = min(x for x, *_ in page.images) * width
        add_note(figure, note, self.trained, self.look.small, left)


def _draw_photo(axis: Axes, panel: OverlayPanel) -> None:
    """Draw the part of the photograph that the network saw."""
    height, width = panel.photo.placement.image
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(panel.photo.pixels, extent=extent, interpolation="antialiased", aspect="auto")
    top, left, bottom, right = panel.photo.seen_px
    axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], autoscale_on=False)
    axis.spines[:].set(linewidth=0.4, color=NOTE)


def _draw_titles(axis: Axes, title: tuple[str, str], above_points: float, look: Look) -> None:
    """Draw the title of a panel and the smaller line below it, above the samples outside."""
    name, below = title
    if below:
        at = (0, above_points + 2)
        axis.annotate(
            below,
            (0.5, 1),
            at,
            "axes fraction",
            "offset points",
            ha="center",
            va="bottom",
            fontsize=look.small,
            color=NOTE,
        )
    lines = below.count("\n") + 1 if below else 0
    axis.set_title(name, fontsize=look.points, pad=above_points + 3 + 1.25 * look.small * lines)
