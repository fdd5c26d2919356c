"""What people see: messages and progress on stderr, data on stdout."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
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
from atmviz.processes import ignored_launcher, this_process

# Of the metrics a table or a line shows, in percent but for the loss
METRIC_LABELS = {"top1": "top-1", "top5": "top-5", "loss": "loss", "miou": "mIoU", "macc": "mAcc", "aacc": "aAcc"}
for _what in ("box", "mask"):
    METRIC_LABELS |= {f"{_what}_ap": f"{_what} AP", f"{_what}_ap50": f"{_what} AP50", f"{_what}_ap75": f"{_what} AP75"}
    METRIC_LABELS |= {f"{_what}_ap_{size}": f"{_what} AP {size}" for size in ("small", "medium", "large")}


class _Console(Console):
    """Shows text as it is: no markup is read in it, and nothing in it acts on the terminal."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str("\n".join(printable(line) for line in text.split("\n")), **settings)


stderr = _Console(stderr=True)
stdout = _Console()


def is_main_process() -> bool:
    """Whether this is the one process, or the first of torchrun's."""
    return this_process().rank == 0


def say(message: str) -> None:
    """One line for people, from the first process alone."""
    if is_main_process():
        complain(message)


def complain(message: str) -> None:
    """One line for people, from whichever process has it to say."""
    stderr.print(" ".join(message.splitlines()))


def print_path(path: Path) -> None:
    """One line on stdout: to a terminal as text, to a pipe or a file as what the path is, for programs."""
    typer.echo(printable(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def print_table(table: Table) -> None:
    """A table where its lines have room, else each of its rows as a list: nothing is cut or left out."""
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


def import_matplotlib() -> None:
    """Import matplotlib by its own settings, before torchmetrics or seaborn does: figures need no backend.

    A user's matplotlibrc or $MPLBACKEND that matplotlib cannot read would end its import.
    """
    os.environ.pop("MPLBACKEND", None)
    (package,) = find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr, misc]
    with chdir(Path(package, "mpl-data")):  # matplotlib takes the matplotlibrc of the working folder first
        import matplotlib  # noqa: F401


def say_if_alone() -> None:
    """Tell whoever started several processes by other means than torchrun that each does all of the work."""
    if variable := ignored_launcher():
        say(f"{variable} is ignored: this process works alone, as only those that torchrun starts share work")


def say_skipped(skipped: dict[str, str]) -> None:
    """Name the images that were left out, at the end where they are not overlooked."""
    if skipped:
        reason = next((reason for reason in skipped.values() if ":" in reason), "")
        say(f"skipped {len(skipped)} unreadable image{'s'[: len(skipped) > 1]}: {join_limited(skipped, 20)}")
        if reason:
            say(f"  the first: {reason}")


def print_json(data: Any) -> None:
    """One JSON value on stdout; a number that is none (the spread of one run) is null, as JSON has no NaN."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    typer.echo(json.dumps(plain(data), indent=2, allow_nan=False))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} images/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def image_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with rate and time left; gives the callback (done, total). Silent where stderr is no terminal."""
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(
        *columns, console=stderr, disable=not (stderr.is_terminal and is_main_process()), transient=True
    ) as progress:
        task = None
        world = this_process().world
        title = f"{what}, process 1 of {world}" if world > 1 else what  # the others have bars of their own to fill

        def update(done: int, total: int) -> None:
            nonlocal task
            if task is None:  # what an earlier run finished is where the bar starts, and no part of the rate
                task = progress.add_task(printable(title), total=total, completed=done)
            progress.update(task, completed=done)

        yield update


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner for what takes a second or more but has no steps to count."""
    if stderr.is_terminal:
        with stderr.status(Text(printable(what))):  # a spinner reads markup in a string
            yield
    else:
        yield
