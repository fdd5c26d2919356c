"""What a long call tells its caller while it runs. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atmviz.errors import AtmvizError

if TYPE_CHECKING:
    from atmviz.training.health import OffsetHealth


@dataclass(frozen=True)
class Progress:
    """How far a training run is, after an update.

    Attributes:
        epoch: Current epoch, from 1.
        epochs: Number of epochs.
        update: Current update within the epoch, from 1.
        updates: Updates per epoch.
        means: Means over the epoch so far: the loss, then top-1 in percent (classifiers) or the parts of the loss.
        rate: Images per second since this process started, over all processes.
    """

    epoch: int
    epochs: int
    update: int
    updates: int
    means: dict[str, float]
    rate: float


class Events:
    """Receives what happens during a call. Each method does nothing; a subclass overrides those it shows."""

    def __repr__(self) -> str:
        return "QUIET" if self is QUIET else f"{type(self).__name__}()"

    def message(self, text: str) -> None:
        """Receive one line for people, e.g. which weights were loaded or what was left out."""

    def images(self, done: int, total: int) -> None:
        """Receive how many of this process's images are done, those of an earlier run included."""

    def left_out(self, reasons: dict[str, str]) -> None:
        """Receive why images could not be read and were left out, by name; empty where none was."""

    def update(self, progress: Progress) -> None:
        """Receive how far training is: after each update on a CPU, every ten updates on a GPU."""

    def epoch(self, row: dict[str, float], health: "list[OffsetHealth]") -> None:
        """Receive the log row of a finished training epoch and the state of each layer's offsets."""


class NotebookLine(Events):
    """Shows in a notebook how far a call is, in a line that is replaced; messages stay above it.

    Raises:
        AtmvizError: IPython is not installed.
    """

    def __init__(self) -> None:
        try:
            from IPython.display import display
        except ImportError:
            raise AtmvizError("got no IPython, which a notebook has: pass events of another kind") from None
        self._messages: list[str] = []
        self._output = display({"text/plain": ""}, raw=True, display_id=True)

    def message(self, text: str) -> None:
        self._messages.append(text)
        self._show("")

    def images(self, done: int, total: int) -> None:
        self._show(f"{done:,} of {total:,} images")

    def update(self, progress: Progress) -> None:
        means = ", ".join(f"{name} {mean:.4g}" for name, mean in progress.means.items())
        epoch = f"epoch {progress.epoch} of {progress.epochs}, update {progress.update} of {progress.updates}"
        self._show(f"{epoch}: {means}, {progress.rate:.1f} images/s")

    def _show(self, line: str) -> None:
        self._output.update({"text/plain": "\n".join([*self._messages, line]).strip()}, raw=True)


QUIET = Events()
