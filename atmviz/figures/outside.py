"""Ticks at the border of a photograph for samples beyond it."""

from typing import Any

import numpy as np

from atmviz.figures.page import Margins
from atmviz.figures.panels import OverlayPanel
from atmviz.figures.samples import Canvas
from atmviz.figures.style import NOTE, Look, format_fraction
from atmviz.statistics.sampling import Direction, SamplingMap

_TICK = 5.0  # length, points
SIDES: dict[str, tuple[Direction, int, int]] = {  # direction, and outward along x and y
    "left": ("horizontal", -1, 0),
    "right": ("horizontal", 1, 0),
    "top": ("vertical", 0, 1),
    "bottom": ("vertical", 0, -1),
}


def room_outside(panel: OverlayPanel, look: Look, always: bool = False) -> Margins:
    """Return the room beside an image: for ticks, and for circles of cells that extend beyond it.

    `always` gives the room for any samples of this query, or another one.
    """
    if not panel.queries:
        return Margins()
    samples = panel.queries[0].samples if len(panel.queries) == 1 else None
    outside = samples.outside if samples else {}
    is_outside = [bool(outside.get(side) or (always and side in outside)) for side in SIDES]
    tick = tuple((_TICK + 3) / 72 * needed for needed in is_outside)
    text = tuple((1.25 * look.small + _TICK + 3) / 72 * needed for needed in is_outside)
    top, left, bottom, right = panel.photo.seen_px
    dots = np.concatenate(
        [positions for shown in panel.queries for positions, _ in panel.dots_px(shown.samples).values()]
    )
    if always:
        rows, columns = panel.queries[0].samples.grid
        dots = np.array([panel.position_px(0, 0), panel.position_px(rows - 1, columns - 1)])
    if not len(dots):
        return Margins(text, tick)
    radius, height = 0.47 * min(panel.cell_px), bottom - top
    (first_y, first_x), (last_y, last_x) = dots.min(0), dots.max(0)
    inside = (first_x - left, right - last_x, first_y - top, bottom - last_y)
    return Margins(text, tick, tuple(max(radius - distance, 0) / height for distance in inside))


def draw_outside(canvas: Canvas, samples: SamplingMap, look: Look, is_brief: bool = False) -> None:
    """Draw ticks beyond the border, and beyond the circles there, with the percentage of channels unless brief."""
    top, left, bottom, right = canvas.panel.photo.seen_px
    y, x = canvas.panel.position_px(*samples.query)
    across, down = canvas.size[0] / (right - left), canvas.size[1] / (bottom - top)
    overhangs = _overhangs(canvas, samples)
    for side, (direction, dx, dy) in SIDES.items():
        if not (count := samples.outside.get(side, 0)):
            continue
        is_row = direction == "horizontal"
        border = ((left if dx < 0 else right), y) if is_row else (x, (top if dy > 0 else bottom))
        before, length = ((y - top) * down, canvas.size[1]) if is_row else ((x - left) * across, canvas.size[0])
        color = look.colors["point" if "point" in samples.samples else direction]
        gap = overhangs[side] + 1
        canvas.axis.annotate(
            "" if is_brief else format_fraction(count / samples.channels),
            border,
            (dx * (gap + _TICK), dy * (gap + _TICK)),
            textcoords="offset points",
            rotation=90 if is_row else 0,
            fontsize=look.small,
            color=NOTE,
            gid=side,
            annotation_clip=False,
            **_aligned(
                side, before, length, 2.2 * look.small, {"color": color, "lw": 2, "capstyle": "butt", "shrinkB": gap}
            ),
        )


def _overhangs(canvas: Canvas, samples: SamplingMap) -> dict[str, float]:
    """Return how far a circle in the last row or column extends beyond each border, points."""
    top, left, bottom, right = canvas.panel.photo.seen_px
    across, down = canvas.size[0] / (right - left), canvas.size[1] / (bottom - top)
    first_y, first_x = canvas.panel.position_px(0, 0)
    last_y, last_x = canvas.panel.position_px(samples.grid[0] - 1, samples.grid[1] - 1)
    inside = {
        "left": (first_x - left) * across,
        "right": (right - last_x) * across,
        "top": (first_y - top) * down,
        "bottom": (bottom - last_y) * down,
    }
    return {side: max(canvas.diameter / 2 - points, 0) for side, points in inside.items()}


def _aligned(side: str, before: float, length: float, near: float, arrow: dict[str, Any]) -> dict[str, Any]:
    """Return how a percentage is aligned to its tick: centered, or where an end of the border is near, inwards.

    Args:
        side: The border.
        before, length: Points along the border, from the left or top: of the tick, and in all.
        near: Half of a percentage's length.
        arrow: How the tick is drawn.
    """
    at_start, at_end = before < near, length - before < near
    if side in ("left", "right"):
        ha = "right" if side == "left" else "left"
        va = "top" if at_start else "bottom" if at_end else "center"
    else:
        ha = "left" if at_start else "right" if at_end else "center"
        va = "bottom" if side == "top" else "top"
    anchor = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
    arrow = {"arrowstyle": "-", "shrinkA": 0, "relpos": (anchor[ha], anchor[va]), **arrow}
    return {"ha": ha, "va": va, "arrowprops": arrow}
