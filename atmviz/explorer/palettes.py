"""Colors of the explorer's page: of what is sampled, and of offsets in the matrix. Torch-free."""

import shlex
from typing import Any

import numpy as np

_VIK = ("#001261", "#033e7d", "#1e6f9d", "#71a8c4", "#ece5e0", "#d29773", "#b85a2a", "#8b250b", "#590008")
_PRGN = ("#762a83", "#9970ab", "#c2a5cf", "#e7d4e8", "#f7f7f7", "#d9f0d3", "#a6dba0", "#5aae61", "#1b7837")
_GRAYS = ("#000000", "#202020", "#404040", "#606060", "#808080", "#a0a0a0", "#c0c0c0", "#e0e0e0", "#ffffff")


def _palette(horizontal: str, vertical: str, point: str, stops: tuple[str, ...]) -> dict[str, Any]:
    marks = {"horizontal": horizontal, "vertical": vertical, "point": point, "lit": "#f0e442"}
    words = f" {shlex.join(['--palette', f'{horizontal},{vertical}'])}" * (stops is not _VIK)
    return {**marks, "words": words, "stops": stops, "shades": _shades(stops)}


def _shades(stops: tuple[str, ...]) -> list[str]:
    """Return 129 colors from the first stop to the last."""
    places = np.linspace(0, len(stops) - 1, 129)
    parts = [np.interp(places, range(len(stops)), [int(stop[k : k + 2], 16) for stop in stops]) for k in (1, 3, 5)]
    return ["#" + "".join(f"{round(value):02x}" for value in color) for color in zip(*parts, strict=True)]


PALETTES = {
    "blue-orange": _palette("#0072b2", "#d55e00", "#009e73", _VIK),
    "purple-green": _palette("#542788", "#1b7837", "#67a9cf", _PRGN),
    "gray": _palette("#101010", "#a8a8a8", "#5c5c5c", _GRAYS),
}
"""Colors by what they stand for; "lit": what is selected; "stops" and "shades": from the lowest to the highest offset;
"words": what a command says of them.

Source: Okabe and Ito, Color universal design, 2008; Crameri, Scientific colour maps, 2018 (vik); ColorBrewer (PRGn).
"""
