"""accelerate hears nothing from the environment; a process that waits for others ends with them, or when asked."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atmviz.distributed import as_launched, gather_all, gather_in_turn, join_processes, new_accelerator
from atmviz.errors import AtmvizError

# What accelerate and its helpers read of the environment: settings, and nonsense
SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_USE_CPU": "x",
    "ACCELERATE_DEBUG_MODE": "x",
    "FSDP_VERSION": "x",
    "FORK_LAUNCHED": "x",
    "RANK": "1",
    "WORLD_SIZE": "x",
    "LOCAL_RANK": "0",
    "PMI_SIZE": "8",
    "OMPI_COMM_WORLD_SIZE": "2",
    "MV2_COMM_WORLD_SIZE": "2",
}


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.delenv("USE_TORCH_XLA", raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


def test_settings_of_accelerate_and_of_launchers_change_nothing(settings):
    with as_launched():
        accelerator = new_accelerator(True, "no")
        assert (accelerator.num_processes, accelerator.is_main_process) == (1, True)
        assert accelerator.device == torch.device("cpu")
        assert (accelerator.mixed_precision, accelerator.gradient_accumulation_steps) == ("no", 1)
        assert str(accelerator.state.dynamo_plugin.backend).endswith("NO")
        task, optimizer = accelerator.prepare(layer := torch.nn.Linear(2, 1), torch.optim.SGD(layer.parameters(), 0.1))
        assert task is layer
        before_step = layer.weight.detach().clone()
        accelerator.backward(task(torch.ones(1, 2)).sum())
        optimizer.step()
        assert not torch.equal(layer.weight, before_step)
        assert (join_processes(True).num_processes, gather_all([1]), gather_in_turn([1, 2])) == (1, [1], [1, 2])
    assert {name: os.environ.get(name) for name in (*SETTINGS, "USE_TORCH_XLA")} == {**SETTINGS, "USE_TORCH_XLA": None}


def test_accelerate_is_loaded_whatever_its_settings_say():
    nonsense = {"USE_TORCH_XLA": "x", "ACCELERATE_ENABLE_RICH": "x", "ACCELERATE_USE_MEGATRON_LM": "x"}
    subprocess.run([sys.executable, "-c", "import atmviz.distributed"], env={**os.environ, **nonsense}, check=True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            "DataLoader worker (pid 9) is killed by signal: Killed. ",
            r"\(pid 9\) is killed by signal: Killed\), as",
        ),
        (
            "DataLoader worker (pid(s) 9, 11) exited unexpectedly",
            r"exited unexpectedly\), as happens where memory is short",
        ),
        ("Too many open files. Communication with the workers is no longer possible.", "ulimit -n"),
    ],
)
def test_the_end_of_a_loading_process_is_one_line_wherever_torch_raises_it(error, says):
    with pytest.raises(AtmvizError, match=says), as_launched():
        raise RuntimeError(error)
    with pytest.raises(RuntimeError, match="a bug"), as_launched():
        raise RuntimeError("a bug")


LEAVING = """
import atexit, os, signal, sys, time
import torch
def leave_last():
    os.write(1, f"left={not torch.distributed.is_initialized()} ".encode())
atexit.register(leave_last)  # the first that is registered runs last
from atmviz import distributed, signals
distributed._LEAVE_S = 2.0
signals.on_end_signals(lambda number: sys.exit(128 + number))
with distributed.as_launched():
    state = distributed.join_processes(cpu=True)
    assert distributed.gather_all([state.process_index]) == [0, 1]
    assert distributed.gather_in_turn([*range(state.process_index, 5, 2)]) == [0, 1, 2, 3, 4]
    how, is_first = sys.argv[1], state.process_index == 0
    if how == "error":
        raise SystemExit("error: got x, expected y")
    if how == "pending" and is_first:  # as an error within a backward pass, whose other process waits
        torch.distributed.all_reduce(torch.ones(1), async_op=True)
        raise SystemExit("error: got x, expected y")
    if how == "signal" and is_first:
        os.kill(os.getpid(), signal.SIGTERM)
    if how != "end":
        time.sleep(60)
"""


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("error", 1), ("pending", 1), ("signal", 143)])
def test_a_process_leaves_its_group_before_it_ends(tmp_path, how, code):
    """Threads of the group that still run when Python ends abort the process in some runs, by signal 6."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "localhost:0", str(script), how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(launcher, env=environment, capture_output=True, text=True, timeout=60)
    assert "terminate called" not in ended.stderr
    assert (ended.returncode == 0) == (code == 0)
    assert code == 0 or f"exitcode  : {code} (" in ended.stderr
    assert "left=True" in ended.stdout
    if how != "pending":
        assert "left=False" not in ended.stdout


WAITING = """
import sys
from atmviz import signals
from atmviz.recording import run
from atmviz_cli.app import main
signals.GRACE_S = 1.0
forward = run.forward_to_sites
def slowly(*inputs):
    print("recording", flush=True)
    import time; time.sleep(0.2)
    return forward(*inputs)
run.forward_to_sites = slowly
main()
"""


@pytest.fixture
def command(tmp_path):
    """A slow `atmviz record`, and its environment."""
    (tmp_path / "images").mkdir()
    for index in range(130):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{index}.png")
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    args = ["record", tmp_path / "images", "-c", "atmnet_nano", "--size", "32", "-b", "2", "--device", "cpu"]
    args = [script, *args, "-j", "0", "--out", tmp_path / "out"]
    variables = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ATMVIZ_CACHE": str(tmp_path / "cache")}
    return list(map(str, args)), {**os.environ, **variables}


def test_a_process_that_waits_for_one_that_never_comes_ends_when_asked(command):
    args, environment = command
    place = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    with socket.create_server(("localhost", 0)) as free:
        environment |= {**place, "MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    process = subprocess.Popen([sys.executable, *args], env=environment, stderr=subprocess.PIPE, text=True)
    assert "untrained" in process.stderr.readline()  # the network is loaded; what follows is the wait
    time.sleep(2)
    assert process.poll() is None
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in said
    assert "Traceback" not in said
    assert time.monotonic() - asked < 20


@pytest.mark.parametrize("with_launcher", [True, False])
def test_a_process_ends_in_time_when_another_is_killed(command, with_launcher):
    args, environment = command
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "localhost:0", "--redirects", "2", "--log-dir", str(Path(args[0]).parent)]
    process = subprocess.Popen([*launcher, *args], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    workers = []
    while len(workers) < 2:
        time.sleep(0.2)
        assert process.poll() is None
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            workers = [int(number) for number in file.read().split()]
    assert process.stdout.readline()
    if not with_launcher:  # as on another machine, whose launcher hears of it late
        process.send_signal(signal.SIGSTOP)
    os.kill(workers[1], signal.SIGKILL)
    killed = time.monotonic()
    while _lives(workers[0]):
        time.sleep(0.1)
        assert time.monotonic() - killed < 60
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    said = "".join(file.read_text() for file in Path(args[0]).parent.rglob("stderr.log"))
    assert ("stopped by SIGTERM, which torchrun" if with_launcher else "error: another process of this run") in said
    assert "Traceback" not in said


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
