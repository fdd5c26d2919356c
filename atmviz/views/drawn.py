"""A figure with its file name, its numbers and its table."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from atmviz.figures.style import FigureFormat, save_figure
from atmviz.files import write_csv
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
        table: The numbers as a table, where the figure has one.
    """

    figure: Figure
    name: str
    numbers: dict[str, Any]
    table: "DataFrame | None" = None

    def save(self, folder: str | Path = ".", formats: Iterable[FigureFormat] = ("png",)) -> list[Path]:
        """Write the figure in each format, and its table as CSV; return the files."""
        path = Path(folder) / self.name
        files = save_figure(self.figure, path, formats)
        if self.table is not None:
            files.append(path.with_name(f"{path.name}.csv"))
            write_csv(files[-1], self.table.to_dict("records"))
        return files


def describe_preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return size, fit, `crop_pct` of a crop, and the fraction of a photograph that is seen, by its width:height."""
    return {
        "size": list(preprocessing.size),
        "fit": preprocessing.fit,
        "crop_pct": preprocessing.crop_pct if preprocessing.fit == "crop" else None,
        "seen": preprocessing.seen(),
    }
