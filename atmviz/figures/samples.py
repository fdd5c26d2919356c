"""The tokens that queries sample, drawn as circles on a photograph (Fig. 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

from atmviz.figures.contrast import rim_colors
from atmviz.figures.panels import OverlayPanel, QuerySamples
from atmviz.figures.style import Look
from atmviz.statistics.sampling import Direction

FAINTEST = 0.2  # opacity of a token that hardly any channel samples
_SMALLEST, _LARGEST = 2.6, 24.0  # diameter of a circle, points
_DOTS, _FINE = 3.0, 40  # of cells of fewer points, or more of them along a side, an inset shows some
_INSET, _INSET_CELL, _INSET_ZOOM = (
    0.36,
    6.5,
    2,
)  # side of an inset, in that of the panel; points of its cells; least zoom

_CIRCLE = Path.unit_circle()
_SQUARE = Path([(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86), (-0.86, -0.86)], closed=True)
_AT_QUERY: dict[Direction, Path] = {  # both are seen at once: the sides are horizontal, top and bottom vertical
    "horizontal": Path.make_compound_path(Path.wedge(-45, 45), Path.wedge(135, 225)),
    "vertical": Path.make_compound_path(Path.wedge(45, 135), Path.wedge(225, 315)),
}


@dataclass(frozen=True)
class Opacity:
    """How opaque a circle is: the more channels sample its token, the more. The same in all panels of a figure.

    Attributes:
        strongest: Largest fraction of a layer's channels that sample one token.
        counts: Some numbers of channels, for a legend; none where layers differ in channels.
        channels: Channels of all layers.
    """

    strongest: float
    counts: tuple[int, ...]
    channels: int

    @classmethod
    def of(cls, panels: Sequence[OverlayPanel]) -> "Opacity":
        """Read the range of the samples of panels."""
        maps = [shown.samples for panel in panels for shown in panel.queries]
        sampled = [(part.counts, samples.channels) for samples in maps for part in samples.samples.values()]
        sampled = [(counts, channels) for counts, channels in sampled if len(counts)]
        strongest = max((counts.max() / channels for counts, channels in sampled), default=1.0)
        if len({channels for _, channels in sampled}) != 1:
            return cls(strongest, (), 0)
        least, most = (int(pick([pick(counts) for counts, _ in sampled])) for pick in (min, max))
        middle = 2 ** round(np.log2(least * most) / 2)
        counts = {least, middle, most} if least < middle < most else {least, most}
        return cls(strongest, tuple(sorted(counts)), sampled[0][1])

    def __call__(self, fraction: np.ndarray | float) -> Any:
        """Return the opacity for a fraction of the channels."""
        return FAINTEST + (1 - FAINTEST) * np.sqrt(np.asarray(fraction) / self.strongest)


@dataclass(frozen=True)
class Marks:
    """How the samples of one query look.

    Attributes:
        colors: Color of each direction, and of the query.
        shapes: Outline of each direction's marks, and of the query's.
    """

    colors: dict[Direction | Literal["query"], str]
    shapes: dict[Direction | Literal["query"], Path]

    @classmethod
    def of(cls, look: Look) -> "Marks":
        """Return circles in a color for each direction."""
        return cls(look.colors, dict.fromkeys(look.colors, _CIRCLE))

    def in_one_color(self, color: str) -> "Marks":
        """Return marks in the color of a query: circles are horizontal, squares vertical."""
        return Marks(dict.fromkeys(self.colors, color), self.shapes | {"vertical": _SQUARE, "query": _SQUARE})


@dataclass(frozen=True)
class Canvas:
    """A panel's photograph, to draw samples on.

    Attributes:
        axis: Shows the photograph, with limits set.
        panel: The panel.
        opacity: How opaque circles are.
        size: Width and height of the axis, points.
        scale: Points per pixel of the photograph, vertically.
        clip: Whether to cut what extends beyond the axis.
    """

    axis: Axes
    panel: OverlayPanel
    opacity: Opacity
    size: tuple[float, float]
    scale: float
    clip: bool = False

    @property
    def diameter(self) -> float:
        """Diameter of a circle in points: about that of a cell, neither tiny nor huge."""
        return min(max(0.94 * self.cell, _SMALLEST), _LARGEST)

    @property
    def cell(self) -> float:
        """Shorter side of a token's cell, points."""
        return min(self.panel.cell_px) * self.scale

    @property
    def core(self) -> float:
        """Diameter of a query's mark, points."""
        return max(0.5 * self.diameter, 3.0)

    def draw(self, shown: QuerySamples, marks: Marks) -> None:
        """Draw the circles of a query, and its mark."""
        at = self.panel.position_px(*shown.samples.query)
        dots = self.panel.dots_px(shown.samples)
        here = {direction: (positions == at).all(1) for direction, (positions, _) in dots.items()}
        is_shared = len(dots) == 2 and all(own.any() for own in here.values())
        for direction, (positions, counts) in dots.items():
            shape = marks.shapes[direction]
            shapes = [_AT_QUERY[direction] if own and is_shared else shape for own in here[direction]]
            diameters = np.where(here[direction], max(self.diameter, 2 * self.core), self.diameter)
            faces = np.tile(to_rgba(marks.colors[direction]), (len(counts), 1))
            faces[:, 3] = self.opacity(counts / shown.samples.channels)
            self._add(positions, shapes, diameters, faces, direction)
        query = np.array([to_rgba(marks.colors["query"])])
        self._add(np.array([at]), [marks.shapes["query"]], np.array([self.core]), query, "query")

    def _add(
        self, positions: np.ndarray, shapes: Sequence[Path], diameters: np.ndarray, faces: np.ndarray, gid: str
    ) -> None:
        """Draw marks with a dark and a light line around them."""
        if not len(positions):
            return
        inner, outer = rim_colors(faces[0, :3])
        line = np.clip(diameters / 22, 0.3, 0.8)
        layers: tuple[tuple[Any, str, np.ndarray, np.ndarray, str], ...] = (
            ("none", outer, 2 * line, diameters, f"{gid} rim"),
            (faces, inner, line, diameters - line, gid),
        )
        for face, edge, widths, diameter, name in layers:
            marks = PathCollection(
                list(shapes),
                sizes=(diameter / 2) ** 2,
                offsets=positions[:, ::-1],
                offset_transform=self.axis.transData,
                facecolors=face,
                edgecolors=edge,
                linewidths=widths,
                zorder=5 if gid == "query" else 3,
                gid=name,
            )
            marks.set_transform(IdentityTransform())
            self.axis.add_collection(marks, autolim=False)
            marks.set_clip_on(self.clip)

    def draw_exact(self, shown: QuerySamples) -> None:
        """Draw a cross at the exact point of a query, if it has one."""
        if (point := self.panel.query_px(shown.query)) is not None:
            for color, width, gid in (("black", 1.4, "exact rim"), ("white", 0.6, "exact")):
                (cross,) = self.axis.plot(point[1], point[0], "+", ms=max(0.6 * self.core, 3), mec=color, mew=width)
                cross.set(zorder=7, gid=gid, clip_on=self.clip)

    def draw_inset(self, shown: QuerySamples, marks: Marks) -> None:
        """Draw the tokens around a query larger, in the corner farthest from it, and frame them in the panel."""
        top, left, bottom, right = self.panel.photo.seen_px
        y, x = self.panel.position_px(*shown.samples.query)
        side = _INSET * min(self.size)
        tokens = max(int(side / max(_INSET_CELL, _INSET_ZOOM * self.cell)) // 2 * 2 + 1, 5)
        reach = tokens / 2 * max(self.panel.cell_px)
        width, height = side / self.size[0], side / self.size[1]
        corner = (
            0.02 if x > (left + right) / 2 else 0.98 - width,
            0.98 - height if y > (top + bottom) / 2 else 0.02,
        )
        y, x = min(max(y, top + reach), bottom - reach), min(max(x, left + reach), right - reach)
        inset = self.axis.inset_axes((*corner, width, height), zorder=8)
        photo = self.axis.images[0]
        inset.imshow(photo.get_array(), extent=photo.get_extent(), aspect="auto")  # type: ignore[arg-type]
        inset.set(xlim=(x - reach, x + reach), ylim=(y + reach, y - reach), xticks=[], yticks=[], autoscale_on=False)
        replace(self, axis=inset, size=(side, side), scale=side / (2 * reach), clip=True).draw(shown, marks)
        inset.spines[:].set_visible(False)
        for color, line in (("black", 1.4), ("white", 0.7)):
            style: dict[str, Any] = {"fill": False, "ec": color, "lw": line}
            inset.add_patch(Rectangle((0, 0), 1, 1, transform=inset.transAxes, clip_on=False, zorder=9, **style))
            frame = Rectangle((x - reach, y - reach), 2 * reach, 2 * reach, zorder=6, gid="zoom", **style)
            self.axis.add_patch(frame)

    def needs_inset(self, shown: QuerySamples) -> bool:
        """Return whether cells are so small that circles are only dots."""
        return self.cell < _DOTS or max(shown.samples.grid) > _FINE
