"""What the panels of an overlay show. Numbers only.

Positions in px are (y, x) in pixels of the original image. `OverlayPanel.position_px` places query and samples alike,
so a zero offset lands exactly on the query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atmviz.geometry import Anchor, Placement, token_center_px
from atmviz.observe.site import Site
from atmviz.recording.query import Query
from atmviz.statistics.fusion import BranchWeights
from atmviz.statistics.sampling import Direction, SamplingMap


@dataclass(frozen=True)
class Photo:
    """An image as it was given to the network.

    Attributes:
        pixels: [height, width, 3], uint8 RGB, upright; may be smaller than the original.
        placement: How the original was fitted to the network.
        name: Its name, with folders.
    """

    pixels: np.ndarray
    placement: Placement
    name: str = ""

    @property
    def title(self) -> str:
        """Name in titles."""
        return Path(self.name).name

    @property
    def seen_px(self) -> tuple[float, float, float, float]:
        """The part that the network saw: (top, left, bottom, right) edges."""
        height, width = self.placement.size
        return (*self.placement.to_image(-0.5, -0.5), *self.placement.to_image(height - 0.5, width - 0.5))

    @property
    def shape(self) -> float:
        """Height of the part that the network saw, in its widths."""
        top, left, bottom, right = self.seen_px
        return (bottom - top) / (right - left)


@dataclass(frozen=True)
class QuerySamples:
    """The tokens that a query samples in a layer."""

    query: Query
    samples: SamplingMap


@dataclass(frozen=True)
class TokenMap:
    """A value for each token.

    Attributes:
        label: What tells the map from others of the same layer, e.g. "horizontal".
        values: [H, W].
        unit: What the values are, for a color bar.
    """

    label: str
    values: np.ndarray
    unit: str


@dataclass(frozen=True)
class OverlayPanel:
    """One panel of an overlay.

    Attributes:
        photo: The image.
        site: The layer.
        shown: Samples of one or several queries, a map, or weights of branches.
        anchor: The point of a token that is drawn, "cell" or "rf"; see `geometry.token_center_px`.
    """

    photo: Photo
    site: Site
    shown: tuple[QuerySamples, ...] | TokenMap | BranchWeights
    anchor: Anchor = "cell"

    @property
    def queries(self) -> tuple[QuerySamples, ...]:
        """The samples; none of a map."""
        return self.shown if isinstance(self.shown, tuple) else ()

    def position_px(self, i: float, j: float) -> tuple[float, float]:
        """Return where token (i, j) is drawn."""
        vertical, horizontal = self.site.stride_px
        y, x = token_center_px(i, vertical, self.anchor), token_center_px(j, horizontal, self.anchor)
        return self.photo.placement.to_image(y, x)

    def dots_px(self, samples: SamplingMap) -> dict[Direction, tuple[np.ndarray, np.ndarray]]:
        """Return where sampled tokens are drawn, [M, 2], and by how many channels each is sampled, [M]."""
        return {
            direction: (
                np.array([self.position_px(i, j) for i, j in sampled.positions.tolist()]).reshape(-1, 2),
                sampled.counts,
            )
            for direction, sampled in samples.samples.items()
        }

    @property
    def cell_px(self) -> tuple[float, float]:
        """Height and width of one token."""
        (y0, x0), (y1, x1) = self.position_px(0, 0), self.position_px(1, 1)
        return y1 - y0, x1 - x0

    def query_px(self, query: Query) -> tuple[float, float] | None:
        """Return the exact point of a query, before it is rounded to a token; None for one that names a token."""
        point = query.point_px(self.photo.placement)
        return None if point is None else self.photo.placement.to_image(*point)


def panel_titles(panels: Sequence[OverlayPanel]) -> list[tuple[str, str]]:
    """Return the title of each panel, what tells it from the others, and the smaller line below it."""
    queries = {str(shown.query) for panel in panels for shown in panel.queries}
    many_photos, many_layers = _varies(panels)
    titles = []
    for panel in panels:
        alone = panel.queries[:1] if len(panel.queries) == 1 else ()
        query = "".join(str(shown.query) for shown in alone) * (len(queries) > 1)
        label = panel.shown.label if isinstance(panel.shown, TokenMap) else ""
        names_layer = many_layers or not (many_photos or query or label)
        names = [panel.photo.title] * many_photos + [panel.site.title] * names_layer + [label] * bool(label)
        title = " at ".join(filter(None, [", ".join(names), query]))
        is_reused = names_layer and not panel.site.is_source and not isinstance(panel.shown, BranchWeights)
        below = [f"offsets of {panel.site.source}"] * is_reused
        below += [f"query token {shown.samples.query[0]}:{shown.samples.query[1]}" for shown in alone]
        titles.append((title, ", ".join(below)))
    return titles


def common_title(panels: Sequence[OverlayPanel]) -> str:
    """Return the layer of all panels where their titles do not name it, else ""."""
    named = panels[0].site.title in panel_titles(panels)[0][0]
    return "" if named or _varies(panels)[1] else panels[0].site.label


def _varies(panels: Sequence[OverlayPanel]) -> tuple[bool, bool]:
    """Return whether panels show several photographs, and several layers."""
    return len({id(panel.photo) for panel in panels}) > 1, len({panel.site.name for panel in panels}) > 1


def is_rounded(panels: Sequence[OverlayPanel]) -> bool:
    """Return whether layers show a query at tokens over half a cell of the finest layer away from the exact query."""
    if not _varies(panels)[1]:
        return False
    finest = [min(strides) for strides in zip(*(panel.site.stride_px for panel in panels), strict=True)]
    for panel in panels:
        for shown in panel.queries:
            if (point := shown.query.point_px(panel.photo.placement)) is None:
                continue
            for index, exact, stride, least in zip(
                shown.samples.query, point, panel.site.stride_px, finest, strict=True
            ):
                if abs(token_center_px(index, stride, panel.anchor) - exact) > 0.5 * least:
                    return True
    return False
