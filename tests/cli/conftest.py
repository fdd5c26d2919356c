"""The command line in a clean folder, small images, and a small recording."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from atmviz_cli.app import app
from PIL import Image
from typer.testing import CliRunner


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder; the cache lies beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("ATMVIZ_DATA", raising=False)
    return folder


@pytest.fixture
def run(folder):
    """`run("overlay", path, "--json")` runs a command; a bug raises, an error of the caller's exits."""

    def invoke(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)

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
    """`refuse(1, "text", command, ...)`: it exits with 1, says `text` in one error, and leaves no file behind.

    Usage errors of Typer come in a box, others are one line that begins with "error:".
    """

    def invoke(code, says, *args):
        before = sorted(folder.rglob("*"))
        result = run(*args)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        lines = result.stderr.splitlines()
        errors = [line for line in lines if line.startswith("error: ") or "─ Error ─" in line]
        assert len(errors) == 1, result.stderr
        if errors[0].startswith("error: "):
            assert lines[-1] == errors[0]
            said = errors[0]
        else:
            assert code == 2
            said = re.sub(r"\s*│\s*", " ", " ".join(lines[lines.index(errors[0]) + 1 : -1]))
        assert says in said
        assert sorted(folder.rglob("*")) == before
        return result

    return invoke


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
    from atmviz.checkpoints import load_model
    from atmviz.geometry import Preprocessing
    from atmviz.recording.run import record_offsets

    folder = tmp_path_factory.mktemp("recorded")
    for name, pixels in zip("abc", _noise(3, 64, 96, 3), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    network = load_model("atmnet_nano", device="cpu", report=lambda _: None)
    sources = [folder / f"{name}.png" for name in "abc"]
    record_offsets(sources, folder / "out", network, preprocessing=Preprocessing(size=(64, 96), crop_pct=1.0))
    return folder / "out"


@pytest.fixture
def recording(_recorded, tmp_path):
    """A copy of a small recording: 4 x 6 tokens in stage 3, 3 images."""
    import shutil

    return shutil.copytree(_recorded, tmp_path / "recording")


@pytest.fixture
def checkpoint(nano, tmp_path):
    """A file as a training script leaves it, of atmnet_nano with five classes; the averaged weights differ."""
    import torch

    state = nano.state_dict()
    file = tmp_path / "nano.pth"
    torch.save({"model": {n: t + 1 for n, t in state.items()}, "model_ema": state, "epoch": 3}, file)
    return file


class _Attack:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (self.mark,)


@pytest.fixture
def bad_checkpoints(nano, checkpoint, tmp_path):
    """Files that are no usable checkpoint, by what is wrong; `mark` appears if the hostile one is run."""
    import torch

    state = nano.state_dict()
    paths = {
        name: tmp_path / f"{name}.pth" for name in ("text", "truncated", "hostile", "nan", "other", "lacking", "empty")
    }
    paths["text"].write_text("these are no weights\n")
    paths["truncated"].write_bytes(checkpoint.read_bytes()[:20_000])
    torch.save({"model": state, "extra": _Attack(tmp_path / "mark")}, paths["hostile"])
    torch.save({**state, "norm.weight": torch.full_like(state["norm.weight"], float("nan"))}, paths["nan"])
    torch.save({"conv1.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(3)}, paths["other"])
    torch.save({name: tensor for name, tensor in state.items() if name != "stem.bias"}, paths["lacking"])
    paths["empty"].write_bytes(b"")
    paths["missing"] = tmp_path / "missing.pth"
    paths["folder"] = tmp_path
    return SimpleNamespace(**paths, mark=tmp_path / "mark")
