"""One style for all figures: colors that color-blind people can tell apart, embedded fonts, no screen needed."""

import io
import re
import textwrap
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.colors import is_color_like
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from atmviz.errors import SettingsError, join_limited, printable, reason_of, shorten, summarize
from atmviz.figures.settings import FigureStyle
from atmviz.files import read_limited
from atmviz.statistics.sampling import Direction

COLORS: dict[Direction | Literal["query"], str] = {
    "horizontal": "#0173b2",
    "vertical": "#de8f05",
    "point": "#029e73",
    "query": "#cc78bc",
}
"""Blue, orange, green and purple of seaborn's "colorblind" palette."""
NOTE = "#555555"
_SHOWN_DPI = 150  # in a notebook
MAX_PANELS = 256  # of a figure
_FONT = "DejaVu Sans"  # comes with matplotlib
_LINE = 1.23  # of type, in its size
_CHARACTER = 0.57  # width of type, in its size: the font's characters are 0.6 wide, on average less
_POINTS_PER_INCH = 72

_RC: dict[str, Any] = {
    # seaborn's style "ticks", where it is not matplotlib's own: without seaborn, whose import takes a second
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), ".15"),
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "font.family": [_FONT],
    "text.parse_math": False,  # a name may hold a $
    "pdf.fonttype": 42,  # embed TrueType: text stays text
    "svg.fonttype": "none",  # text stays text; a viewer without the font takes another
    "svg.hashsalt": "atmviz",
    "savefig.dpi": 200,
}
_SMALLEST_POINTS = 6.0  # that can be read in print

# What a style file may set: looks. Not LaTeX, which runs programs, backends, paths or layout.
_LOOKS = re.compile(
    r"(axes|font|grid|hatch|lines|patch|[xy]tick)\.(?!prop_cycle|formatter)\w[\w.-]*|text\.color"
    r"|figure\.(facecolor|edgecolor|figsize|titlesize|titleweight)|savefig\.(facecolor|edgecolor|transparent|dpi)"
)
_MAX_STYLE_BYTES = 2**20


class ShownFigure(Figure):
    """A figure that notebooks show as the value of a cell, although no figure of the project is one of pyplot's."""

    def _repr_png_(self) -> bytes:
        return shown_png(self)


def shown_png(figure: Figure) -> bytes:
    """Return the PNG of a figure that notebooks show."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_SHOWN_DPI)
    return buffer.getvalue()


@dataclass(frozen=True)
class Look:
    """What a `FigureStyle` comes to: settings of matplotlib, width and colors.

    Attributes:
        rc: Settings of matplotlib.
        width: Inches; None for what the panels need.
        points: Size of most type.
        colors: Of horizontal and vertical offsets, of 2-D points and of the query.
    """

    rc: dict[str, Any]
    width: float | None
    points: float
    colors: dict[Direction | Literal["query"], str]

    @classmethod
    def of(cls, style: FigureStyle = FigureStyle()) -> "Look":  # noqa: B008
        """Resolve a style.

        Raises:
            SettingsError: matplotlib cannot read the style file, has no such style or no such palette.
        """
        asked = _read_style(style.style) if style.style else {}
        width = style.width or (asked["figure.figsize"][0] if "figure.figsize" in asked else None)
        usual = 9.0 if width is None else 7.0 if width < 5 else 8.0 if width < 9 else 12.0
        points = style.font_size or asked.get("font.size", usual)
        sizes = {
            "font.size": points,
            **dict.fromkeys(("axes.titlesize", "figure.titlesize"), points + 1),
            "axes.labelsize": points,
            **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), max(points - 1, _SMALLEST_POINTS)),
        }
        rc = _RC | sizes | asked | (sizes if style.font_size else {}) | {"font.family": _families(asked)}
        return cls(rc | ({"savefig.dpi": style.dpi} if style.dpi else {}), width, points, _colors(style.palette))

    @property
    def dpi(self) -> float:
        """Pixels per inch of a PNG."""
        return float(self.rc["savefig.dpi"])

    @property
    def small(self) -> float:
        """Size of small type, points."""
        return max(self.points - 2, _SMALLEST_POINTS)

    def applied(self) -> AbstractContextManager[None]:
        """Use matplotlib's defaults with this look inside a `with` block, whatever the user's settings are.

        The user's backend stays: no figure of the project needs one.
        """
        defaults = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
        return mpl.rc_context(defaults | self.rc)  # type: ignore[arg-type]


def _read_style(style: str | Path) -> dict[str, Any]:
    """Return what a style file, or a style of matplotlib's, says of looks."""
    from matplotlib.style import available, library  # reads the user's folder of styles

    if str(style) in available:
        named: Any = library[str(style)]
        return {name: value for name, value in named.items() if _LOOKS.fullmatch(name)}
    try:
        lines = read_limited(Path(style), _MAX_STYLE_BYTES).decode().splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot read style {shorten(str(style))} ({reason_of(error)}): "
            f"expected a .mplstyle file or one of {join_limited(available, 8)}"
        ) from None
    # matplotlib runs or opens some of what the other lines can say
    named = {line.partition(":")[0].strip(): line for line in lines if ":" in line.partition("#")[0]}
    kept = {name: line for name, line in named.items() if _LOOKS.fullmatch(name)}
    with TemporaryDirectory() as folder:
        looks = Path(folder, "looks")
        looks.write_text("\n".join(kept.values()))
        try:
            if unknown := named.keys() - mpl.rcParamsDefault.keys():
                raise KeyError(f"matplotlib has no {min(unknown)}")
            rc: Any = mpl.rc_params_from_file(looks, fail_on_error=True, use_default_template=False)
        except (ValueError, RuntimeError, KeyError) as error:
            raise SettingsError(f"cannot use style {shorten(str(style))} ({summarize(error)}): mend its line") from None
    return dict(rc)


def _families(asked: Mapping[str, Any]) -> list[str]:
    """Return the fonts to take characters from: those asked for that exist, and the one that always does."""
    families = asked.get("font.family", [])
    generic: dict[Any, Any] = dict(mpl.rcParamsDefault) | dict(asked)
    named = [name for family in families for name in generic.get(f"font.{family}", [family])]
    installed = set(fontManager.get_font_names()) if named else set()
    return list(dict.fromkeys([*(name for name in named if name in installed), _FONT]))


def _colors(palette: str | None) -> dict[Direction | Literal["query"], str]:
    """Return the colors of a palette by what they stand for; of a palette of two, the others stay."""
    if palette is None:
        return COLORS
    return COLORS | dict(zip(("horizontal", "vertical", "query"), palette_colors(palette, 3), strict=False))


def palette_colors(palette: str, count: int) -> list[str]:
    """Return so many colors of a palette as hexadecimal texts; of colors joined by commas, these.

    Raises:
        SettingsError: there is no such palette or color.
    """
    import seaborn  # takes a second

    names = [part.strip() for part in palette.split(",")]
    several = len(names) > 1
    expected = "expected a palette like colorblind or viridis, or colors like '#0173b2,#de8f05'"
    if several and (unknown := [name for name in names if not is_color_like(name)]):
        raise SettingsError(f"got palette {shorten(palette)}, in which {shorten(unknown[0])} is no color: {expected}")
    try:
        return list(seaborn.color_palette(names if several else palette, len(names) if several else count).as_hex())
    except (ValueError, KeyError):
        raise SettingsError(f"got palette {shorten(palette)}, {expected}") from None


def figure_style() -> AbstractContextManager[None]:
    """Use the project's usual look inside a `with` block; see `Look.applied`."""
    return Look.of().applied()


def drawable(text: str, limit: int = 1000) -> str:
    r"""Return at most `limit` characters of a text, with those that the font of figures lacks escaped, as `\u5199`."""
    known = _characters_of_font()
    shown = "".join(c if ord(c) in known else ascii(c)[1:-1] for c in printable(text[:limit]))
    return shown if len(shown) <= limit and len(text) <= limit else f"{shown[: limit - 1]}…"


@cache
def _characters_of_font() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())


def add_note(figure: Figure, text: str, trained: bool | None, points: float = 7, left: float = 0.03) -> None:
    """Write a note at the foot; if weights are not trained, or it is unknown (None), add a warning in bold below.

    It begins `left` inches from the edge, or nearer to it where it is too wide.
    """
    width = figure.get_figwidth()
    needed = max(map(len, text.split("\n"))) * _CHARACTER * points / _POINTS_PER_INCH
    foot: dict[str, Any] = {"x": max(min(left, width - needed), 0.03) / width, "ha": "left", "va": "bottom"}
    height = figure.get_figheight()
    if not trained:
        figure.text(**foot, y=0.03 / height, s=_warning(trained), weight="bold", color="#b00020", fontsize=points + 2)
    bottom = 0.03 + (0 if trained else _lines(1, points + 2))
    figure.text(**foot, y=bottom / height, s=text, fontsize=points, color=NOTE)


def _warning(trained: bool | None) -> str:
    return "untrained weights" if trained is False else "weights of unknown origin"


def _lines(count: int, points: float) -> float:
    """Return the height of lines of type, inches."""
    return _LINE * count * points / _POINTS_PER_INCH


def format_fraction(fraction: float) -> str:
    """Return a fraction as `0 %`, `<0.1 %` or `12.3 %`; only zero reads as zero."""
    return "0 %" if fraction == 0 else "<0.1 %" if fraction < 0.001 else f"{100 * fraction:.1f} %"


def wrap(text: str, width_inches: float, points: float) -> list[str]:
    """Return a text in lines that fit."""
    return textwrap.wrap(drawable(text), max(int(width_inches * _POINTS_PER_INCH / (_CHARACTER * points)), 8))


def wrap_title(title: str, width_inches: float, points: float = 10) -> tuple[str, float]:
    """Return the title in lines that fit, and their height in inches; file names in it may have any length."""
    lines = wrap(title, width_inches, points) or [""]
    return "\n".join(lines), 0.13 + _lines(len(lines), points)


def wrap_note(note: str, width_inches: float, trained: bool | None, points: float = 7) -> tuple[str, float]:
    """Return the note in lines that fit, and the height of the foot in inches."""
    lines = wrap(note, width_inches, points)
    return "\n".join(lines), 0.05 + _lines(len(lines), points) + (0 if trained else _lines(1, points + 2))


def layout_above(figure: Figure, foot_inches: float) -> None:
    """Keep the panels of a figure with constrained layout above a foot of fixed height."""
    foot = foot_inches / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))  # type: ignore[union-attr, call-arg]
