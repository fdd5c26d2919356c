"""`atmviz convert`: one file in, one safetensors file out, or nothing."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file


def test_a_checkpoint_becomes_safetensors_with_its_configuration(succeed, folder, checkpoint):
    result = succeed("convert", checkpoint, "nano.safetensors")
    assert "wrote nano.safetensors" in result.stderr
    assert "EMA weights" in result.stderr
    assert [file.name for file in folder.iterdir()] == ["nano.safetensors"]
    state = torch.load(checkpoint)["model_ema"]
    converted = load_file(folder / "nano.safetensors")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[name], state[name]) for name in state)
    with safe_open(folder / "nano.safetensors", "pt") as file:
        assert file.metadata()["architecture"] == "atmnet_nano"


def test_the_converted_file_loads_as_the_original_does(succeed, folder, checkpoint):
    succeed("convert", checkpoint, "nano.safetensors")
    result = succeed("layers", "nano.safetensors")
    assert "atmnet_nano from nano.safetensors: timm layout, EMA weights" in result.stderr
    assert "5 classes" in result.stderr


def test_the_other_weights_can_be_chosen(succeed, folder, checkpoint):
    succeed("convert", checkpoint, "nano.safetensors", "--weights", "model")
    expected = torch.load(checkpoint)["model"]["stem.bias"]
    assert torch.equal(load_file(folder / "nano.safetensors")["stem.bias"], expected)


def test_an_existing_file_is_replaced_only_when_asked_to(succeed, refuse, folder, checkpoint):
    target = folder / "nano.safetensors"
    target.write_text("mine")
    refuse(2, "exists", "convert", checkpoint, target)
    assert target.read_text() == "mine"
    succeed("convert", checkpoint, target, "--overwrite")
    assert len(load_file(target)) > 100


@pytest.mark.parametrize("name", ["nano.pth", "nano", "nano.safetensors.txt"])
def test_a_name_that_is_not_safetensors_is_refused(refuse, checkpoint, name):
    refuse(2, "safetensors", "convert", checkpoint, name)


def test_a_bad_checkpoint_does_not_replace_a_good_file(refuse, folder, bad_checkpoints):
    target = folder / "nano.safetensors"
    target.write_text("mine")
    refuse(1, "NaN", "convert", bad_checkpoints.nan, target, "--overwrite")
    assert target.read_text() == "mine"


def test_an_onnx_file_is_written_where_its_name_asks_for_it(succeed, folder, checkpoint, monkeypatch):
    calls = []

    def write(source, target, **options):
        calls.append((source, target.name, options.pop("events").message("loaded"), options))
        target.write_bytes(b"onnx")
        return 3e-7

    monkeypatch.setattr("atmviz.export.export_onnx", write)
    result = succeed("convert", checkpoint, "nano.onnx", "--size", "64x96", "--weights", "model")
    assert calls == [(checkpoint, "nano.onnx", None, {"weights": "model", "size": (64, 96)})]
    assert "largest difference from PyTorch's scores: 3e-07 of the largest score" in result.stderr
    assert "wrote nano.onnx" in result.stderr


def test_a_size_is_of_onnx_files_alone(refuse, checkpoint):
    refuse(2, "--size", "convert", checkpoint, "nano.safetensors", "--size", "64")


@pytest.mark.parametrize("source", ["atmnet_tiny", "mask_rcnn(atmnet_tiny)", "nowhere.pth"])
def test_a_file_is_asked_for_and_no_random_weights(refuse, source):
    code = 1 if source.endswith(".pth") else 2
    said = refuse(code, f"no checkpoint file {source}: expected a path", "convert", source, "x.safetensors")
    assert "random" not in said.stderr


def test_the_bundled_model_is_converted_by_its_name(succeed, folder):
    succeed("convert", "atmnet_nano.shapes", "x.safetensors")
    assert len(load_file(folder / "x.safetensors")) == 500


def test_the_result_is_told_as_json(succeed, folder, checkpoint):
    said = json.loads(succeed("convert", checkpoint, "nano.safetensors", "--json").stdout)
    file = folder / "nano.safetensors"
    assert (said["out"], said["bytes"], said["model"], said["weights"]) == (
        "nano.safetensors", file.stat().st_size, "atmnet_nano", "ema",
    )  # fmt: skip
