"""How figures look in print. Without matplotlib: commands read their options from here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atmviz.errors import SettingsError, describe
from atmviz.settings import Settings, setting

WIDTHS = {"column": 3.25, "text": 6.875, "slide": 10.0}
"""Widths by name, inches: one column and the text of a CVPR paper, the body of a slide."""
_UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}
_NARROWEST, _WIDEST = 1.5, 60.0  # inches

ShownAxis = Literal["horizontal", "vertical", "both"]


def parse_width(value: Any) -> float:
    """Return a width in inches.

    Args:
        value: Inches, a text with a unit ("3.25in", "8cm", "83mm", "240pt"), or a key of `WIDTHS`.

    Raises:
        SettingsError: it is none of these, or no figure can be that wide.

    >>> parse_width("column"), parse_width("144pt"), parse_width(5)
    (3.25, 2.0, 5.0)
    """
    text = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    match = re.fullmatch(r"(\d{1,4}(?:\.\d{1,9})?)\s*(in|cm|mm|pt|)", text)
    width = WIDTHS.get(text) or (float(match[1]) * _UNITS[match[2] or "in"] if match else 0.0)
    if not _NARROWEST <= width <= _WIDEST:
        raise SettingsError(
            f"got width {describe(value)}, expected {_NARROWEST} to {_WIDEST:.0f} inches: 3.25in, 8cm, 240pt, "
            f"{', '.join(WIDTHS)}"
        )
    return width


@dataclass(frozen=True)
class FigureStyle(Settings):
    """How a figure looks in print.

    Attributes:
        width: Inches; made of what `parse_width` takes. None for what the panels need.
        font_size: Size of most type, points.
        style: A file of matplotlib's settings, or a style's name. Only what is about looks is taken; other settings
            of a `FigureStyle` come before it.
        palette: A palette's name, or colors of horizontal and vertical offsets and of the query.
    """

    width: float | None = setting(
        None,
        "Printed width: 3.25in, 8cm, column (3.25in), text (6.875in) or slide (10in); by default what the panels need.",
        "Style",
        read=parse_width,
    )
    dpi: int | None = setting(None, "Pixels per inch of a PNG; by default 200.", "Style", low=30, high=2400)
    font_size: float | None = setting(
        None, "Type in points; by default 9, for a given width 7 (column) to 12 (slide).", "Style", low=4, high=72
    )
    style: Path | str | None = setting(  # noqa: RUF009
        None, "A matplotlib style: a file (.mplstyle) or a name; by default that of atmviz.", "Style"
    )
    palette: str | None = setting(
        None,
        "A palette of seaborn's, or colors for horizontal, vertical, query: '#0173b2,#de8f05'. By default colorblind.",
        "Style",
    )
    title: bool = setting(True, "A title above the panels.", "Style", flags=("--title/--no-title",))
    legend: bool = setting(True, "A legend and a note at the foot.", "Style", flags=("--legend/--no-legend",))
    axis: ShownAxis = setting("both", "The offsets to show.", "Style")  # noqa: RUF009
    columns: int | None = setting(None, "Panels in a row; by default rows of equal length.", "Style", low=1, high=64)
    share_y: bool = setting(True, "One scale for the y axes of all panels.", "Style", flags=("--share-y/--no-share-y",))
