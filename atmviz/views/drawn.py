"""A figure with its file name, its numbers, its table and what it shows."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure

from atmviz.errors import SettingsError
from atmviz.events import QUIET, Events
from atmviz.figures.saving import About, FigureFormat, figure_files, save_figure
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import Look, shown_png
from atmviz.files import atomic_path
from atmviz.geometry import Preprocessing
from atmviz.views.latex import is_latex_of_others, latex_table

if TYPE_CHECKING:
    from pandas import DataFrame

FileFormat = FigureFormat | Literal["tex"]


@dataclass(frozen=True)
class DrawnFigure:
    """A finished figure.

    Attributes:
        figure: The figure.
        name: File name without suffix.
        numbers: The numbers drawn and where they come from, ready for JSON.
        about: Network, weights, data and settings: all that makes the figure what it is.
        table: The numbers as a table, where the figure has one.
        printed: The table for people, with texts in place of numbers; `table` without it.
        style: How it looks in print.
    """

    figure: Figure
    name: str
    numbers: dict[str, Any]
    about: About
    table: "DataFrame | None" = None
    style: FigureStyle = field(default_factory=FigureStyle)
    printed: "DataFrame | None" = None

    def _repr_png_(self) -> bytes:
        return shown_png(self.figure)

    def save(
        self,
        out: str | Path = ".",
        formats: Sequence[FileFormat] | None = None,
        *,
        command: str = "",
        events: Events = QUIET,
    ) -> list[Path]:
        """Write the figure in each format, and its table beside it as CSV and, if asked, as LaTeX; return the files.

        Args:
            out: A folder, or a file ending in .png, .pdf or .svg.
            formats: Formats of the files in a folder; PNG for None. "tex" also writes the table as LaTeX, beside a file
                that is named, too.
            command: The command that drew the figure, for its metadata.
            events: Receives which figures of other settings were replaced.

        Raises:
            SettingsError: a file that is none of atmviz would be replaced, or see `figure_files`.
        """
        files = figure_files(out, self.name, [kind for kind in formats or () if kind != "tex"] or None)
        suffixes = (".csv", ".tex") if "tex" in (formats or ()) else (".csv",)
        is_named = files[0] == Path(out)
        tables = [files[0].with_suffix(each) if is_named else files[0].with_name(self.name + each) for each in suffixes]
        if self.table is None:
            if len(tables) > 1:
                raise SettingsError("got format tex, expected png, pdf or svg: this figure has no table")
            tables = []
        for table in (each for each in tables if each.exists()):
            if is_latex_of_others(table) or (is_named and not files[0].exists()):
                raise SettingsError(f"{table} exists and belongs to no figure of atmviz: choose another name")
        with ExitStack() as stack:
            for table in tables:  # moved into place after the figure was written: all are of the same data
                self._write_table(stack.enter_context(atomic_path(table)), table.suffix)
            save_figure(self.figure, files, self.about, look=Look.of(self.style), command=command, events=events)
        return [*files, *tables]

    def _write_table(self, path: Path, suffix: str) -> None:
        table: DataFrame = self.table
        if suffix == ".csv":
            table.to_csv(path, index=False, lineterminator="\n")
        else:
            path.write_text(latex_table(table if self.printed is None else self.printed), encoding="utf-8")


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
