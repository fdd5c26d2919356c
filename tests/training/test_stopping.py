"""Stop signals: before the first update and after it."""

import os
import signal

import pytest

from atmviz.training.stopping import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_update_ends_the_process_at_once(number, notes_class):
    """Compiling takes minutes, and there is nothing to save yet."""
    notes, begun, before = notes_class(), [], signal.getsignal(signal.SIGINT)
    with stop_signals(notes, 1, lambda: bool(begun)) as heard:
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), number)
        assert (ended.value.code, heard) == (128 + number, [])
        assert notes.messages == [f"stopped by {number.name} before the first update"]
        begun.append(True)
        os.kill(os.getpid(), number)
        assert heard == [number]
    assert signal.getsignal(signal.SIGINT) == before
