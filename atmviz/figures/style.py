"""One look for all figures: colour-blind-safe, embedded fonts, no screen needed."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from atmviz.files import atomic_path
from atmviz.layers import LayerId

FigureFormat = Literal["png", "pdf", "svg"]

HORIZONTAL, VERTICAL = "#0173b2", "#de8f05"  # blue and orange of seaborn's "colorblind" palette
AXIS_COLORS = (HORIZONTAL, VERTICAL)
NOTE = "#555555"

_RC: dict[str, Any] = {
    # seaborn's style "ticks", where it is not matplotlib's own: without seaborn, whose import takes a second
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), ".15"),
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "pdf.fonttype": 42,  # embed TrueType: text stays text
    "svg.fonttype": "path",  # outlines: looks the same without the font
    "svg.hashsalt": "atmviz",
    "savefig.dpi": 200,
}


def figure_style() -> AbstractContextManager[None]:
    """The settings a figure is made and saved under."""
    return mpl.rc_context(_RC)  # type: ignore[arg-type]


def add_note(figure: Figure, text: str, trained: bool | None) -> None:
    """A line at the foot that says what is shown; in bold, if weights are untrained or (None) of unknown origin."""
    if not trained:
        warning = "untrained weights" if trained is False else "weights of unknown origin"
        figure.text(0.995, 0.004, warning, ha="right", va="bottom", weight="bold", color="#b00020")
    figure.text(0.005, 0.004, text, ha="left", va="bottom", fontsize=7, color=NOTE)


def format_share(share: float) -> str:
    """`0 %`, `<0.1 %`, `12.3 %`: nothing that is there reads as zero."""
    return "0 %" if share == 0 else "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def figure_name(
    subject: str, kind: str, model: str, trained: bool | None, sha256: str, layers: Sequence[LayerId]
) -> str:
    """`photos_atmnet_nano_histogram_2_1-3_18`; weights that are not seeded add the start of their fingerprint."""
    name = re.sub(r"\W+", "-", model).strip("-")  # semantic_fpn(atmnet_nano): no brackets in a file's name
    weights = name if trained is False else f"{name}-{sha256[:6]}"
    labels = [str(layer) for layer in layers]
    shown = "-".join(labels) if len(labels) <= 4 else f"{labels[0]}-to-{labels[-1]}"
    return f"{subject}_{weights}_{kind}_{shown}"


def wrap_title(title: str, width_inches: float) -> tuple[str, float]:
    """The title in lines that fit, and the height they need in inches; file names may be of any length."""
    lines = textwrap.wrap(title, int(12 * width_inches)) or [""]
    return "\n".join(lines), 0.13 + 0.17 * len(lines)


def layout_above(figure: Figure, foot_inches: float) -> None:
    """Lay out the panels of a constrained figure above a foot of fixed height."""
    foot = foot_inches / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))  # type: ignore[union-attr, call-arg]


def save_figure(figure: Figure, path: Path, formats: Iterable[FigureFormat]) -> list[Path]:
    """Write the figure once per format beside each other, each file whole or not at all.

    Args:
        figure: The figure.
        path: Where, without a suffix.
        formats: "png", "pdf", "svg".

    Returns:
        The files, in the order of the formats.
    """
    files = []
    with figure_style():
        for kind in formats:
            target = path.with_name(f"{path.name}.{kind}")
            undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
            with atomic_path(target) as temporary:
                figure.savefig(temporary, format=kind, metadata=undated)
            files.append(target)
    return files
