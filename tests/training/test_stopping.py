"""Stop signals: before the first update and after it."""

import os
import signal
import subprocess
import sys
import time

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


# Compilers that never end: a call in C, which Python's handlers cannot interrupt, and one that is waited for at exit.
COMPILING = """
import atexit, ctypes, signal, sys, time
from atmviz import signals
from atmviz.training.tasks import ClassificationTask
from atmviz_cli.app import main
signals.GRACE_S = 2.0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without
def compile(*inputs):
    print("compiling", flush=True)
    if kind == "in C":
        mutex, until = ctypes.create_string_buffer(64), (ctypes.c_long * 2)(int(time.time()) + 600, 0)
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_timedlock(mutex, until)
    atexit.register(time.sleep, 600)
    time.sleep(600)
ClassificationTask.forward = compile
kind = sys.argv.pop(1)
main()
"""
OPTIONS = ("--recipe", "digits", "--train-images", "16", "--val-images", "16", "--batch-size", "16", "--device", "cpu")


def interrupted(process):
    """Interrupt a process that works, which must end within ten seconds; return what it says."""
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert time.monotonic() - sent < 10
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("kind", ["in C", "at exit"])
def test_one_interrupt_ends_a_run_that_compiles(tmp_path, kind):
    command = [sys.executable, "-c", COMPILING, kind, "train", *OPTIONS, "--epochs", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, **pipes)
    assert process.stdout.readline() == "compiling\n", process.communicate()[1]
    assert "stopped by SIGINT" in interrupted(process)


def test_one_interrupt_ends_a_command_that_builds_the_kernels(tmp_path):
    compiler = tmp_path / "slow"
    compiler.write_text("#!/bin/sh\necho $$ > compiling\nexec sleep 600\n")
    compiler.chmod(0o755)
    variables = {"CXX": str(compiler), "ATMVIZ_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    script = "import signal; signal.signal(2, signal.default_int_handler); from atmviz_cli.app import main; main()"
    command = [sys.executable, "-c", script, "eval", "--limit", "4", "--device", "cpu", "-j", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "compiling").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    interrupted(process)
    number = int((tmp_path / "compiling").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
