"""Stop signals during training: the current update is finished and saved."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from atmviz.events import Events
from atmviz.signals import on_end_signals, saving, watch


@contextlib.contextmanager
def stop_signals(events: Events, world: int, has_begun: Callable[[], bool]) -> Iterator[list[signal.Signals]]:
    """Collect SIGINT, SIGTERM and SIGHUP within the block; a second SIGINT interrupts at once.

    Before the first update, which may compile for minutes, a signal ends the process at once: nothing is lost. After
    it a single process finishes its update however long it takes. With several processes, one that waits for another
    is ended after a grace period.
    """
    received: list[signal.Signals] = []

    def handle(number: signal.Signals) -> None:
        if not has_begun():
            events.message(f"stopped by {number.name} before the first update")
            raise SystemExit(128 + number)
        saving.set()
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not received:
            events.message("stopping and saving after this update; Ctrl-C again stops at once")
        received.append(number)

    try:
        handlers = on_end_signals(handle, signal.SIGINT)
    except ValueError:  # Python handles signals in the main thread only
        yield received
        return
    if world > 1:
        watch(events.message)
    try:
        yield received
    finally:
        saving.clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)
