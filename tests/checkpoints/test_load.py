"""Checkpoints of every public layout: what is recognised, where values land, what is computed, what is refused.

`tests/data/released_layouts.json` holds every name and shape of the five released classifiers. The oracle,
`released_forward`, states their arithmetic with plain functions of such a state dict.
"""

import argparse
import hashlib
import json
import math
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torchvision.ops import deform_conv2d

from atmviz.checkpoints import load as loading
from atmviz.checkpoints import load_model, random_checkpoint
from atmviz.errors import SettingsError
from atmviz.events import Events
from atmviz.models import create_model
from atmviz.observe import find_sites, observing
from atmviz.sources.datasets import SHAPE_CLASSES

LAYOUTS = json.loads((Path(__file__).parents[1] / "data" / "released_layouts.json").read_text())
# Paper, Tables 10 and 1; Sec. A1.
DEPTHS = {"xtiny": (2, 2, 4, 2), "tiny": (2, 3, 10, 3), "small": (3, 4, 18, 3), "base": (3, 8, 27, 3)}
DEPTHS["large"] = (3, 4, 24, 3)
INTERVALS = {"xtiny": 2, "tiny": 2, "small": 6, "base": 6, "large": 6}


def load(path, **options):
    return load_model(path, device="cpu", **options)


def numbered(layout, first=1):
    """A state dict whose n-th tensor holds n everywhere, at no cost in memory or on disk."""
    return {name: torch.tensor(float(n)).expand(shape) for n, (name, shape) in enumerate(layout.items(), first)}


def in_released_file(model, ema):
    """What the released training script saved around its weights."""
    return {
        "model": model,
        "model_ema": ema,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "lr_scheduler": {"t_in_epochs": True},
        "epoch": 299,
        "scaler": {"scale": 65536.0},
        "acc_max": np.float64(81.99),
        "args": argparse.Namespace(model="ActiveTiny", output_dir="out"),
    }


# The oracle.


def released_forward(state, depths, interval, x):
    """The released classifier as plain arithmetic: four feature maps [B, C, H, W] and class scores [B, 1000]."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)

    def channels_first(x):
        return x.permute(0, 3, 1, 2)

    def channels_last(x):
        return x.permute(0, 2, 3, 1)

    def branch(name, x, down, right):
        """A 1x1 convolution of pixels shifted by (down, right) [B, H, W, C], one shift for each channel."""
        yx = torch.stack((channels_first(down), channels_first(right)), dim=2).flatten(1, 2)  # y0, x0, y1, x1, ...
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return channels_last(deform_conv2d(channels_first(x), yx, weight, bias))

    def mix(name, x, horizontal, vertical):
        none = torch.zeros_like(horizontal)
        branches = (
            branch(f"{name}.atm_w", x, none, horizontal),
            branch(f"{name}.atm_h", x, vertical, none),
            linear(f"{name}.atm_c", x),
        )
        pooled = sum(branches).mean((1, 2))
        scores = linear(f"{name}.fusion.fc2", F.gelu(linear(f"{name}.fusion.fc1", pooled)))
        share = scores.reshape(len(x), 1, 1, -1, 3).softmax(-1)
        return linear(f"{name}.proj", sum(share[..., k] * branches[k] for k in range(3)))

    maps = []
    x = channels_last(conv("patch_embed.proj", x, stride=4, padding=2))
    for i, depth in enumerate(depths):
        channels = x.shape[-1]
        for j in range(depth):
            block = f"blocks.{i}.{j}"
            if j % interval == 0 and j != depth - 1:
                x = x + channels_last(conv(f"pos_blocks.{i}.proj", channels_first(x), padding=1, groups=channels))
                offsets = linear(f"{block}.offset_layer.1", norm(f"{block}.offset_layer.0", x))
                offsets = offsets.repeat_interleave(2 * channels // offsets.shape[-1], dim=-1)
                horizontal, vertical = offsets[..., :channels], offsets[..., channels:]
            x = x + mix(f"{block}.atm", norm(f"{block}.norm1", x), horizontal, vertical)
            x = x + linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))))
        maps.append(channels_first(x))
        if i < 3:
            x = channels_last(conv(f"blocks.{i}.{depth - 1}.downsample.proj", maps[-1], stride=2, padding=1))
    return maps, linear("head", norm("norm", x).mean((1, 2))) if "head.weight" in state else None


@pytest.mark.parametrize(
    ("name", "dtype"), [("xtiny", torch.float64), ("xtiny", torch.float32), ("small", torch.float64)]
)  # K = 2 and K = 6
def test_loaded_network_computes_what_the_released_one_did(name, dtype, tmp_path, random_state):
    state = random_state(LAYOUTS[name])
    torch.save(state, tmp_path / "released.pth")
    images = torch.randn(2, 3, 64, 96).to(dtype)
    with torch.inference_mode():
        scores = load(tmp_path / "released.pth").to(dtype)(images)
        state = {key: tensor.to(dtype) for key, tensor in state.items()}
        _, expected = released_forward(state, DEPTHS[name], INTERVALS[name], images)
    assert scores.shape == (2, 1000)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(scores, expected, rtol=tolerance, atol=tolerance)


def test_feature_maps_are_those_before_downsampling(xtiny, tmp_path):
    torch.save(xtiny, tmp_path / "released.pth")
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        maps = load(tmp_path / "released.pth", features_only=True)(images)
        expected, _ = released_forward(xtiny, DEPTHS["xtiny"], INTERVALS["xtiny"], images)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 16, 24), (128, 8, 12), (320, 4, 6), (512, 2, 3)]
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)


# Layouts.


@pytest.mark.parametrize(("weights", "first"), [(None, 5001), ("ema", 5001), ("model", 1)])
def test_averaged_weights_are_taken_unless_others_are_asked_for(weights, first, tmp_path):
    layout = LAYOUTS["xtiny"]
    torch.save(in_released_file(numbered(layout), ema=numbered(layout, 5001)), tmp_path / "released.pth")
    network = load(tmp_path / "released.pth", weights=weights)
    assert network.origin.weights == (weights or "ema")
    assert {int(p.flatten()[0]) for p in network.parameters()} == set(range(first, first + len(layout)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_released_files_load_strictly_and_every_value_lands_once(name, tmp_path):
    layout = LAYOUTS[name]
    torch.save(in_released_file(numbered(layout), ema=numbered(layout)), tmp_path / "released.pth")
    network = load(tmp_path / "released.pth")
    assert network.origin.model == f"atmnet_{name}"
    assert network.origin.layout == "released"
    assert network.origin.matched == len(layout)
    assert network.num_classes == network.origin.config["num_classes"] == 1000
    assert not network.training

    values = {name: int(parameter.flatten()[0]) for name, parameter in network.named_parameters()}
    assert sorted(values.values()) == list(range(1, len(layout) + 1))

    last = [depth - 1 for depth in DEPTHS[name]]
    landed = {
        "patch_embed.proj.weight": "stem.weight",
        "blocks.0.0.atm.atm_w.weight": "stages.0.blocks.0.token_mixer.fc_width.weight",
        "blocks.0.0.atm.atm_w.bias": "stages.0.blocks.0.token_mixer.fc_width.bias",
        "blocks.3.1.atm.atm_h.weight": "stages.3.blocks.1.token_mixer.fc_height.weight",
        "blocks.2.3.atm.atm_c.weight": "stages.2.blocks.3.token_mixer.fc_identity.weight",
        "blocks.2.0.atm.fusion.fc2.bias": "stages.2.blocks.0.token_mixer.fusion.fc2.bias",
        "blocks.1.1.atm.proj.weight": "stages.1.blocks.1.token_mixer.proj.weight",
        "blocks.1.0.offset_layer.0.weight": "stages.1.blocks.0.offset.norm.weight",
        "blocks.2.0.offset_layer.1.weight": "stages.2.blocks.0.offset.linear.weight",
        "blocks.2.0.norm2.bias": "stages.2.blocks.0.norm2.bias",
        "blocks.0.1.mlp.fc1.weight": "stages.0.blocks.1.mlp.fc1.weight",
        f"blocks.0.{last[0]}.downsample.proj.weight": "stages.1.downsample.weight",
        f"blocks.2.{last[2]}.downsample.proj.bias": "stages.3.downsample.bias",
        "pos_blocks.3.proj.weight": "stages.3.peg.proj.weight",
        "norm.weight": "norm.weight",
        "head.bias": "head.fc.bias",
    }
    order = dict(zip(layout, range(1, len(layout) + 1), strict=True))
    assert {theirs: values[ours] for theirs, ours in landed.items()} == {theirs: order[theirs] for theirs in landed}


class Heard(Events):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def test_one_message_says_what_was_loaded_and_nothing_is_printed(tmp_path, capsys):
    path = tmp_path / "released.pth"
    torch.save(in_released_file(numbered(LAYOUTS["tiny"]), ema=numbered(LAYOUTS["tiny"])), path)
    heard = Heard()
    network = load_model(path, device="cpu", events=heard)
    assert capsys.readouterr() == ("", "")
    assert heard.lines == [network.origin.describe()]
    for said in ("atmnet_tiny", str(path), "released", "EMA", "394 tensors", "1000 classes"):
        assert said in heard.lines[0]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_bare_and_prefixed_state_dicts_load(prefix, zipped, tmp_path):
    path = tmp_path / "weights.pth"
    state = {prefix + name: tensor for name, tensor in numbered(LAYOUTS["xtiny"]).items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    network = load(path)
    assert network.origin.model == "atmnet_xtiny"
    assert network.origin.weights is None
    assert network.stem.weight.unique() == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load_as_float32(dtype, tmp_path):
    torch.save({name: t.to(dtype) for name, t in numbered(LAYOUTS["xtiny"]).items()}, tmp_path / "weights.pth")
    assert {p.dtype for p in load(tmp_path / "weights.pth").parameters()} == {torch.float32}


def test_own_layout_saved_by_torch_gives_the_same_outputs(nano, tmp_path):
    torch.save(nano.state_dict(), tmp_path / "nano.pth")
    network = load(tmp_path / "nano.pth")
    images = torch.randn(2, 3, 64, 64)
    assert (network.origin.model, network.origin.layout, network.num_classes) == ("atmnet_nano", "timm", 5)
    assert torch.equal(network(images), nano(images))


def test_classes_and_input_channels_are_read_from_the_shapes(tmp_path):
    layout = LAYOUTS["xtiny"] | {"head.weight": [7, 512], "head.bias": [7], "patch_embed.proj.weight": [64, 1, 7, 7]}
    torch.save(numbered(layout), tmp_path / "grey.pth")
    network = load(tmp_path / "grey.pth")
    assert network.origin.config == {"num_classes": 7, "in_chans": 1}
    assert (network.head.fc.out_features, network.stem.in_channels) == (7, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels_per_offset": 1},
        {"channels_per_offset": 4},
        {"fusion": "paper"},
        {"channels_per_offset": 1, "fusion": "paper"},
    ],
)
def test_shared_offsets_and_the_papers_fusion_are_read_from_the_shapes(arguments, tmp_path):
    own = create_model("atmnet_nano", num_classes=5, **arguments).eval()
    torch.save(own.state_dict(), tmp_path / "own.pth")
    network = load(tmp_path / "own.pth")
    images = torch.randn(2, 3, 64, 64)
    assert network.origin.config == {"num_classes": 5, "in_chans": 3, **arguments}
    assert torch.equal(network(images), own(images))


def test_sha256_is_of_the_file(nano, tmp_path):
    path = tmp_path / "nano.pth"
    torch.save(nano.state_dict(), path)
    assert load(path).origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# Segmentation files.


def test_mmseg_features_have_the_files_norms(mmseg, xtiny):
    path, norms = mmseg
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        maps = load(path, features_only=True)(images)
        plain, _ = released_forward(xtiny, DEPTHS["xtiny"], INTERVALS["xtiny"], images)
    for i, (ours, x) in enumerate(zip(maps, plain, strict=True)):
        tokens = x.permute(0, 2, 3, 1)
        expected = F.layer_norm(tokens, tokens.shape[-1:], norms[f"norm_{i}.weight"], norms[f"norm_{i}.bias"])
        torch.testing.assert_close(ours, expected.permute(0, 3, 1, 2), rtol=1e-3, atol=1e-4)


def test_mmseg_backbone_runs_without_a_classifier(mmseg, xtiny):
    images = torch.randn(1, 3, 64, 96)
    network = load(mmseg[0])
    with torch.inference_mode():
        tokens = network(images)
        plain, _ = released_forward(xtiny, DEPTHS["xtiny"], INTERVALS["xtiny"], images)
    torch.testing.assert_close(tokens, plain[-1].permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("features_only", [True, False])
def test_mmseg_heads_are_left_out_and_counted(mmseg, features_only):
    network = load(mmseg[0], features_only=features_only)
    assert network.origin.layout == "mmseg"
    assert network.origin.left_out == {"decode_head": 2, "auxiliary_head": 1}
    assert network.origin.matched == len(LAYOUTS["xtiny"]) - 4 + 8  # no norm, no head; four norms
    assert "left out: decode_head (2), auxiliary_head (1)" in network.origin.describe()


# Refusals.


def test_missing_file_is_an_error_that_lists_the_variants(tmp_path, refusal):
    message = refusal(tmp_path / "nowhere.pth")
    assert "no checkpoint file" in message
    assert all(f"atmnet_{name}" in message for name in LAYOUTS)


@pytest.mark.parametrize(
    ("name", "nearest"), [("ATMNet-L", "atmnet_large"), ("atmnet_tinny", "atmnet_tiny"), ("ATMNet-xT", "atmnet_xtiny")]
)
def test_a_misspelt_name_names_the_nearest_variant(name, nearest, refusal):
    assert refusal(name, error=SettingsError).endswith(f"; did you mean {nearest}?")
    assert "did you mean" not in refusal(f"{name}.pth")


@pytest.mark.parametrize("thing", [3, None, torch.nn.Identity()], ids=["number", "None", "network"])
def test_what_is_neither_file_nor_name_is_refused(thing):
    with pytest.raises(SettingsError, match="as a checkpoint, expected a file, or the name"):
        load(thing)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>quota exceeded</html>\n", b"\x80\x02}q\x00.", b"PK\3\4"]
)
def test_other_files_are_errors(suffix, content, tmp_path, refusal):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert re.search("download it again|holds no state dict", refusal(path))


@pytest.mark.parametrize("keep", [0.2, 0.7, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_file_is_an_error(suffix, keep, nano, tmp_path, refusal):
    path = tmp_path / f"nano{suffix}"
    (torch.save if suffix == ".pth" else save_file)(nano.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert "download it again" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_file_truncated_anywhere_is_an_error(zipped, tmp_path, refusal):
    path = tmp_path / "weights.pth"
    torch.save({f"{n}.weight": torch.zeros(9) for n in range(20)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        refusal(path)


class Touch:
    """Unpickled, it runs a shell command that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("kind", ["zip", "old", "raw"])
def test_code_in_a_pickle_is_refused_and_not_run(kind, tmp_path, refusal):
    path, touched = tmp_path / "evil.pth", tmp_path / "touched"
    content = {"model": numbered(LAYOUTS["xtiny"]), "args": Touch(touched)}
    if kind == "raw":
        path.write_bytes(pickle.dumps(Touch(touched)))
        pickle.loads(path.read_bytes())
        assert touched.exists(), "a bare unpickler runs it"
        touched.unlink()
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    message = refusal(path)
    assert not touched.exists()
    if kind != "raw":
        assert f"{os.system.__module__}.system" in message
        assert "nothing was run" in message


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        {},
        {"model": {}, "model_ema": {}},
        {"epoch": 3},
        {"net": {"weight": torch.zeros(3)}},
        {"stem.weight": [1.0]},
    ],
    ids=["tensor", "list", "empty", "empty wrapped", "numbers", "other wrapper", "lists"],
)
def test_files_without_a_state_dict_are_errors(content, tmp_path, refusal):
    torch.save(content, tmp_path / "weights.pth")
    assert "no state dict" in refusal(tmp_path / "weights.pth")


def test_another_networks_weights_are_an_error(tmp_path, refusal):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    message = refusal(tmp_path / "resnet18.pth")
    assert "not of an ATMNet" in message
    assert "conv1.weight" in message
    assert "atmnet_tiny" in message


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named(value, nano, tmp_path, refusal):
    state = nano.state_dict()
    state["stages.2.blocks.6.offset.linear.weight"][3, 4] = value
    torch.save(state, tmp_path / "diverged.pth")
    message = refusal(tmp_path / "diverged.pth")
    assert "stages.2.blocks.6.offset.linear.weight" in message
    assert "NaN or infinite" in message


def test_missing_tensors_are_listed(tmp_path, refusal):
    state = {name: tensor for name, tensor in numbered(LAYOUTS["xtiny"]).items() if "blocks.2.2.offset" not in name}
    torch.save(state, tmp_path / "weights.pth")
    message = refusal(tmp_path / "weights.pth")
    assert "does not fit atmnet_xtiny" in message
    assert "4 missing" in message
    for part in ("norm.weight", "norm.bias", "linear.weight", "linear.bias"):
        assert f"stages.2.blocks.2.offset.{part}" in message


def test_unknown_tensors_are_listed(tmp_path, refusal):
    torch.save(numbered(LAYOUTS["xtiny"]) | {"blocks.1.0.extra": torch.zeros(2)}, tmp_path / "weights.pth")
    assert "1 unknown: stages.1.blocks.0.extra" in refusal(tmp_path / "weights.pth")


def test_wrong_shapes_are_listed_with_both_shapes(tmp_path, refusal):
    layout = LAYOUTS["xtiny"] | {"blocks.0.0.offset_layer.1.weight": [128, 64], "norm.weight": [511]}
    torch.save(numbered(layout), tmp_path / "weights.pth")
    message = refusal(tmp_path / "weights.pth")
    assert "2 of a wrong shape" in message
    assert "stages.0.blocks.0.offset.linear.weight [128, 64] instead of [64, 64]" in message
    assert "norm.weight [511] instead of [512]" in message


def test_many_problems_still_fit_one_line(tmp_path, refusal):
    state = {name: tensor for name, tensor in numbered(LAYOUTS["large"]).items() if ".norm1." not in name}
    torch.save(state, tmp_path / "weights.pth")
    message = refusal(tmp_path / "weights.pth")
    assert "68 missing" in message
    assert "and 56 more" in message
    assert len(message) < 1000


def test_expected_model_that_the_file_contradicts_is_an_error(nano, tmp_path, refusal):
    path = tmp_path / "nano.pth"
    torch.save(nano.state_dict(), path)
    assert load(path, model="atmnet_nano").origin.model == "atmnet_nano"
    message = refusal(path, model="atmnet_tiny")
    assert "got atmnet_nano" in message
    assert "expected atmnet_tiny" in message


@pytest.mark.parametrize(
    ("wrapper", "weights"),
    [(None, "ema"), ("model", "ema"), ("state_dict", "ema"), ("model_ema", "model"), ("state_dict_ema", "model")],
)
def test_weights_that_are_not_in_the_file_are_an_error(wrapper, weights, tmp_path, refusal):
    state = numbered(LAYOUTS["xtiny"])
    torch.save({wrapper: state} if wrapper else state, tmp_path / "weights.pth")
    assert f"no {weights} weights" in refusal(tmp_path / "weights.pth", weights=weights)


# Untrained networks.


def test_untrained_networks_are_reproducible_and_leave_the_random_state_alone():
    before = torch.get_rng_state()
    first = load("atmnet_nano")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    second = load("atmnet_nano")
    assert first.origin.sha256 == second.origin.sha256 != random_checkpoint("atmnet_nano", seed=1).origin.sha256
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_untrained_offsets_spread_over_a_few_tokens():
    network = load("atmnet_nano")
    with observing(network) as observed, torch.inference_mode():
        network(torch.randn(2, 3, 128, 128))
    sources = [site.name for site in find_sites(network) if site.is_source]
    assert len(sources) == 6
    assert all(1 < observed.offsets[name].std() < 6 for name in sources)


def test_without_a_name_the_demonstration_model_is_loaded():
    network = load_model(device="cpu")
    assert network.origin.trained
    assert network.origin.training_info["dataset"] == "shapes"
    assert network.origin.training_info["classes"] == list(SHAPE_CLASSES)
    assert load("atmnet_nano.shapes").origin.sha256 == network.origin.sha256


def test_other_backbones_are_matched_before_memory_is_taken(tmp_path, monkeypatch, refusal):
    state = {"backbone.body.conv1.weight": torch.zeros(1)}
    metadata = {"architecture": "semantic_fpn(resnet50)", "config": '{"num_classes": 3, "dim": 32}'}
    save_file(state, tmp_path / "a.safetensors", metadata)
    devices = []
    plain = loading.create_network

    def create(*args, **config):
        devices.append(torch.get_default_device().type)
        return plain(*args, **config)

    monkeypatch.setattr(loading, "create_network", create)
    assert "missing" in refusal(tmp_path / "a.safetensors")
    assert devices == ["meta"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_permission_denied_is_called_that(suffix, nano, tmp_path, monkeypatch, refusal):
    path = tmp_path / f"nano{suffix}"
    (torch.save if suffix == ".pth" else save_file)(nano.state_dict(), path)

    def deny(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", deny)
    assert "no permission to read" in refusal(path)


def test_untrained_networks_say_so():
    network = load("atmnet_nano")
    assert not network.origin.trained
    assert network.origin.describe() == "atmnet_nano: random, untrained weights (seed 0)"


def test_numbers_pickled_by_numpy_1_load(tmp_path):
    path = tmp_path / "released.pth"
    state = numbered(LAYOUTS["xtiny"])
    torch.save(in_released_file(state, ema=state), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load(path).origin.model == "atmnet_xtiny"


def test_name_of_the_model_beside_its_weights_is_no_obstacle(tmp_path):
    torch.save({"model": "ActivexTiny", "state_dict": numbered(LAYOUTS["xtiny"])}, tmp_path / "weights.pth")
    assert load(tmp_path / "weights.pth").origin.model == "atmnet_xtiny"


def test_scalar_classifier_is_an_error(tmp_path, refusal):
    torch.save(numbered(LAYOUTS["xtiny"]) | {"head.weight": torch.tensor(1.0)}, tmp_path / "weights.pth")
    refusal(tmp_path / "weights.pth")


def test_numbered_tensors_are_an_error(tmp_path, refusal):
    torch.save({0: torch.zeros(3), 1: torch.zeros(3)}, tmp_path / "weights.pth")
    assert "no state dict" in refusal(tmp_path / "weights.pth")


def test_prefixes_are_stripped_in_any_order(nano, tmp_path):
    state = {f"_orig_mod.module.{name}": tensor for name, tensor in nano.state_dict().items()}
    torch.save(state, tmp_path / "wrapped.pth")
    assert load(tmp_path / "wrapped.pth").origin.layout == "timm"
