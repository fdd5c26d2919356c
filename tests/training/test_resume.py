"""Runs that are really killed, and runs on two processes: the same weights, the same curve."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atmviz.training import loop

SCRIPT = Path(__file__).with_name("run_and_die.py")
# All that draws random numbers, keeps averages or counts within an update; three updates an epoch.
EVERYTHING = {
    "hflip": 0.5,
    "crop_scale_min": 0.5,
    "auto_augment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "repeated_augmentation": 2,
    "drop_path": 0.2,
    "ema_decay": 0.9,
    "clip_grad": 1.0,
    "accumulate": 2,
    "warmup_epochs": 1,
    "save_updates": 2,
}


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(out, recipe, signal="SIGKILL", epoch=0, update=0, **variables):
    command = [sys.executable, str(SCRIPT), str(out), str(recipe), signal, str(epoch), str(update)]
    # In a session of its own: a signal to all of its processes is not one to the tests.
    return subprocess.run(
        command, env=environment() | variables, capture_output=True, text=True, timeout=250, start_new_session=True
    )


def fingerprint(out):
    """Every bit of every tensor, and the logs; safetensors puts its metadata in no fixed order."""
    contents = {path.name: path.read_text() for path in out.glob("*.csv")}
    assert "log.csv" in contents
    for name in ("last", "best"):
        for key, tensor in load_file(out / f"{name}.safetensors").items():
            contents[f"{name}.{key}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return contents


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, small):
    """The recipe file, and the fingerprint of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = small(**EVERYTHING)
    file = folder / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    loop.train(recipe, folder / "run", device="cpu")
    return file, fingerprint(folder / "run")


@pytest.mark.parametrize(
    ("epoch", "update"),
    [(1, 1), (1, 3), (2, 1), (2, "saving"), (1, "validated")],
    ids=["before any save", "after a save", "between two saves", "within a save", "before the epoch is saved"],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, uninterrupted, epoch, update):
    recipe, expected = uninterrupted
    killed = run(tmp_path / "run", recipe, "SIGKILL", epoch, update)
    assert killed.returncode == -9, killed.stderr
    again = run(tmp_path / "run", recipe)
    assert again.stdout.strip() == "finished", again.stderr
    assert fingerprint(tmp_path / "run") == expected
    assert not list((tmp_path / "run").glob(".*partial*"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_killed_on_a_gpu_ends_with_the_weights_of_one_that_was_not(tmp_path, small, precision):
    file = tmp_path / "recipe.yaml"
    file.write_text(small(**EVERYTHING, precision=precision).to_yaml())
    on_gpu = {"TRAIN_ON": "cuda", "CUDA_VISIBLE_DEVICES": "0"}
    assert run(tmp_path / "whole", file, **on_gpu).stdout.strip() == "finished"
    killed = run(tmp_path / "run", file, "SIGKILL", 2, 1, **on_gpu)
    assert killed.returncode == -9, killed.stderr
    assert run(tmp_path / "run", file, **on_gpu).stdout.strip() == "finished"
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("upernet", {"scale_min": 0.5, "scale_max": 2.0, "hflip": 0.5, "photometric": 0.5, "neck": "atmfpn"}),
        ("mask_rcnn", {"image_size": 96, "short_side_min": 64, "hflip": 0.5, "model": "resnet18", "finetune": None}),
    ],
)
def test_a_killed_dense_run_ends_with_the_weights_of_one_that_was_not(tmp_path, small_dense, head, changes):
    recipe = small_dense(head, drop_path=0.1, ema_decay=0.9, accumulate=2, save_updates=2, **changes)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    loop.train(recipe, tmp_path / "whole", device="cpu")
    killed = run(tmp_path / "run", file, "SIGKILL", 2, 1)
    assert killed.returncode == -9, killed.stderr
    assert run(tmp_path / "run", file).stdout.strip() == "finished"
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_a_signal_to_all_processes_of_a_run_saves_too(tmp_path, small):
    file = tmp_path / "recipe.yaml"
    file.write_text(small(workers=1).to_yaml())
    stopped = run(tmp_path / "run", file, "SIGTERM", 1, 1)
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "stopped"), stopped.stderr


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, uninterrupted, signal):
    recipe, expected = uninterrupted
    stopped = run(tmp_path / "run", recipe, signal, 1, 1)  # an update that is not saved otherwise
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "stopped"), stopped.stderr
    assert torch.load(tmp_path / "run/state.pt", weights_only=True)["updates_done"] == 1
    assert run(tmp_path / "run", recipe).stdout.strip() == "finished"
    assert fingerprint(tmp_path / "run") == expected


def test_two_processes_have_the_loss_curve_of_one_with_their_batches_joined(tmp_path, small):
    recipe = small(ema_decay=0.9, accumulate=2, save_updates=2)
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(recipe.to_yaml())
    loop.train(recipe, tmp_path / "one", device="cpu")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    launcher = [*launcher, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]

    def run_two(name, epoch=0, update=0):
        command = [*launcher, str(SCRIPT), str(tmp_path / name), str(recipe_file), "SIGKILL", str(epoch), str(update)]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=250)

    assert (done := run_two("two")).returncode == 0, done.stderr
    assert run_two("killed", 1, 3).returncode != 0  # after a save within the epoch
    assert torch.load(tmp_path / "killed/state.pt", weights_only=True)["updates_done"] == 2
    assert (done := run_two("killed")).returncode == 0, done.stderr
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "two")

    curves = {}
    for name in ("one", "two"):
        with (tmp_path / name / "log.csv").open() as file:
            curves[name] = list(csv.DictReader(file))
    for one, two in zip(curves["one"], curves["two"], strict=True):
        for key in ("train_loss", "val_loss", "lr"):
            assert float(two[key]) == pytest.approx(float(one[key]), rel=1e-4), key
        assert one["val_top1"] == two["val_top1"]
    weights = {name: load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")}
    drift = max((weights["one"][k] - weights["two"][k]).abs().max().item() for k in weights["one"])
    assert drift < 1e-3
