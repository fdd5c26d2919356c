"""Output for people: messages and progress on stderr, data on stdout."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
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


def print_path(path: Path) -> None:
    """Print one line on stdout: readable text on a terminal, the exact bytes of the path to a pipe or file."""
    typer.echo(printable(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def print_table(table: Table) -> None:
    """Print a table, or each of its rows as a list where the terminal is too narrow; nothing is cut."""
    title, caption, table.title, table.caption = table.title, table.caption, None, None
    table.width = Measurement.get(stdout, stdout.options.update(max_width=10**6), table).maximum
    if title:
        stdout.print(title)
    if table.width <= stdout.width or not (sys.stdout.isatty() or "COLUMNS" in os.environ):
        stdout.print(table)
    else:
        headings = [" ".join(str(column.header).split()) for column in table.columns]
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            stdout.print(f"{headings[0]} {cells[0]}".strip())
            for heading, cell in zip(headings[1:], cells[1:], strict=True):
                stdout.print(f"  {heading}: {cell}")
    if caption:
        stdout.print(caption)


def print_rows(
    title: str | None,
    headings: Iterable[str],
    rows: Iterable[Iterable[str]],
    caption: str | None = None,
    texts: int = 1,
) -> None:
    """Print rows as a table; the first `texts` columns are left-aligned, the others right-aligned."""
    table = Table(title=title, caption=caption)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position < texts else "right")
    for row in rows:
        table.add_row(*row)
    print_table(table)


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
    """Print one JSON value on stdout. NaN (the spread of a single run) becomes null, as JSON has no NaN."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    typer.echo(json.dumps(plain(data), indent=2, allow_nan=False))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} images/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def image_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with rate and time left; give its callback (done, total). No bar without a terminal."""
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(
        *columns, console=stderr, disable=not (stderr.is_terminal and is_main_process()), transient=True
    ) as progress:
        task = None
        world = this_process().world
        shown = f"{title}, process 1 of {world}" if world > 1 else title  # only the first process shows a bar

        def update(done: int, total: int) -> None:
            nonlocal task
            if task is None:  # images of an earlier run are not part of the rate
                task = progress.add_task(printable(shown), total=total, completed=done)
            progress.update(task, completed=done)

        yield update


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show a spinner during work that takes a second or more and has no steps to count."""
    if stderr.is_terminal:
        with stderr.status(Text(printable(title))):  # a plain string would be read as markup
            yield
    else:
        yield
