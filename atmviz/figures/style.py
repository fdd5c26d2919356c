"""One style for all figures: colors that color-blind people can tell apart, embedded fonts, no screen needed."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from atmviz.errors import printable
from atmviz.files import SOFTWARE, atomic_path, file_name
from atmviz.layers import offset_sources
from atmviz.statistics.sampling import Direction
from atmviz.variants import VARIANTS

FigureFormat = Literal["png", "pdf", "svg"]
_METADATA: dict[FigureFormat, dict[str, Any]] = {  # without dates: the same figure has the same bytes
    "png": {"Software": SOFTWARE},
    "pdf": {"Creator": SOFTWARE, "CreationDate": None},
    "svg": {"Creator": SOFTWARE, "Date": None},
}

COLORS: dict[Direction, str] = {"horizontal": "#0173b2", "vertical": "#de8f05", "point": "#029e73"}
"""Blue, orange and green of seaborn's "colorblind" palette."""
NOTE = "#555555"
MAX_PANELS = 256  # of a figure
_FONT = "DejaVu Sans"  # comes with matplotlib
_NOTE_LINE, _WARNING_LINE = 0.12, 0.17  # inches

_RC: dict[str, Any] = {
    # seaborn's style "ticks", where it is not matplotlib's own: without seaborn, whose import takes a second
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), ".15"),
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "font.family": _FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.parse_math": False,  # a name may hold a $
    "pdf.fonttype": 42,  # embed TrueType: text stays text
    "svg.fonttype": "path",  # outlines: looks the same without the font
    "svg.hashsalt": "atmviz",
    "savefig.dpi": 200,
}


def figure_style() -> AbstractContextManager[None]:
    """Use matplotlib's defaults with the project's changes inside a `with` block, whatever the user's settings are.

    The user's backend stays: no figure of the project needs one.
    """
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    return mpl.rc_context(defaults | _RC)  # type: ignore[arg-type]


def drawable(text: str, limit: int = 1000) -> str:
    r"""Return at most `limit` characters of a text, with those that the font of figures lacks escaped, as `\u5199`."""
    known = _characters_of_font()
    shown = "".join(c if ord(c) in known else ascii(c)[1:-1] for c in printable(text[:limit]))
    return shown if len(shown) <= limit and len(text) <= limit else f"{shown[: limit - 1]}…"


@cache
def _characters_of_font() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())


def add_note(figure: Figure, text: str, trained: bool | None) -> None:
    """Write a note at the foot; if weights are not trained, or it is unknown (None), add a warning in bold below."""
    foot: dict[str, Any] = {"x": 0.03 / figure.get_figwidth(), "ha": "left", "va": "bottom"}
    height = figure.get_figheight()
    if not trained:
        warning = "untrained weights" if trained is False else "weights of unknown origin"
        figure.text(**foot, y=0.03 / height, s=warning, weight="bold", color="#b00020")
    bottom = 0.03 + (0 if trained else _WARNING_LINE)
    figure.text(**foot, y=bottom / height, s=text, fontsize=7, color=NOTE)


def format_fraction(fraction: float) -> str:
    """Return a fraction as `0 %`, `<0.1 %` or `12.3 %`; only zero reads as zero."""
    return "0 %" if fraction == 0 else "<0.1 %" if fraction < 0.001 else f"{100 * fraction:.1f} %"


def figure_name(
    subject: str,
    kind: str,
    model: str,
    trained: bool | None,
    sha256: str,
    layers: Sequence[str],
    details: Sequence[str] = (),
) -> str:
    """Return a file name like `photos_atmnet_nano_histogram_2_1-3_18`, of at most 180 bytes.

    Weights that are not random add the start of their fingerprint.

    Args:
        subject: Name of the images; any text, cut where the rest needs the room.
        kind: "histogram" or "overlay".
        model, trained, sha256: Name of the network, whether its weights are trained, and their fingerprint.
        layers: Names of the layers shown.
        details: What else tells two figures of one subject apart, e.g. the queries.
    """
    name = file_name(re.sub(r"\W+", "-", model).strip("-"), 60)  # semantic_fpn(atmnet_nano): no brackets
    weights = name if trained is False else f"{name}-{file_name(sha256[:6])}"
    shown = [kind, _layer_range(layers, model) or file_name("-".join(layers), 30)]
    if details:
        shown.append(file_name("_".join(details), 40))
    rest = "_".join(["", weights, *shown])
    return file_name(subject, 180 - len(rest.encode())) + rest


def _layer_range(layers: Sequence[str], model: str) -> str | None:
    """Return `1_1-to-4_2` for more than four layers that are all those of the backbone between the two."""
    variant = next((VARIANTS[name] for name in re.findall(r"\w+", model) if name in VARIANTS), None)
    every = [str(layer) for layer in offset_sources(variant.depths, variant.offset_interval)] if variant else []
    if len(layers) <= 4 or layers[0] not in every:
        return None
    first = every.index(layers[0])
    return f"{layers[0]}-to-{layers[-1]}" if list(layers) == every[first : first + len(layers)] else None


def wrap_title(title: str, width_inches: float) -> tuple[str, float]:
    """Return the title in lines that fit, and their height in inches; file names in it may have any length."""
    lines = textwrap.wrap(drawable(title), int(12 * width_inches)) or [""]
    return "\n".join(lines), 0.13 + 0.17 * len(lines)


def wrap_note(note: str, width_inches: float, trained: bool | None) -> tuple[str, float]:
    """Return the note in lines that fit, and the height of the foot in inches."""
    lines = textwrap.wrap(drawable(note), int(19 * width_inches))
    return "\n".join(lines), 0.05 + _NOTE_LINE * len(lines) + (0 if trained else _WARNING_LINE)


def layout_above(figure: Figure, foot_inches: float) -> None:
    """Keep the panels of a figure with constrained layout above a foot of fixed height."""
    foot = foot_inches / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))  # type: ignore[union-attr, call-arg]


def save_figure(figure: Figure, path: Path, formats: Iterable[FigureFormat]) -> list[Path]:
    """Write a figure into one file per format, each atomically.

    Args:
        figure: The figure.
        path: Path of the files without suffix.
        formats: "png", "pdf", "svg".

    Returns:
        The files, in the order of the formats.
    """
    files = []
    with figure_style():
        for kind in formats:
            target = path.with_name(f"{path.name}.{kind}")
            with atomic_path(target) as temporary:
                figure.savefig(temporary, format=kind, metadata=_METADATA[kind])
            files.append(target)
    return files
