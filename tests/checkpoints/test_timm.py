"""timm loads the same files by `checkpoint_path` and by `pretrained_cfg_overlay`, and takes the same weights."""

import numpy as np
import pytest
import timm
import torch

from atmviz.checkpoints import convert_checkpoint, load_model, write_checkpoint

IMAGES = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)


def released_names(state):
    """The names and shapes that a classifier's tensors have in released files."""
    released = {}
    for name, tensor in state.items():
        stage, _, rest = name.removeprefix("stages.").partition(".")
        if name.startswith("stages.") and rest.startswith("blocks."):
            name = f"blocks.{stage}.{rest.removeprefix('blocks.')}"
        elif rest.startswith("peg."):
            name = f"pos_blocks.{stage}.{rest.removeprefix('peg.')}"
        elif rest.startswith("downsample."):
            before = int(stage) - 1
            last = max(int(n.split(".")[3]) for n in state if n.startswith(f"stages.{before}.blocks."))
            name = f"blocks.{before}.{last}.downsample.proj.{rest.removeprefix('downsample.')}"
        for ours, theirs in (
            ("stem.", "patch_embed.proj."),
            ("head.fc.", "head."),
            (".token_mixer.fc_width.", ".atm.atm_w."),
            (".token_mixer.fc_height.", ".atm.atm_h."),
            (".token_mixer.fc_identity.", ".atm.atm_c."),
            (".token_mixer.", ".atm."),
            (".offset.norm.", ".offset_layer.0."),
            (".offset.linear.", ".offset_layer.1."),
        ):
            name = name.replace(ours, theirs)
        released[name] = tensor[:, :, None, None] if name.endswith((".atm_w.weight", ".atm_h.weight")) else tensor
    return released


@pytest.fixture
def sets(nano):
    """Two sets of weights under the released names, the second one averaged."""
    plain = released_names(nano.state_dict())
    return plain, {name: tensor * 0.9 for name, tensor in plain.items()}


def save(kind, sets, path):
    plain, averaged = sets
    content = {
        "released": {"model": plain, "model_ema": averaged, "epoch": 299, "acc_max": 81.9},
        "plain": {"model": plain},
        "state_dict": {"state_dict": plain},
        "data parallel": {f"module.{name}": tensor for name, tensor in plain.items()},
        "bare": plain,
    }
    torch.save(content[kind], path)


def scores(network):
    with torch.inference_mode():
        return network.eval()(IMAGES)


@pytest.mark.parametrize("kind", ["released", "plain", "state_dict", "data parallel", "bare"])
def test_timm_and_load_model_take_the_same_weights_of_a_released_file(kind, sets, tmp_path):
    path = tmp_path / "released.pth"
    save(kind, sets, path)
    network = load_model(path, device="cpu")
    assert network.origin.layout == "released"
    assert torch.equal(scores(timm.create_model("atmnet_nano", num_classes=5, checkpoint_path=path)), scores(network))


@pytest.mark.parametrize("averaged", [True, False])
def test_timm_loads_this_projects_files(averaged, nano, tmp_path):
    state = nano.state_dict()
    states = {"model": state} | ({"model_ema": {n: t * 0.9 for n, t in state.items()}} if averaged else {})
    write_checkpoint(tmp_path / "run.safetensors", "atmnet_nano", {"num_classes": 5}, states, {})
    convert_checkpoint(tmp_path / "run.safetensors", tmp_path / "converted.safetensors")
    expected = scores(load_model(tmp_path / "run.safetensors", device="cpu"))
    for name in ("run", "converted"):
        path = tmp_path / f"{name}.safetensors"
        assert torch.equal(scores(timm.create_model("atmnet_nano", num_classes=5, checkpoint_path=path)), expected)


def test_timm_loads_feature_maps_from_a_released_file(sets, tmp_path):
    path = tmp_path / "released.pth"
    save("released", sets, path)
    overlay = {"file": str(path), "num_classes": 5}
    network = timm.create_model("atmnet_nano", pretrained=True, pretrained_cfg_overlay=overlay, features_only=True)
    expected = scores(load_model(path, device="cpu", features_only=True))
    assert all(torch.equal(a, b) for a, b in zip(scores(network), expected, strict=True))


@pytest.mark.parametrize("kind", ["mmseg", "dense"])
def test_timm_loads_the_backbone_of_a_dense_network(kind, sets, tmp_path):
    if kind == "mmseg":
        path = tmp_path / "mmseg.pth"
        backbone = {name: tensor for name, tensor in sets[0].items() if not name.startswith(("norm.", "head."))}
        norms = {
            f"norm_{i}.{part}": torch.rand(dim) for i, dim in enumerate((24, 48, 64, 96)) for part in ("weight", "bias")
        }
        state = {f"backbone.{name}": tensor for name, tensor in (backbone | norms).items()}
        torch.save({"state_dict": {**state, "decode_head.conv_seg.bias": torch.zeros(3)}}, path)
    else:
        path = tmp_path / "dense.safetensors"
        network = load_model("semantic_fpn(atmnet_nano)", device="cpu")
        write_checkpoint(path, network.origin.model, network.origin.config, {"model": network.state_dict()}, {})
    options = {"pretrained": True, "features_only": True, "out_norms": True}
    network = timm.create_model("atmnet_nano", pretrained_cfg_overlay={"file": str(path)}, **options)
    expected = scores(load_model(path, device="cpu", features_only=True))
    expected = expected.values() if isinstance(expected, dict) else expected
    assert all(torch.equal(a, b) for a, b in zip(scores(network), expected, strict=True))


def test_a_released_file_that_does_not_fit_is_an_error_in_timm(sets, tmp_path):
    plain, _ = sets
    del plain["norm.bias"]
    torch.save(plain, tmp_path / "released.pth")
    with pytest.raises(RuntimeError, match=r"Missing key.*norm\.bias"):
        timm.create_model("atmnet_nano", num_classes=5, checkpoint_path=tmp_path / "released.pth")


def test_numpy_numbers_that_timm_refuses_load_after_conversion(sets, tmp_path):
    plain, _ = sets
    path, target = tmp_path / "released.pth", tmp_path / "released.safetensors"
    torch.save({"model": plain, "acc_max": np.float64(81.9)}, path)
    with pytest.raises(RuntimeError, match="weights_only=True blocked"):
        timm.create_model("atmnet_nano", num_classes=5, checkpoint_path=path)
    convert_checkpoint(path, target)
    network = timm.create_model("atmnet_nano", num_classes=5, checkpoint_path=target)
    assert torch.equal(scores(network), scores(load_model(path, device="cpu")))
