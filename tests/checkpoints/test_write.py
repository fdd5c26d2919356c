"""Conversion to safetensors: equal outputs, provenance, nothing half written."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from atmviz.checkpoints import convert_checkpoint, load_model
from atmviz.errors import AtmvizError, CheckpointError


def load(path, **options):
    return load_model(path, device="cpu", **options)


@pytest.mark.parametrize("kind", ["released", "mmseg"])
def test_converted_checkpoint_gives_equal_outputs(kind, xtiny, mmseg, tmp_path):
    source, target = mmseg[0], tmp_path / "new" / "converted.safetensors"
    if kind == "released":
        source = tmp_path / "released.pth"
        torch.save({"model": xtiny, "model_ema": {n: t + 0.01 for n, t in xtiny.items()}}, source)
    convert_checkpoint(source, target)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load(target)(images), load(source)(images))
        maps = zip(load(target, features_only=True)(images), load(source, features_only=True)(images), strict=True)
        assert all(torch.equal(a, b) for a, b in maps)


def test_converted_checkpoint_says_where_it_came_from(xtiny, tmp_path):
    source, target = tmp_path / "released.pth", tmp_path / "converted.safetensors"
    torch.save({"model": xtiny, "model_ema": xtiny}, source)
    convert_checkpoint(source, target, weights="model")
    with safe_open(target, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "atmnet_xtiny"
    assert json.loads(metadata["config"]) == {"num_classes": 1000, "in_chans": 3}
    assert metadata["source"] == "released.pth"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert load(target).origin.weights == metadata["weights"] == "model"


@pytest.mark.parametrize("before", [None, b"the one before"])
def test_failed_conversion_leaves_nothing_half_written(before, nano, tmp_path, monkeypatch):
    def fill_the_disk(tensors, path, metadata=None):
        Path(path).write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    source, target = tmp_path / "nano.pth", tmp_path / "nano.safetensors"
    torch.save(nano.state_dict(), source)
    if before:
        target.write_bytes(before)
    monkeypatch.setattr("atmviz.checkpoints.write.save_file", fill_the_disk)
    with pytest.raises((OSError, AtmvizError), match="No space left"):
        convert_checkpoint(source, target)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p != source} == (
        {target.name: before} if before else {}
    )


def test_file_that_does_not_fit_is_not_converted(xtiny, tmp_path):
    state = {name: tensor for name, tensor in xtiny.items() if name != "norm.bias"}
    torch.save(state, tmp_path / "source.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: norm\.bias"):
        convert_checkpoint(tmp_path / "source.pth", tmp_path / "target.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["source.pth"]


@pytest.mark.parametrize(("kept", "asked", "fits"), [("ema", "ema", True), ("ema", "model", False)])
def test_converted_checkpoint_knows_which_weights_it_holds(kept, asked, fits, nano, tmp_path, refusal):
    source, target = tmp_path / "nano.pth", tmp_path / "nano.safetensors"
    torch.save({"model": nano.state_dict(), "model_ema": nano.state_dict()}, source)
    convert_checkpoint(source, target, weights=kept)
    if fits:
        assert load(target, weights=asked).origin.weights == kept
    else:
        assert f"no {asked} weights" in refusal(target, weights=asked)


def test_unwritable_target_is_an_error_a_user_can_read(nano, tmp_path, monkeypatch):
    torch.save(nano.state_dict(), tmp_path / "nano.pth")
    (tmp_path / "target.safetensors").mkdir()
    with pytest.raises(AtmvizError):
        convert_checkpoint(tmp_path / "nano.pth", tmp_path / "target.safetensors")


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 elsewhere")
def test_names_that_are_not_utf_8_are_read_and_not_written(nano, tmp_path):
    named = [tmp_path / os.fsdecode(b"n\xff\xe4." + suffix) for suffix in (b"pth", b"safetensors")]
    torch.save(nano.state_dict(), tmp_path / "a")
    (tmp_path / "a").rename(named[0])
    save_file(nano.state_dict(), tmp_path / "b")
    (tmp_path / "b").rename(named[1])
    for path in named:
        assert torch.equal(load(path).stem.weight, nano.stem.weight)
        convert_checkpoint(path, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="a name that is not UTF-8: choose another path"):
        convert_checkpoint(named[0], tmp_path / "new" / named[1].name)
    assert not (tmp_path / "new").exists()
