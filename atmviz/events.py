"""What a long call tells its caller while it runs. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


QUIET = Events()
