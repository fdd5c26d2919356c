"""A process that waits where Python has no turn ends in time, with its temporary files; saving is not hurried."""

import os
import signal
import subprocess
import sys
import time

import pytest

# A wait in C, as for another process: Python's lock is let go, and no signal ends it.
SCRIPT = """
import ctypes, signal, sys, time
from pathlib import Path
from atmviz import signals
from atmviz.files import atomic_path

signals.GRACE_S = 1.0
signals.on_end_signals(lambda number: sys.exit(128 + number))
signals.watch(lambda line: print(line, file=sys.stderr))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without
if "saving" in sys.argv:
    signals.saving.set()
mutex = ctypes.create_string_buffer(64)
until = (ctypes.c_long * 2)(int(time.time()) + int(sys.argv[1]), 0)
with atomic_path(Path("file.bin")) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_timedlock(mutex, until)
"""


@pytest.fixture
def waiting(tmp_path):
    """Starts the script, and returns it when it waits."""

    def start(*arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        assert process.stdout.readline()
        time.sleep(1)  # it waits by now
        return process

    return start


@pytest.mark.parametrize(
    ("sent", "code"), [(["SIGTERM"], 143), (["SIGHUP"], 129), (["SIGINT"], 130), (["SIGINT", "SIGINT"], 130)]
)
def test_a_wait_in_c_ends_in_time(waiting, tmp_path, sent, code):
    process = waiting("600", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    for name in sent:
        process.send_signal(getattr(signal, name))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert said == f"stopped by {sent[0]}: the current step did not end within 1 s\n"
    assert not list(tmp_path.iterdir())


def test_what_will_save_is_not_hurried(waiting, tmp_path):
    process = waiting("3", "saving")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 128 + signal.SIGTERM  # by its own handler, when the wait is over


def test_only_a_second_interrupt_ends_what_will_save(waiting, tmp_path):
    process = waiting("600", "saving")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2.5)  # longer than the grace
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_nohup_is_obeyed(waiting, tmp_path):
    process = waiting("2", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0
    assert (tmp_path / "file.bin").read_text() == "half"


def test_a_terminal_that_has_gone_is_no_error(tmp_path):
    """A process whose terminal goes away hears SIGHUP; what it says from then on would be an error."""
    script = """
import os, signal, sys, time
from atmviz import signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)
def end(number):
    print("stopped", flush=True)
    os.write(int(sys.argv[1]), b"saved")
    sys.exit(128 + number)
signals.on_end_signals(end)
print("ready", flush=True)
time.sleep(60)
"""
    ours, theirs = os.openpty()
    read, write = os.pipe()
    command = [sys.executable, "-c", script, str(write)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, pass_fds=[write])
    os.close(theirs)
    os.close(write)
    said = b""
    while not said.endswith(b"\n"):  # a terminal hands over a line in pieces: closed after the first, it fails the rest
        said += os.read(ours, 100)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert os.read(read, 100) == b"saved"
    os.close(read)
    assert process.wait(30) == 129
