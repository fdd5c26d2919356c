"""A figure with its file name, its numbers, its table and what it shows."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.errors import SettingsError
from atmviz.events import QUIET, Events
from atmviz.figures.saving import About, FigureFormat, figure_files, save_figure
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import Look
from atmviz.files import atomic_path
from atmviz.geometry import Preprocessing

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class DrawnFigure:
    """A finished figure.

    Attributes:
        figure: The figure.
        name: File name without suffix.
        numbers: The numbers drawn and where they come from, ready for JSON.
        about: Network, weights, data and settings: all that makes the figure what it is.
        table: The numbers as a table, where the figure has one.
        style: How it looks in print.
    """

    figure: Figure
    name: str
    numbers: dict[str, Any]
    about: About
    table: "DataFrame | None" = None
    style: FigureStyle = field(default_factory=FigureStyle)

    def save(
        self,
        out: str | Path = ".",
        formats: Sequence[FigureFormat] | None = None,
        *,
        command: str = "",
        events: Events = QUIET,
    ) -> list[Path]:
        """Write the figure in each format, and its table as CSV beside it; return the files.

        Args:
            out: A folder, or a file ending in .png, .pdf or .svg.
            formats: Formats of the files in a folder; PNG for None.
            command: The command that drew the figure, for its metadata.
            events: Receives which figures of other settings were replaced.

        Raises:
            SettingsError: a file that is none of atmviz would be replaced, or see `figure_files`.
        """
        files = figure_files(out, self.name, formats)
        table = files[0].with_suffix(".csv") if files[0] == Path(out) else files[0].with_name(f"{self.name}.csv")
        if self.table is not None and files[0] == Path(out) and table.exists() and not files[0].exists():
            raise SettingsError(f"{table} exists and belongs to no figure of atmviz: choose another name")
        with ExitStack() as stack:
            if self.table is not None:  # moved into place after the figure was written: both are of the same data
                self.table.to_csv(stack.enter_context(atomic_path(table)), index=False, lineterminator="\n")
            save_figure(self.figure, files, self.about, look=Look.of(self.style), command=command, events=events)
        return files if self.table is None else [*files, table]


def describe_preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return size, fit, `crop_pct` of a crop, and the fraction of a photograph that is seen, by its width:height."""
    return {
        "size": list(preprocessing.size),
        "fit": preprocessing.fit,
        "crop_pct": preprocessing.crop_pct if preprocessing.fit == "crop" else None,
        "seen": preprocessing.seen(),
    }


def describe_style(style: FigureStyle) -> dict[str, Any]:
    """Return the settings of a style that are not the usual ones, ready for JSON."""
    usual = FigureStyle()
    settings = {item.name: getattr(style, item.name) for item in fields(style)}
    return {name: str(v) if isinstance(v, Path) else v for name, v in settings.items() if v != getattr(usual, name)}
