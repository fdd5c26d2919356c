"""Loading processes: what they hand over, what their errors become, and that none outlives its use."""

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from atmviz.data import loader
from atmviz.data.loader import open_loader, read_batches
from atmviz.errors import AtmvizError, DatasetError, RecipeError


class Items(Dataset):
    """Item i has a large tensor, a small one, an array and a number of it; `act(i)` is called for each."""

    def __init__(self, act=lambda index: None, length=8):
        self.act, self.length = act, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.act(index)
        large = torch.full((3, 200, 200), float(index))
        return {"image": large, "small": torch.tensor([index]), "array": np.full(3, index), "label": index}


def check(batches):
    assert len(batches) == 4
    for number, batch in enumerate(batches):
        for place, item in enumerate(batch):
            index = 2 * number + place
            assert (item["image"] == index).all()
            assert item["image"].shape == (3, 200, 200)
            assert (item["small"].item(), item["label"], item["array"].tolist()) == (index, index, [index] * 3)
            item["image"] += 1  # no memory that must not be written


@pytest.mark.parametrize("room", [True, False])
def test_items_are_stacked(monkeypatch, room):
    if not room:
        monkeypatch.setattr(torch.UntypedStorage, "_new_shared", _full)
    batches = list(read_batches(open_loader(Items(), 1, batch_size=2)))
    assert [batch["label"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert batches[1]["image"].shape == (2, 3, 200, 200)
    assert batches[1]["image"].mean((1, 2, 3)).tolist() == [2, 3]
    assert {name: value.dtype for name, value in batches[1].items()} == {
        "image": torch.float32,
        "small": torch.int64,
        "array": torch.int64,
        "label": torch.int64,
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_as_they_were_made(workers):
    check(list(read_batches(open_loader(Items(), workers, list, batch_size=2))))


def _full(*_, **__):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def _no_file(self):
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("error", [_full, _no_file])
def test_what_cannot_be_shared_is_copied(monkeypatch, error):
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", error)
    check(list(read_batches(open_loader(Items(), 2, list, batch_size=2))))


def test_where_few_files_may_be_open_nothing_is_shared(monkeypatch):
    hand_over = loader._HandOver(list)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    hand_over([])
    assert hand_over.shared <= 0
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", lambda self: pytest.fail("shared"))
    check(list(read_batches(open_loader(Items(), 1, list, batch_size=2))))


def raising(error):
    def act(index):
        if index == 5:
            raise error

    return act


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [DatasetError("no image: restore it"), RecipeError("too small: enlarge it")])
def test_an_error_for_the_user_is_the_same_from_a_process(workers, error):
    batches = read_batches(open_loader(Items(raising(error)), workers, batch_size=2))
    with pytest.raises(type(error)) as caught:
        list(batches)
    assert str(caught.value) == str(error)


def test_a_file_that_a_process_cannot_read_is_one_line():
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "train/1.jpg")
    with pytest.raises(DatasetError, match=r"^cannot read the data \(.*train/1.jpg'\): restore it$"):
        list(read_batches(open_loader(Items(raising(error)), 1, batch_size=2)))


def test_a_bug_in_a_process_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError, match="in act"):
        list(read_batches(open_loader(Items(raising(ZeroDivisionError("a bug"))), 1, batch_size=2)))


def kill_oneself(index):
    if index == 5:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_ends_the_loading_in_one_line():
    started = time.monotonic()
    with pytest.raises(
        AtmvizError, match=r"was killed from outside \(.*\), as happens where memory is short: use fewer workers"
    ):
        list(read_batches(open_loader(Items(kill_oneself), 2, batch_size=2)))
    assert time.monotonic() - started < 30


def test_processes_that_cannot_start_are_one_line(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.multiprocessing, "Queue", refuse)
    with pytest.raises(
        AtmvizError, match=r"cannot start .*\(No space left on device\): make /dev/shm .*set workers to 0"
    ):
        list(read_batches(open_loader(Items(), 1, batch_size=2)))


def started():
    """Batches that are being loaded, and the process that does."""
    others = set(multiprocessing.active_children())
    batches = read_batches(open_loader(Items(length=64), 1, list, batch_size=2))
    next(batches)
    return batches, *(set(multiprocessing.active_children()) - others)


def test_a_process_leaves_signals_to_the_main_one_but_ends_when_that_says_so():
    batches, worker = started()
    for name in ("TERM", "INT", "HUP"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    assert len(list(batches)) == 31
    batches, worker = started()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


def test_the_main_process_hears_signals_while_others_load():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    batches, _ = started()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    batches.close()


SCRIPT = """
import multiprocessing, sys, time
from tests_loader import Items
from atmviz.data.loader import open_loader, read_batches

batches = read_batches(open_loader(Items(length=1000), 2, list, batch_size=2))
next(batches)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
raise ValueError("a bug of the main process")
"""


@pytest.mark.parametrize("end", ["raise", "wait"])
def test_no_process_outlives_the_main_one(tmp_path, end):
    tmp_path.joinpath("tests_loader.py").write_text(Path(__file__).read_text())
    tmp_path.joinpath("script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", end]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = [int(number) for number in process.stdout.readline().split()]
    assert len(workers) == 2
    if end == "wait":
        process.kill()
    assert ("a bug of the main process" in process.communicate(timeout=30)[1]) == (end == "raise")
    for _ in range(100):
        if not any(map(lives, workers)):
            break
        time.sleep(0.1)
    assert not any(map(lives, workers))


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
