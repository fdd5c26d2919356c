"""How a command hands over a figure: files, and what it prints."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmviz.files import check_writable
from atmviz.views.settings import MOVING_FORMATS

from .console import CONSOLE, import_matplotlib, is_main_process, print_json, print_paths
from .options import command_line

if TYPE_CHECKING:
    from atmviz.views import DrawnFigure


def prepare(out: Path, formats: list[Any] | None) -> None:
    """Import matplotlib, and check before long work that the figure can be written."""
    import_matplotlib()
    from atmviz.figures.saving import figure_files, require_own

    is_moving = out.suffix.lower() in MOVING_FORMATS and not out.is_dir()
    kinds = [kind for kind in formats or () if kind != "tex"] or None
    require_own(files := [out] if is_moving else figure_files(out, "figure", kinds))
    check_writable(files[0])


def deliver(
    drawn: "DrawnFigure",
    out: Path,
    formats: list[Any] | None,
    as_json: bool,
    show: Callable[["DrawnFigure"], None] = lambda drawn: None,
) -> None:
    """Write a figure with its table; print JSON, or what `show` prints of it and the paths.

    Of torchrun's processes only the first does so.
    """
    if not is_main_process():
        return
    files = drawn.save(out, formats, command=command_line(), events=CONSOLE)
    if as_json:
        print_json({"files": [str(file) for file in files], **drawn.numbers})
        return
    show(drawn)
    print_paths(files)
