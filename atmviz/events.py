"""What a long call tells its caller while it runs. Torch-free."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atmviz.training.health import OffsetHealth


class Events:
    """Receives what happens during a call. Each method does nothing; a subclass overrides those it shows."""

    def message(self, text: str) -> None:
        """Receive one line for people, e.g. which weights were loaded or what was left out."""

    def images(self, done: int, total: int) -> None:
        """Receive how many of this process's images are done, those of an earlier run included."""

    def left_out(self, reasons: dict[str, str]) -> None:
        """Receive why images could not be read and were left out, by name; empty where none was."""

    def epoch(self, row: dict[str, float], health: "list[OffsetHealth]") -> None:
        """Receive the log row of a finished training epoch and the state of each layer's offsets."""


QUIET = Events()
