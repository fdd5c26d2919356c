"""The command line in a clean folder, small images, and a small recording."""

import functools
import io
import pathlib
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from atmviz_cli import console, progress
from atmviz_cli.app import app
from PIL import Image
from typer.testing import CliRunner

from atmviz.checkpoints import load
from atmviz.geometry import Preprocessing
from atmviz.models import create_model
from atmviz.recording.run import run_recording
from atmviz.sources import open_source

_draw_once = functools.cache(load.random_checkpoint)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Draw the random weights once, and do not let small operators wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for processes a test starts
    monkeypatch.setattr(load, "random_checkpoint", _draw_once)
    yield
    torch.set_num_threads(threads)


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder; the cache lies beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("ATMVIZ_DATA", raising=False)
    return folder


@pytest.fixture
def run(folder):
    """`run("overlay", path, "--json")` runs a command; a bug raises, an error of the caller's exits."""

    def invoke(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="atmviz", catch_exceptions=False)

    return invoke


@pytest.fixture
def succeed(run):
    """As `run`; anything but success fails the test."""

    def invoke(*args):
        result = run(*args)
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def refuse(run, folder):
    """`refuse(1, "text", command, ...)`: it exits with 1, says `text` in one error, and leaves no file behind."""

    def invoke(code, says, *args):
        before = sorted(folder.rglob("*"))
        result = run(*args)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        lines = result.stderr.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert errors == lines[-1:], result.stderr
        assert says in errors[0]
        assert sorted(folder.rglob("*")) == before
        return result

    return invoke


@pytest.fixture
def terminal(monkeypatch):
    """`terminal(40)` makes both consoles terminals of that width; gives what is written to them."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def make(width):
        written = Terminal()
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, written)
            monkeypatch.setattr(console, name, console._Console(stderr=name == "stderr"))
        monkeypatch.setattr(progress, "stderr", console.stderr)
        return written

    return make


@pytest.fixture
def images(tmp_path):
    """A folder of three images, 48 pixels high and 72 wide."""
    folder = tmp_path / "noise"
    folder.mkdir()
    for name, pixels in zip("abc", _noise(3, 48, 72, 3), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def damaged_images(images):
    """The same with a fourth that is cut off."""
    whole = (images / "a.png").read_bytes()
    (images / "broken.png").write_bytes(whole[: len(whole) // 2])
    return images


@pytest.fixture(scope="session")
def _recorded(tmp_path_factory):
    """A recording of three images by atmnet_nano at 64 x 96 px, made once."""
    folder = tmp_path_factory.mktemp("recorded")
    for name, pixels in zip("abc", _noise(3, 64, 96, 3), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    network = load.load_model("atmnet_nano", device="cpu")
    sources = [folder / f"{name}.png" for name in "abc"]
    preprocessing = Preprocessing(size=(64, 96), crop_pct=1.0)
    run_recording(open_source(sources), network, folder / "out", preprocessing=preprocessing)
    return folder / "out"


@pytest.fixture
def recording(_recorded, tmp_path):
    """A copy of a small recording: 4 x 6 tokens in stage 3, 3 images."""
    return shutil.copytree(_recorded, tmp_path / "recording")


class _Attack:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)


@pytest.fixture(scope="session")
def _checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    state = create_model("atmnet_nano", num_classes=5).state_dict()
    kinds = ("nano", "text", "truncated", "cut_in_half", "hostile", "nan", "other", "lacking", "empty", "missing")
    files = SimpleNamespace(**{kind: folder / f"{kind}.pth" for kind in kinds}, folder=folder, mark=folder / "mark")
    torch.save({"model": {n: t + 1 for n, t in state.items()}, "model_ema": state, "epoch": 3}, files.nano)
    files.text.write_text("these are no weights\n")
    whole = files.nano.read_bytes()
    files.truncated.write_bytes(whole[:20_000])
    files.cut_in_half.write_bytes(whole[: len(whole) // 2])
    torch.save({"model": state, "extra": _Attack(files.mark)}, files.hostile)
    torch.save({**state, "norm.weight": torch.full_like(state["norm.weight"], float("nan"))}, files.nan)
    torch.save({"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}, files.other)
    torch.save({name: tensor for name, tensor in state.items() if name != "stem.bias"}, files.lacking)
    files.empty.write_bytes(b"")
    return files


@pytest.fixture
def checkpoint(_checkpoints):
    """A file as a training script leaves it, of atmnet_nano with five classes; its "model" is "model_ema" plus 1."""
    return _checkpoints.nano


@pytest.fixture
def bad_checkpoints(_checkpoints):
    """Files that are no usable checkpoint, by what is wrong; `mark` appears if the hostile one is run."""
    return _checkpoints
