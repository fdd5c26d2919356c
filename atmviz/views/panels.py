"""The panels of an overlay, from what was observed of an image. Torch-free."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from atmviz.errors import QueryError, count
from atmviz.figures.panels import OverlayPanel, Photo, QuerySamples, TokenMap
from atmviz.figures.settings import ShownAxis
from atmviz.figures.style import MAX_PANELS
from atmviz.geometry import Anchor
from atmviz.observe.site import AXES, Site
from atmviz.recording.query import Query
from atmviz.statistics.density import sampling_density
from atmviz.statistics.fusion import branch_maps, branch_weights
from atmviz.statistics.sampling import SamplingMap, sampling_map

if TYPE_CHECKING:
    from atmviz.observe.image import ObservedImage

_DISPLAY_PX, _MONTAGE_PX = 1600, 1000  # longer side of a photograph in a figure, alone and among others


def photo_of(image: np.ndarray, observed: "ObservedImage", name: str = "", among_others: bool = False) -> Photo:
    """Return a photograph to draw on; a large one is made smaller, which would only slow drawing down.

    Args:
        image: [H, W, 3], uint8 RGB.
        observed: What a network saw of it.
        name: Its name.
        among_others: Whether the figure shows more photographs.
    """
    scale = (_MONTAGE_PX if among_others else _DISPLAY_PX) / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return Photo(image, observed.placement, name)


def sample_panels(
    photo: Photo,
    observed: "ObservedImage",
    queries: Sequence[Query],
    *,
    anchor: Anchor = "cell",
    axis: ShownAxis = "both",
    together: bool = False,
) -> list[OverlayPanel]:
    """Return one panel per query and layer, query by query; with `together`, one per layer.

    Raises:
        QueryError: a query lies outside the image or the map, or there are more panels than a figure can show.
    """
    if len(queries) * len(observed.sites) > MAX_PANELS:
        raise QueryError(
            f"got {len(queries):,} queries, each in {count(len(observed.sites), 'layer')}, "
            f"expected at most {MAX_PANELS} panels: name fewer of them"
        )
    samples = [
        [QuerySamples(query, _samples(observed, site, query, anchor, axis)) for site in observed.sites]
        for query in queries
    ]
    if together:
        by_layer = zip(observed.sites, zip(*samples, strict=True), strict=True)
        return [OverlayPanel(photo, site, shown, anchor) for site, shown in by_layer]
    return [
        OverlayPanel(photo, site, (shown,), anchor)
        for of_query in samples
        for site, shown in zip(observed.sites, of_query, strict=True)
    ]


def _samples(observed: "ObservedImage", site: Site, query: Query, anchor: Anchor, axis: ShownAxis) -> SamplingMap:
    distinct = observed.offsets[site.name]
    grid = distinct.shape[0], distinct.shape[1]
    i, j = query.token(observed.placement, grid, site.stride_px, anchor)
    samples = sampling_map(np.repeat(distinct[i, j], site.channels_per_offset, axis=1), (i, j), grid, site.kind)
    return samples if axis == "both" else samples.only(axis)


def density_panels(
    photo: Photo, observed: "ObservedImage", *, anchor: Anchor = "cell", axis: ShownAxis = "both"
) -> list[OverlayPanel]:
    """Return maps of how often the queries of all tokens sample each token: per layer, one for each axis."""
    panels = []
    for site in observed.sites:
        density = sampling_density(observed.offsets[site.name], site.channels_per_offset, site.kind)
        labels = ("2-D points",) if site.kind == "point" else AXES
        for label, counts in zip(labels, density.reshape(-1, *density.shape[-2:]), strict=True):
            if site.kind == "point" or axis in ("both", label):
                shown = TokenMap(label, counts / site.channels, "samples per token and channel (1 on average)")
                panels.append(OverlayPanel(photo, site, shown, anchor))
    return panels


def fusion_panels(photo: Photo, observed: "ObservedImage", *, anchor: Anchor = "cell") -> list[OverlayPanel]:
    """Return the fusion weights of each layer: a map per branch where tokens have weights of their own, else bars."""
    panels = []
    for site in observed.sites:
        weights = observed.fusion[site.name]
        if weights.shape[:2] == (1, 1):
            panels.append(OverlayPanel(photo, site, branch_weights(weights, site.branches), anchor))
        else:
            shown = zip(site.branches, branch_maps(weights), strict=True)
            maps = [TokenMap(branch, values, "fusion weight (mean over channels)") for branch, values in shown]
            panels += [OverlayPanel(photo, site, values, anchor) for values in maps]
    return panels
