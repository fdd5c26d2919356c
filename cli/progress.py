"""Progress of long library calls on a terminal."""

from contextlib import AbstractContextManager, ExitStack

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from atmviz.errors import printable
from atmviz.processes import this_process

from .console import ConsoleEvents, is_main_process, say, stderr, waiting


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {self._unit}/s" if task.speed else "", style="progress.data.speed")


class ProgressConsole(ConsoleEvents, AbstractContextManager["ProgressConsole"]):
    """Shows messages, a spinner until the first image is done, then a bar with rate and time left.

    Without a terminal there is neither spinner nor bar.

    Args:
        preparation: What happens before the first image.
        work: What is done with each image.
        kept: What Ctrl-C leaves behind, where the same command resumes.
        unit: What is counted.
    """

    def __init__(self, preparation: str, work: str, kept: str = "", unit: str = "images") -> None:
        world = this_process().world  # only the first process shows a bar
        self._work = printable(f"{work}, process 1 of {world}" if world > 1 else work)
        self._kept, self._unit = kept, unit
        self._bar: Progress | None = None
        self._shown = ExitStack()
        self._shown.enter_context(waiting(preparation))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._shown.close()
        if self._kept and isinstance(error, KeyboardInterrupt):
            say(f"interrupted: {self._kept}; the same command resumes")
            raise typer.Exit(130) from None

    def images(self, done: int, total: int) -> None:
        if self._bar is None:
            self._shown.close()  # a terminal shows one moving thing at a time
            name = TextColumn("{task.description}", markup=False)
            columns = (name, BarColumn(), MofNCompleteColumn(), _Rate(self._unit), TimeRemainingColumn())
            hidden = not (stderr.is_terminal and is_main_process())
            self._bar = self._shown.enter_context(Progress(*columns, console=stderr, disable=hidden, transient=True))
            self._bar.add_task(self._work, total=total, completed=done)  # the rate begins here
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
