"""Output for people: messages and progress on stderr, data on stdout."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from atmviz.errors import join_limited, printable
from atmviz.events import Events
from atmviz.processes import ignored_launcher, this_process

# Labels of the metrics in tables and messages; all in percent except the loss
METRIC_LABELS = {"top1": "top-1", "top5": "top-5", "loss": "loss", "miou": "mIoU", "macc": "mAcc", "aacc": "aAcc"}
for _kind in ("box", "mask"):
    METRIC_LABELS |= {f"{_kind}_ap": f"{_kind} AP", f"{_kind}_ap50": f"{_kind} AP50", f"{_kind}_ap75": f"{_kind} AP75"}
    METRIC_LABELS |= {f"{_kind}_ap_{size}": f"{_kind} AP {size}" for size in ("small", "medium", "large")}


class _Console(Console):
    """Shows text literally: markup is not interpreted, and control characters are escaped."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str("\n".join(printable(line) for line in text.split("\n")), **settings)


# Before it compiles, torch warns that there is no CUDA runtime wherever CUDA's compiler is installed
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
stderr = _Console(stderr=True)
stdout = _Console()


def is_main_process() -> bool:
    """Whether this process works alone or is the first of torchrun's."""
    return this_process().rank == 0


def say(message: str) -> None:
    """Print one line on stderr, in the first process only."""
    if is_main_process():
        print_line(message)


def print_line(message: str) -> None:
    """Print one line on stderr, in whichever process calls this."""
    stderr.print(" ".join(message.splitlines()))


class ConsoleEvents(Events):
    """Prints the messages of a library call on stderr."""

    def message(self, text: str) -> None:
        say(text)

    def left_out(self, reasons: dict[str, str]) -> None:
        if reasons:
            named = join_limited(reasons, 20)
            say(f"skipped {len(reasons)} unreadable image{'s'[: len(reasons) > 1]}: {named}")
            if reason := next((reason for reason in reasons.values() if ":" in reason), ""):
                say(f"  the first: {reason}")


CONSOLE = ConsoleEvents()


def print_paths(paths: Iterable[Path]) -> None:
    """Print paths on stdout, one a line: readable text on a terminal, the exact bytes to a pipe or file."""
    for path in paths:
        typer.echo(printable(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def print_rows(
    title: str | None,
    headings: Iterable[str],
    rows: Iterable[Iterable[Any]],
    caption: str | None = None,
    texts: int = 1,
) -> None:
    """Print rows as a table, whose widest text is wrapped to fit a terminal, or else each row as a list.

    Nothing is cut, and texts are wrapped between words alone or after ./_- in them.

    Args:
        title, caption: Lines above and below.
        headings: One per column.
        rows: Cells; None is shown as a dash.
        texts: Number of columns, from the left, that are left-aligned; the others are right-aligned.
    """
    headings, cells = [*headings], [["–" if cell is None else str(cell) for cell in row] for row in rows]
    table = _table(headings, cells, texts)
    is_pipe = not (sys.stdout.isatty() or "COLUMNS" in os.environ)
    if not is_pipe and table.width > stdout.width:
        lengths = [max((len(row[k]) for row in cells), default=0) for k in range(texts)]
        widest = lengths.index(max(lengths))
        room = lengths[widest] - (table.width - stdout.width)
        if room >= _NARROWEST_TEXT:
            wrapped = [[_wrapped(cell, room) if k == widest else cell for k, cell in enumerate(row)] for row in cells]
            table = _table(headings, wrapped, texts)
    if title:
        stdout.print(title)
    if is_pipe or table.width <= stdout.width:
        stdout.print(table)
    else:
        names = [" ".join(heading.split()) for heading in headings]
        for first, *others in cells:
            stdout.print(f"{names[0]} {first}".strip())
            for name, cell in zip(names[1:], others, strict=True):
                stdout.print(f"  {name}: {cell}")
    if caption:
        stdout.print(caption)


_NARROWEST_TEXT = 16  # characters of a column whose texts are wrapped


def _table(headings: list[str], cells: list[list[str]], texts: int) -> Any:
    """Return a table as wide as its cells."""
    table = Table()
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position < texts else "right")
    for row in cells:
        table.add_row(*row)
    table.width = Measurement.get(stdout, stdout.options.update(max_width=10**6), table).maximum
    return table


def _wrapped(text: str, width: int) -> str:
    """Return a text in lines of `width` characters at most, as far as its words allow."""
    lines = [""]
    for part in re.findall(r"[^\s./_-]*(?:[\s./_-]|$)", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def import_matplotlib() -> None:
    """Import matplotlib with its own settings, before torchmetrics or seaborn does; figures need no backend.

    A user's matplotlibrc or $MPLBACKEND that matplotlib cannot read would make its import fail.
    """
    os.environ.pop("MPLBACKEND", None)
    (package,) = find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr, misc]
    with chdir(Path(package, "mpl-data")):  # matplotlib takes the matplotlibrc of the working folder first
        import matplotlib  # noqa: F401


def say_if_alone() -> None:
    """Warn that processes started by other launchers than torchrun each do all of the work."""
    if variable := ignored_launcher():
        say(f"{variable} is ignored: this process works alone, as only those that torchrun starts share work")


def print_json(data: Any) -> None:
    """Print one JSON value on stdout. NaN (the spread of a single run) becomes null, because JSON has no NaN."""
    typer.echo(_json(data, indent=2))


def print_json_rows(data: dict[str, Any], rows: Iterable[Any]) -> None:
    """Print one JSON object with these rows under "rows"; each has a line of its own, printed as soon as it is there.

    A command that is stopped leaves the rows it had.
    """
    typer.echo(_json(data)[:-1] + ', "rows": [')
    for number, row in enumerate(rows):
        typer.echo((",\n" if number else "") + _json(row))
    typer.echo("]}")


def _json(data: Any, indent: int | None = None) -> str:
    return json.dumps(json.loads(json.dumps(data), parse_constant=lambda name: None), indent=indent)


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show a spinner during work that takes a second or more and has no steps to count."""
    if stderr.is_terminal:
        with stderr.status(Text(printable(title))):  # a plain string would be read as markup
            yield
    else:
        yield
