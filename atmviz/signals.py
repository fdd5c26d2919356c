"""Signals that ask a process to end: obeyed within seconds, also where it waits in C++ and Python has no turn."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from typing import Any

END_SIGNALS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

# What one step may take, of a process that waits for others
GRACE_S = 10.0
# Set while a handler is sure to end the process when all is saved: there is no need to hurry it
saving = threading.Event()
_watching = threading.Event()


def watch(say: Callable[[str], None]) -> None:
    """End this process `GRACE_S` after SIGTERM, SIGHUP or a second SIGINT, if it is still there and not `saving`.

    Python's own handlers run in the main thread, between two of its steps, and may end the process sooner. The watch is
    a thread that hears of a signal at once. To be called in the main thread; a second call does nothing.

    Args:
        say: Called with one line before the process is ended.
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
            if number in END_SIGNALS and not saving.wait(GRACE_S):
                _end(number, say)
            if number == signal.SIGINT and interrupts > 1:
                time.sleep(GRACE_S)
                _end(number, say)


def _end(number: int, say: Callable[[str], None]) -> None:
    import multiprocessing  # what every other process need not load

    from atmviz.files import remove_temporaries

    for child in multiprocessing.active_children():
        child.kill()
    remove_temporaries()
    line = f"stopped by {signal.Signals(number).name}: the step at hand did not end within {GRACE_S:.0f} s"
    said = threading.Thread(target=say, args=(line,), daemon=True)
    said.start()
    said.join(1)  # nobody may be reading any more
    os._exit(128 + number)


def on_end_signals(handler: Callable[[signal.Signals], None], *more: signal.Signals) -> dict[signal.Signals, Any]:
    """Call `handler` upon SIGTERM, SIGHUP (but under `nohup`) and `more`, and return the handlers before.

    Only in the main thread: ValueError in others.
    """

    def hear(number: int, frame: Any) -> None:
        if signal.Signals(number).name == "SIGHUP":
            _leave_terminal()
        handler(signal.Signals(number))

    chosen = [one for one in (*END_SIGNALS, *more) if one.name != "SIGHUP" or signal.getsignal(one) != signal.SIG_IGN]
    return {one: signal.signal(one, hear) for one in chosen}


def _leave_terminal() -> None:
    """What is said from here on goes nowhere: the terminal has gone, and to write to it would be an error."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as null:
        for stream in (1, 2):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(null.fileno(), stream)
