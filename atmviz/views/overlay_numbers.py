"""The numbers of an overlay's panels, for JSON and as a table."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from atmviz.figures.panels import OverlayPanel, QuerySamples, TokenMap
from atmviz.statistics.rows import density_rows, fusion_rows, sample_rows, weight_rows

if TYPE_CHECKING:
    from pandas import DataFrame


def describe_image(panels: Sequence[OverlayPanel]) -> dict[str, Any]:
    """Return what is shown of one image, ready for JSON."""
    photo = panels[0].photo
    return {
        "image": photo.name,
        "input_size": list(photo.placement.size),
        "seen": round(photo.placement.seen_share, 4),
        "panels": [numbers for panel in panels for numbers in describe_panel(panel)],
    }


def describe_panel(panel: OverlayPanel) -> list[dict[str, Any]]:
    """Return the numbers of a panel, ready for JSON: of each of its queries, or of its map or weights."""
    layer = {"layer": panel.site.name, "source": panel.site.source}
    if panel.queries:
        return [layer | _describe_samples(panel, shown) for shown in panel.queries]
    if isinstance(panel.shown, TokenMap):
        values = panel.shown.values
        size = {"map": panel.shown.label, "map_size": list(values.shape)}
        return [layer | size | {"mean": float(values.mean()), "max": float(values.max())}]
    return [layer | {"branches": {row["branch"]: row["weight"] for row in weight_rows(panel.site, panel.shown)}}]  # type: ignore[arg-type]


def _describe_samples(panel: OverlayPanel, shown: QuerySamples) -> dict[str, Any]:
    samples = shown.samples
    tokens: dict[str, Any] = {}
    for direction, sampled in samples.samples.items():
        if direction == "point":
            pairs = zip(sampled.positions.tolist(), sampled.counts.tolist(), strict=True)
            tokens["points"] = [[*position, count] for position, count in pairs]
        else:
            tokens[direction] = samples.along(direction).tolist()
    return {
        "query": str(shown.query),
        "query_token": list(samples.query),
        "query_px": [round(value, 3) for value in panel.position_px(*samples.query)][::-1],
        "map_size": list(samples.grid),
        "channels": samples.channels,
        **tokens,
        "outside": dict(samples.outside),
    }


def tabulate_panels(panels: Iterable[OverlayPanel], with_images: bool) -> "DataFrame":
    """Return the numbers of panels as a table: see `statistics.rows` for its columns.

    Args:
        panels: Panels of one view.
        with_images: Whether to add a first column, `image`.
    """
    import pandas

    rows: list[dict[str, Any]] = []
    for panel in panels:
        name = {"image": panel.photo.name} if with_images else {}
        rows += [name | row for row in _rows(panel)]
    return pandas.DataFrame(rows)


def _rows(panel: OverlayPanel) -> list[dict[str, Any]]:
    if panel.queries:
        return [row for shown in panel.queries for row in sample_rows(panel.site, str(shown.query), shown.samples)]
    if isinstance(panel.shown, TokenMap):
        is_density = panel.shown.label not in panel.site.branches
        return (density_rows if is_density else fusion_rows)(panel.site, panel.shown.label, panel.shown.values)
    return weight_rows(panel.site, panel.shown)  # type: ignore[arg-type]
