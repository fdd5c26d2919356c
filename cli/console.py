"""What people see: messages and progress on stderr, data on stdout."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from atmviz.processes import ignored_launcher, this_process

# Of the metrics a table or a line shows, in percent but for the loss
METRIC_LABELS = {"top1": "top-1", "top5": "top-5", "loss": "loss", "miou": "mIoU", "macc": "mAcc", "aacc": "aAcc"}
for _what in ("box", "mask"):
    METRIC_LABELS |= {f"{_what}_ap": f"{_what} AP", f"{_what}_ap50": f"{_what} AP50", f"{_what}_ap75": f"{_what} AP75"}
    METRIC_LABELS |= {f"{_what}_ap_{size}": f"{_what} AP {size}" for size in ("small", "medium", "large")}
stderr = Console(stderr=True, soft_wrap=True, highlight=False)
stdout = Console(soft_wrap=True, highlight=False)


def is_main_process() -> bool:
    """Whether this is the one process, or the first of torchrun's."""
    return this_process().rank == 0


def say(message: str) -> None:
    """One line for people, from the first process alone; square brackets stay what they are."""
    if is_main_process():
        complain(message)


def complain(message: str) -> None:
    """One line for people, from whichever process has it to say."""
    stderr.print(" ".join(message.splitlines()), markup=False)


def say_if_alone() -> None:
    """Tell whoever started several processes by other means than torchrun that each does all of the work."""
    if variable := ignored_launcher():
        say(f"{variable} is ignored: this process works alone, as only those that torchrun starts share work")


def say_skipped(skipped: dict[str, str]) -> None:
    """Name the images that were left out, at the end where they are not overlooked."""
    if skipped:
        names = list(skipped)
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        reason = next((reason for reason in skipped.values() if ":" in reason), "")
        say(f"skipped {len(names)} unreadable image{'s'[: len(names) > 1]}: {', '.join(names[:20])}{more}")
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(
        *columns, console=stderr, disable=not (stderr.is_terminal and is_main_process()), transient=True
    ) as progress:
        task = None
        world = this_process().world
        title = f"{what}, process 1 of {world}" if world > 1 else what  # the others have bars of their own to fill

        def update(done: int, total: int) -> None:
            nonlocal task
            if task is None:  # what an earlier run finished is where the bar starts, and no part of the rate
                task = progress.add_task(title, total=total, completed=done)
            progress.update(task, completed=done)

        yield update


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner for what takes a second or more but has no steps to count."""
    if stderr.is_terminal:
        with stderr.status(what):
            yield
    else:
        yield
