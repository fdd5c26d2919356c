"""End a process within seconds of a signal, also while it waits or compiles in C++, where Python runs no handlers."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from typing import Any

END_SIGNALS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

GRACE_S = 10.0  # time for the current step to end
# Set while a handler is saving and will end the process itself
saving = threading.Event()
_watching = threading.Event()


def watch(say: Callable[[str], None]) -> None:
    """End this process `GRACE_S` after SIGTERM, SIGHUP or SIGINT, if it is still there and not `saving`.

    A second SIGINT also ends a process that is `saving`. Python's own handlers run in the main thread, between two of
    its steps, and may end the process sooner. A thread of this watch receives a signal at once. Call it in the main
    thread; a second call does nothing.

    Args:
        say: Receives one line before the process is ended.
    """
    if not _watching.is_set():
        _watching.set()
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(read, say), daemon=True).start()


def _watch(read: int, say: Callable[[str], None]) -> None:
    interrupts = 0
    while True:
        for number in os.read(read, 16):
            interrupts += number == signal.SIGINT
            if number in (*END_SIGNALS, signal.SIGINT) and not saving.wait(GRACE_S):
                _end(number, say)
            if number == signal.SIGINT and interrupts > 1:
                time.sleep(GRACE_S)
                _end(number, say)


def _end(number: int, say: Callable[[str], None]) -> None:
    import multiprocessing  # only needed here

    from atmviz.files import remove_temporaries

    for child in multiprocessing.active_children():
        child.kill()
    remove_temporaries()
    line = f"stopped by {signal.Signals(number).name}: the current step did not end within {GRACE_S:.0f} s"
    message = threading.Thread(target=say, args=(line,), daemon=True)
    message.start()
    message.join(1)  # the reader of the output may be gone
    os._exit(128 + number)


def on_end_signals(handler: Callable[[signal.Signals], None], *more: signal.Signals) -> dict[signal.Signals, Any]:
    """Call `handler` on SIGTERM, SIGHUP (except under `nohup`) and `more`; return the previous handlers.

    Raises:
        ValueError: this is not the main thread.
    """

    def handle(number: int, frame: Any) -> None:
        if signal.Signals(number).name == "SIGHUP":
            _leave_terminal()
        handler(signal.Signals(number))

    chosen = [s for s in (*END_SIGNALS, *more) if s.name != "SIGHUP" or signal.getsignal(s) != signal.SIG_IGN]
    return {number: signal.signal(number, handle) for number in chosen}


def _leave_terminal() -> None:
    """Discard further output to the terminal: it is closed, and writing to it would raise an error."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as null:
        for stream in (1, 2):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(null.fileno(), stream)
