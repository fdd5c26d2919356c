"""Hooks: what they keep equals what the layers compute, edits are used, and nothing is left behind."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from atmviz.checkpoints import load_model
from atmviz.errors import AtmvizError, CheckpointError, LayerNotFoundError, SettingsError
from atmviz.layers import LayerId
from atmviz.models import create_model
from atmviz.observe import find_sites, forward_to_sites, observing, require_observable, sources_of

SOURCES = ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]  # of nano


def hooks(network):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def block(network, name):
    layer = LayerId.parse(name)
    return network.stages[layer.stage - 1].blocks[layer.index - 1]


@pytest.fixture
def batch():
    return torch.randn(2, 3, 64, 96)


def test_sites_are_the_layers_of_the_network_with_what_is_known_of_them(nano):
    sites = {site.name: site for site in find_sites(nano)}
    assert len(sites) == 24
    assert list(sources_of(sites.values())) == SOURCES
    site = sites["3_18"]
    assert (site.source, site.module, site.kind) == ("3_13", "stages.2.blocks.17.token_mixer", "axis")
    assert (site.channels, site.num_offsets, site.channels_per_offset) == (64, 16, 4)
    assert (site.stride_px, site.branches) == ((16, 16), ("width", "height", "identity"))
    assert (site.is_source, site.label) == (False, "layer_3_18 (offsets of 3_13)")
    assert (sites["3_13"].is_source, sites["3_13"].label) == (True, "layer_3_13")


def test_strides_are_those_of_the_maps(nano, batch):
    with observing(nano) as observed, torch.inference_mode():
        nano(batch)
    for site in find_sites(nano):
        height, width = observed.offsets[site.name].shape[1:3]
        assert (64 / height, 96 / width) == site.stride_px


def test_patterns_choose_sites_in_the_order_asked_for(nano):
    assert [site.name for site in find_sites(nano, ["3_last", "1_*"])] == ["3_18", "1_1", "1_2"]
    with pytest.raises(LayerNotFoundError, match="9_1"):
        find_sites(nano, ["3_1", "9_1"])


def test_hooks_are_gone_after_the_block(nano, batch):
    with observing(nano) as observed:
        assert hooks(nano) == 24 + 24  # offsets and fusion weights of each site
        nano(batch)
    assert hooks(nano) == 0
    kept = observed.offsets["1_1"]
    nano(-batch)
    assert observed.offsets["1_1"] is kept


def test_hooks_are_gone_after_an_error(nano):
    with pytest.raises(ValueError, match="at least 32 px"), observing(nano):
        nano(torch.zeros(1, 3, 8, 8))
    assert hooks(nano) == 0


def test_observing_changes_no_output(nano, batch):
    plain = nano(batch)
    with observing(nano):
        assert torch.equal(nano(batch), plain)


def test_offsets_equal_those_computed_from_the_blocks_input(network, batch):
    inputs = {}
    handles = []
    for name in SOURCES:
        keep = partial(inputs.__setitem__, name)
        handles.append(block(network, name).register_forward_pre_hook(lambda _, args, keep=keep: keep(args[0])))
    with observing(network) as observed, torch.inference_mode():
        network(batch)
    for handle in handles:
        handle.remove()

    for name in SOURCES:
        offset, module, x = observed.offsets[name], block(network, name).offset, inputs[name]
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        both = F.linear(x * module.norm.weight + module.norm.bias, module.linear.weight, module.linear.bias)
        count = both.shape[-1] // 2
        torch.testing.assert_close(offset[..., 0, :], both[..., :count], rtol=1e-4, atol=1e-4)  # horizontal first
        torch.testing.assert_close(offset[..., 1, :], both[..., count:], rtol=1e-4, atol=1e-4)


def test_fusion_weights_of_the_branches_add_up_to_one(nano, batch):
    with observing(nano) as observed:
        nano(batch)
    assert len(observed.fusion) == 24
    for name, channels in [("1_2", 24), ("3_18", 64), ("4_2", 96)]:
        weights = observed.fusion[name]
        assert weights.shape == (2, 1, 1, channels, 3)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 1, channels))
        assert not weights.requires_grad


def test_sites_that_generate_nothing_hold_the_offsets_of_their_source(nano, batch):
    with observing(nano) as whole:
        nano(batch)
    with observing(nano, find_sites(nano, ["3_18", "3_14", "2_2"])) as some:
        nano(batch)
    assert sorted(some.offsets) == sorted(some.fusion) == ["2_2", "3_14", "3_18"]
    for name, source in [("2_2", "2_1"), ("3_14", "3_13"), ("3_18", "3_13")]:
        assert torch.equal(some.offsets[name], whole.offsets[source])


def test_features_only_networks_are_observed_alike(network, batch):
    features = load_model("atmnet_nano", device="cpu", features_only=True)
    offsets = []
    for model in (features, network):
        with observing(model) as observed, torch.inference_mode():
            model(batch)
        offsets.append(observed.offsets)
        assert hooks(model) == 0
    assert list(offsets[0]) == list(offsets[1])
    assert all(torch.equal(offsets[0][name], offsets[1][name]) for name in SOURCES)


def test_backbones_inside_larger_networks_are_found(nano, batch):
    larger = nn.Sequential(nn.Identity(), nn.ModuleDict({"backbone": nano})["backbone"], nn.Softmax(-1))
    modules = [site.module for site in find_sites(larger)]
    assert modules[0] == "1.stages.0.blocks.0.token_mixer"
    mixers = [nano.get_submodule(layer.module) for layer in nano.atm_layers()]
    assert [larger.get_submodule(path) for path in modules] == mixers
    with observing(larger) as observed:
        larger(batch)
    assert observed.offsets["3_1"].shape == (2, 4, 6, 2, 16)


@pytest.mark.parametrize(("mode", "kind", "branches"), [("joint", "point", 2), ("decoupled", "axis", 3)])
def test_other_designs_are_observed_too(mode, kind, branches, batch):
    model = create_model("atmnet_nano", num_classes=5, depths=(2, 2, 2, 2), offset_mode=mode, fusion="token").eval()
    with observing(model) as observed, torch.inference_mode():
        model(batch)
    assert find_sites(model)[0].kind == kind
    assert observed.offsets["1_1"].shape == (2, 16, 24, 2, 12)
    assert observed.fusion["1_1"].shape == (2, 16, 24, 24, branches)


def test_networks_without_offsets_are_refused():
    zero = create_model("atmnet_nano", depths=(2, 2, 2, 2), offset_mode="zero")
    with pytest.raises(CheckpointError, match="offsets fixed to zero"):
        find_sites(zero)
    with pytest.raises(CheckpointError, match="no ATM layers in this Linear"):
        find_sites(nn.Linear(2, 2))


def test_a_compiled_network_is_observed_though_it_ran_before(nano):
    pixels = torch.rand(1, 3, 64, 64)
    compiled = torch.compile(nano, backend="eager")
    with torch.inference_mode():
        compiled(pixels)
        with observing(compiled) as observed:
            forward_to_sites(compiled, pixels)
    assert torch.equal(observed.offsets["3_18"], observed.offsets["3_13"])


@pytest.mark.parametrize(("network", "says"), [("train", "eval()"), ("grey", "1 input channels")])
def test_networks_that_cannot_be_observed_are_refused(network, says, nano):
    refused = nano.train() if network == "train" else create_model("atmnet_nano", in_chans=1).eval()
    with pytest.raises(AtmvizError, match=re.escape(says)):
        require_observable(refused)


def test_an_edit_is_used_by_its_site_alone_and_is_what_is_kept(network, batch):
    with torch.inference_mode():
        with observing(network) as plain:
            before = network(batch)
        with observing(network, edits={"3_18": torch.zeros_like}) as edited:
            after = network(batch)
    assert not edited.offsets["3_18"].any()
    for name in ("3_13", "3_14", "3_17"):  # the same offsets, used before 3_18
        assert torch.equal(edited.offsets[name], plain.offsets[name])
    assert not torch.equal(before, after)


def test_an_edited_offset_is_sampled(network, batch):
    """The mixer's output with offsets replaced equals that of calling it with these offsets."""
    mixer, shift = block(network, "2_2").token_mixer, partial(torch.add, other=1.5)
    calls = []
    handle = mixer.register_forward_hook(lambda module, args, output: calls.append((args, output)))
    with torch.inference_mode(), observing(network, edits={"2_2": shift}):
        network(batch)
    handle.remove()
    (x, offset), output = calls[0]
    with torch.inference_mode():
        torch.testing.assert_close(output, mixer(x, offset + 1.5), rtol=0, atol=0)


def test_edits_that_do_not_fit_are_refused(nano, batch):
    with (
        pytest.raises(ValueError, match="edit of 9_9, expected one of 1_1 to 1_2"),
        observing(nano, edits={"9_9": torch.abs}),
    ):
        pass
    with pytest.raises(ValueError, match=r"edit of 1_1 gave offsets \[2, 16, 24, 2\], expected"):  # noqa: SIM117
        with observing(nano, edits={"1_1": lambda offset: offset[..., 0]}):
            nano(batch)
    with pytest.raises(SettingsError, match="edit of 1_1 gave None, expected offsets"):  # noqa: SIM117
        with observing(nano, edits={"1_1": lambda offset: None}):
            nano(batch)
    assert hooks(nano) == 0


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ({"1_1": 0}, "got 0 as the edit of 1_1, expected a function"),
        ([torch.abs], "as edits, expected functions by name"),
    ],
)
def test_what_is_no_edit_is_refused(nano, edits, says):
    with pytest.raises(SettingsError, match=says), observing(nano, edits=edits):
        pass


@pytest.mark.parametrize("network", ["atmnet_nano", 3, None])
def test_what_is_no_network_has_no_sites(network):
    for look in (find_sites, lambda network: observing(network).__enter__(), require_observable):
        with pytest.raises(SettingsError, match=f"got {network!r} as a network, expected an open one"):
            look(network)


@pytest.mark.parametrize("sites", [3, [3], None])
def test_what_is_no_layer_selects_no_site(nano, sites):
    for look in (find_sites, lambda network, sites: observing(network, sites).__enter__()):
        with pytest.raises(LayerNotFoundError, match="as a layer, expected a name or pattern"):
            look(nano, sites)


def test_what_was_observed_is_named_like_layers_everywhere(nano, batch):
    with observing(nano, "3_*") as observed, torch.inference_mode():
        with pytest.raises(LayerNotFoundError, match="got '3_1' before a forward pass: run the network first"):
            observed.offsets["3_1"]
        nano(batch)
    for name in ("3_last", "layer_3_18", LayerId(3, 18), "stages.2.blocks.17.token_mixer"):
        assert observed.offsets[name] is observed.offsets["3_18"]
    for seen in (observed.offsets, observed.fusion):
        with pytest.raises(LayerNotFoundError, match="no layer '9_9': expected one of 3_1 to 3_18"):
            seen["9_9"]


def test_sites_may_be_named_in_every_way(nano, batch):
    for sites in ("3_18", ["3_18"], ("3_18",), find_sites(nano, ["3_18"])):
        with observing(nano, sites) as observed, torch.inference_mode():
            nano(batch)
        assert list(observed.offsets) == ["3_18"]


@pytest.mark.parametrize("sites", [["all", "1_1"], ["1_1", "1_*"], "sites"])
def test_a_site_named_twice_is_edited_once(sites, network, batch):
    sites = [*find_sites(network), find_sites(network, "1_1")[0]] if sites == "sites" else sites
    with torch.inference_mode():
        with observing(network) as plain:
            network(batch)
        with observing(network, sites, {"1_1": partial(torch.add, other=1)}) as edited:
            network(batch)
    assert torch.equal(edited.offsets["1_1"], plain.offsets["1_1"] + 1)


def test_an_edit_in_place_leaves_the_offsets_that_other_sites_reuse(network, batch):
    with torch.inference_mode():
        with observing(network) as plain:
            network(batch)
        with observing(network, edits={"1_1": torch.Tensor.zero_}) as edited:
            network(batch)
    assert not edited.offsets["1_1"].any()
    assert torch.equal(edited.offsets["1_2"], plain.offsets["1_2"])  # which reuses those of 1_1


def test_two_networks_in_one_are_refused_as_their_layers_share_names(nano, network):
    with pytest.raises(
        CheckpointError, match=r"several ATMNets in one ModuleList \(0\..* and 1\..* are both layer 1_1"
    ):
        find_sites(nn.ModuleList([nano, network]))
