"""Progress of long library calls on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from .console import ConsoleEvents, image_progress, waiting


class _Shown(ConsoleEvents):
    """Shows messages, a spinner until the first image is done, then a progress bar."""

    def __init__(self, stack: ExitStack, preparation: str, work: str) -> None:
        self._stack, self._work = stack, work
        self._progress: Callable[[int, int], None] | None = None
        stack.enter_context(waiting(preparation))

    def images(self, done: int, total: int) -> None:
        if self._progress is None:
            self._stack.close()  # the spinner: a terminal shows one moving thing at a time
            self._progress = self._stack.enter_context(image_progress(self._work))
        self._progress(done, total)


@contextmanager
def shown(preparation: str, work: str) -> Iterator[ConsoleEvents]:
    """Give the events of a library call; `preparation` names what happens before the first image, `work` the rest."""
    with ExitStack() as stack:
        yield _Shown(stack, preparation, work)
