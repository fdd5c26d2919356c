"""The recorder: what it keeps equals what the layers compute, and it leaves nothing behind."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from atmviz.checkpoints import load_model
from atmviz.errors import AtmvizError, CheckpointError, LayerNotFoundError
from atmviz.layers import LayerId
from atmviz.models import create_model
from atmviz.recording.recorder import OffsetRecorder, find_layers, infer, require_recordable

SOURCES = [LayerId(1, 1), LayerId(2, 1), LayerId(3, 1), LayerId(3, 7), LayerId(3, 13), LayerId(4, 1)]  # of nano


def hooks(network):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


@pytest.fixture
def batch():
    return torch.randn(2, 3, 64, 96)


def test_hooks_are_gone_after_the_block(nano, batch):
    recorder = OffsetRecorder(nano)
    assert hooks(nano) == 0
    with recorder:
        assert hooks(nano) == 24 + 6  # one of each layer's fusion, one of each generator's offsets
        nano(batch)
    assert hooks(nano) == 0
    kept = recorder.offsets[LayerId(1, 1)]
    nano(-batch)
    assert recorder.offsets[LayerId(1, 1)] is kept


def test_hooks_are_gone_after_an_error(nano):
    with pytest.raises(ValueError, match="at least 32 px"), OffsetRecorder(nano):
        nano(torch.zeros(1, 3, 8, 8))
    assert hooks(nano) == 0


def test_recorder_can_be_used_again(nano, batch):
    recorder = OffsetRecorder(nano)
    for images in (batch, -batch):
        with recorder:
            nano(images)
            expected = recorder.offsets[LayerId(2, 1)]
        with OffsetRecorder(nano) as fresh:
            nano(images)
        assert torch.equal(expected, fresh.offsets[LayerId(2, 1)])
    assert hooks(nano) == 0


def test_recording_changes_no_output(nano, batch):
    plain = nano(batch)
    with OffsetRecorder(nano):
        assert torch.equal(nano(batch), plain)


def test_offsets_equal_those_computed_from_the_blocks_input(network, batch):
    inputs = {}
    handles = []
    for layer in SOURCES:
        block = network.stages[layer.stage - 1].blocks[layer.index - 1]
        keep = partial(inputs.__setitem__, layer)
        handles.append(block.register_forward_pre_hook(lambda _, args, keep=keep: keep(args[0])))
    with OffsetRecorder(network) as recorder, torch.inference_mode():
        network(batch)
    for handle in handles:
        handle.remove()

    assert list(recorder.offsets) == recorder.sources == SOURCES
    for layer, offset in recorder.offsets.items():
        module = network.stages[layer.stage - 1].blocks[layer.index - 1].offset
        x = inputs[layer]
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        both = F.linear(x * module.norm.weight + module.norm.bias, module.linear.weight, module.linear.bias)
        count = both.shape[-1] // 2
        torch.testing.assert_close(offset[..., 0, :], both[..., :count], rtol=1e-4, atol=1e-4)  # horizontal first
        torch.testing.assert_close(offset[..., 1, :], both[..., count:], rtol=1e-4, atol=1e-4)


def test_fusion_weights_are_shares_of_the_branches(nano, batch):
    with OffsetRecorder(nano) as recorder:
        nano(batch)
    assert len(recorder.fusion) == 24
    for layer, channels in [(LayerId(1, 2), 24), (LayerId(3, 18), 64), (LayerId(4, 2), 96)]:
        weights = recorder.fusion[layer]
        assert weights.shape == (2, 1, 1, channels, 3)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 1, channels))
        assert not weights.requires_grad


def test_layers_that_generate_nothing_are_aliases_of_their_source(nano, batch):
    with OffsetRecorder(nano) as whole:
        nano(batch)
    with OffsetRecorder(nano, [LayerId(3, 18), LayerId(3, 14), LayerId(2, 2)]) as some:
        nano(batch)
    assert [layer.id for layer in some.layers] == [LayerId(2, 2), LayerId(3, 14), LayerId(3, 18)]
    assert [layer.source for layer in some.layers] == [LayerId(2, 1), LayerId(3, 13), LayerId(3, 13)]
    assert some.sources == list(some.offsets) == [LayerId(2, 1), LayerId(3, 13)]
    assert all(torch.equal(offset, whole.offsets[source]) for source, offset in some.offsets.items())
    assert list(some.fusion) == [LayerId(2, 2), LayerId(3, 14), LayerId(3, 18)]


def test_features_only_networks_are_recorded_alike(network, batch):
    features = load_model("atmnet_nano", device="cpu", features_only=True)
    recorded = []
    for model in (features, network):
        with OffsetRecorder(model) as recorder, torch.inference_mode():
            model(batch)
        recorded.append(recorder.offsets)
        assert hooks(model) == 0
    assert list(recorded[0]) == SOURCES
    assert all(torch.equal(recorded[0][layer], recorded[1][layer]) for layer in SOURCES)


def test_backbones_inside_larger_networks_are_found(nano, batch):
    larger = nn.Sequential(nn.Identity(), nn.ModuleDict({"backbone": nano})["backbone"], nn.Softmax(-1))
    paths = [layer.module for layer in find_layers(larger)]
    assert paths[0] == "1.stages.0.blocks.0.token_mixer"
    assert all(larger.get_submodule(path) is layer.mixer for path, layer in zip(paths, nano.atm_layers(), strict=True))
    with OffsetRecorder(larger) as recorder:
        larger(batch)
    assert recorder.offsets[LayerId(3, 1)].shape == (2, 4, 6, 2, 16)


@pytest.mark.parametrize(("mode", "branches"), [("joint", 2), ("decoupled", 3)])
def test_other_designs_are_recorded_too(mode, branches, batch):
    model = create_model("atmnet_nano", num_classes=5, depths=(2, 2, 2, 2), offset_mode=mode, fusion="token").eval()
    with OffsetRecorder(model) as recorder, torch.inference_mode():
        model(batch)
    assert recorder.offsets[LayerId(1, 1)].shape == (2, 16, 24, 2, 12)
    assert recorder.fusion[LayerId(1, 1)].shape == (2, 16, 24, 24, branches)


def test_networks_without_offsets_are_refused():
    zero = create_model("atmnet_nano", depths=(2, 2, 2, 2), offset_mode="zero")
    with pytest.raises(CheckpointError, match="offsets fixed to zero"):
        OffsetRecorder(zero)
    with pytest.raises(CheckpointError, match="no ATM layers in this Linear"):
        OffsetRecorder(nn.Linear(2, 2))


def test_unknown_layers_are_an_error(nano):
    with pytest.raises(LayerNotFoundError, match="9_1"):
        OffsetRecorder(nano, [LayerId(3, 1), LayerId(9, 1)])


def test_a_compiled_network_is_recorded_though_it_ran_before(nano):
    pixels = torch.rand(1, 3, 64, 64)
    compiled = torch.compile(nano, backend="eager")
    with torch.inference_mode():
        compiled(pixels)
        with OffsetRecorder(compiled) as recorder:
            infer(compiled, pixels)
    assert torch.equal(recorder.offsets_of("3_18"), recorder.offsets[LayerId(3, 13)])


@pytest.mark.parametrize(("network", "says"), [("train", "eval()"), ("grey", "1 input channels")])
def test_networks_that_cannot_be_recorded_are_refused(network, says, nano):
    refused = nano.train() if network == "train" else create_model("atmnet_nano", in_chans=1).eval()
    with pytest.raises(AtmvizError, match=re.escape(says)):
        require_recordable(refused)
