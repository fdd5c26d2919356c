"""The network: timm's interface, map sizes, shared offsets, gradients, initialization."""

import math
from functools import partial

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from atmviz.layers import LayerId
from atmviz.models import ActiveTokenMixer, ATMNet, create_model
from atmviz.models.token_mixer import OffsetLayer
from atmviz.variants import VARIANTS

NANO = VARIANTS["atmnet_nano"]
create_nano = partial(create_model, "atmnet_nano", num_classes=5)


def small(**kwargs):
    """Two blocks a stage, where depth does not matter."""
    return create_nano(depths=(2, 2, 2, 2), **kwargs)


@pytest.fixture
def net(_seed):
    return small().eval()


def images(height=64, width=64, channels=3):
    return torch.randn(2, channels, height, width)


def map_sizes(side):
    """The four stages' sides by convolution arithmetic: 7x7 (stride 4, padding 2), 3x3 (stride 2, padding 1)."""
    sizes = [(side + 2 * 2 - 7) // 4 + 1]
    for _ in range(3):
        sizes.append((sizes[-1] + 2 * 1 - 3) // 2 + 1)
    return sizes


def backward(model, x):
    """Gradients of a random weighted sum of all outputs, by parameter name."""
    torch.manual_seed(1)
    outputs = model(x)
    sum((y * torch.randn_like(y)).sum() for y in (outputs if isinstance(outputs, list) else [outputs])).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def watch(module, seen, key):
    """Record each call of a module: `seen[key]` becomes its (last) output."""
    module.register_forward_hook(lambda module, args, output: seen.__setitem__(key, output))


# Creation.


def test_all_variants_are_registered_with_timm():
    assert set(timm.list_models("atmnet_*")) == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_run_without_memory_on_the_meta_device(name):
    with torch.device("meta"):
        model = timm.create_model(name)
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        assert model(torch.empty(1, 3, 64, 96)).shape == (1, 1000)
    assert model.depths == VARIANTS[name].depths
    assert tuple(info["num_chs"] for info in model.feature_info) == VARIANTS[name].dims
    assert model.pretrained_cfg["crop_pct"] == 0.875
    assert model.pretrained_cfg["interpolation"] == "bicubic"


def test_first_conv_and_classifier_of_the_config_exist(net):
    assert net.get_submodule(net.default_cfg["first_conv"]) is net.stem
    assert net.get_submodule(net.default_cfg["classifier"]) is net.get_classifier()


@pytest.mark.parametrize("in_chans", [1, 4])
def test_number_of_classes_and_channels_can_be_chosen(in_chans):
    model = small(in_chans=in_chans)
    assert model(images(channels=in_chans)).shape == (2, 5)
    assert (model.num_classes, model.in_chans) == (5, in_chans)


def test_stochastic_depth_rises_linearly():
    model = create_nano(drop_path_rate=0.23)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.01 * i for i in range(24)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (2, 2, 1, 2)}, r"got depths \(2, 2, 1, 2\).* 2 blocks"),
        (
            {"num_offsets": (12, 12, 15, 12)},
            r"got \(12, 12, 15, 12\) offsets for \(24, 48, 64, 96\) channels, expected",
        ),
        ({"num_offsets": (48, 48, 64, 96)}, "expected divisors"),
        (
            {"channels_per_offset": 5},
            r"got channels_per_offset 5 for \(24, 48, 64, 96\) channels, expected a divisor of each",
        ),
    ],
)
def test_sizes_that_cannot_work_are_refused(arguments, message):
    sizes = {key: getattr(NANO, key) for key in ("depths", "dims", "mlp_ratios", "num_offsets", "offset_interval")}
    with pytest.raises(ValueError, match=message):
        ATMNet(**{**sizes, **arguments})


def test_weights_are_initialized_as_in_the_released_code():
    for name, module in create_nano().named_modules():
        if isinstance(module, nn.Linear):
            std = 0.02
        elif isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels / module.groups))
        else:
            assert not isinstance(module, nn.LayerNorm) or (torch.all(module.weight == 1) and not module.bias.any())
            continue
        error = std / math.sqrt(module.weight.numel())  # of the mean; that of the deviation is less
        assert module.weight.mean().item() == pytest.approx(0, abs=5 * error), name
        assert module.weight.std().item() == pytest.approx(std, abs=5 * error), name
        assert module.bias is None or not module.bias.any(), name


# Shapes.


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (64, 32), (225, 300)])
def test_maps_have_the_sizes_of_the_convolutions(net, height, width):
    maps = net.forward_intermediates(images(height, width), intermediates_only=True)
    expected = zip(NANO.dims, map_sizes(height), map_sizes(width), strict=True)
    assert [tuple(m.shape) for m in maps] == [(2, *sizes) for sizes in expected]
    assert net(images(height, width)).shape == (2, 5)


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 31), (1, 1)])
def test_images_under_32_px_are_refused(net, height, width):
    message = f"got an image of {height}x{width} px, expected at least 32 px"
    with pytest.raises(ValueError, match=message):
        net(images(height, width))
    with pytest.raises(ValueError, match=message):
        net.forward_intermediates(images(height, width))


# timm's interface.


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2), (3,), (0,)])
def test_features_only_returns_maps_of_strides_4_to_32(out_indices):
    backbone = create_model("atmnet_nano", features_only=True, out_indices=out_indices)
    maps = backbone(images(64, 96))
    strides = [4 * 2**i for i in out_indices]
    assert backbone.feature_info.reduction() == strides
    assert backbone.feature_info.channels() == [NANO.dims[i] for i in out_indices]
    shapes = [(2, NANO.dims[i], 64 // stride, 96 // stride) for i, stride in zip(out_indices, strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes


def test_forward_is_the_head_on_the_features(net):
    x = images(64, 96)
    tokens = net.forward_features(x)
    assert tokens.shape == (2, 2, 3, 96)
    pooled = tokens.mean((1, 2))
    torch.testing.assert_close(net.forward_head(tokens, pre_logits=True), pooled)
    torch.testing.assert_close(net(x), pooled @ net.head.fc.weight.T + net.head.fc.bias)
    torch.testing.assert_close(net.forward_head(tokens), net(x))


def test_intermediates_are_the_outputs_of_the_stages(net):
    stages = {}
    for i, stage in enumerate(net.stages):
        watch(stage, stages, i)
    last, maps = net.forward_intermediates(x := images(64, 96))
    assert all(torch.equal(m, stages[i]) for i, m in enumerate(maps))
    assert len(maps) == 4
    assert torch.equal(last, net.forward_features(x))


@pytest.mark.parametrize(
    ("indices", "expected"),
    [(None, [0, 1, 2, 3]), (1, [3]), (2, [2, 3]), ([1], [1]), ([-1], [3]), ([0, -2], [0, 2]), ((3, 1), [3, 1])],
)
def test_indices_choose_intermediates(net, indices, expected):
    every = net.forward_intermediates(x := images(), intermediates_only=True)
    chosen = net.forward_intermediates(x, indices=indices, intermediates_only=True)
    assert len(chosen) == len(expected)
    assert all(torch.equal(m, every[i]) for m, i in zip(chosen, expected, strict=True))


@pytest.mark.parametrize("indices", [[4], [-5], [], 5])
def test_indices_of_no_stage_are_refused(net, indices):
    with pytest.raises(ValueError, match=r"got feature indices \[.*\], expected some of 0 ... 3"):
        net.forward_intermediates(images(), indices=indices)


def test_final_norm_applies_to_the_last_map_alone(net):
    torch.nn.init.normal_(net.norm.weight)
    plain = net.forward_intermediates(x := images(), intermediates_only=True)
    normed = net.forward_intermediates(x, norm=True, intermediates_only=True)
    assert all(torch.equal(n, p) for n, p in zip(normed[:3], plain, strict=False))
    assert not torch.allclose(normed[3], plain[3])
    assert torch.equal(normed[3].permute(0, 2, 3, 1), net.forward_features(x))


def test_stop_early_runs_no_later_stage(net):
    complete = net.forward_intermediates(x := images(), indices=[0, 1])[1]
    stages = {}
    for i, stage in enumerate(net.stages):
        watch(stage, stages, i)
    tokens, maps = net.forward_intermediates(x, indices=[0, 1], stop_early=True)
    assert list(stages) == [0, 1]
    assert all(torch.equal(m, c) for m, c in zip(maps, complete, strict=True))
    assert torch.equal(tokens.permute(0, 3, 1, 2), maps[1])


def test_intermediates_come_channels_first_or_last(net):
    first = net.forward_intermediates(x := images(64, 96), intermediates_only=True)
    last = net.forward_intermediates(x, output_fmt="NHWC", intermediates_only=True)
    assert last[0].shape == (2, 16, 24, 24)
    assert all(torch.equal(f, t.permute(0, 3, 1, 2)) for f, t in zip(first, last, strict=True))
    with pytest.raises(ValueError, match="got output_fmt 'NLC', expected 'NCHW' or 'NHWC'"):
        net.forward_intermediates(x, output_fmt="NLC")


def test_out_norms_normalize_every_map():
    model = small(out_norms=True).eval()
    for norm in model.out_norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    stages = {}
    for i, stage in enumerate(model.stages):
        watch(stage, stages, i)
    maps = model.forward_intermediates(images(64, 96), intermediates_only=True)
    for i, norm in enumerate(model.out_norms):
        x = stages[i]
        scale = (x.var(1, unbiased=False, keepdim=True) + 1e-5).rsqrt() * norm.weight[:, None, None]
        expected = (x - x.mean(1, keepdim=True)) * scale + norm.bias[:, None, None]
        torch.testing.assert_close(maps[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "shape"), [((7,), (2, 7)), ((0,), (2, 96)), ((0, ""), (2, 2, 3, 96)), ((3, "max"), (2, 3))]
)
def test_classifier_can_be_replaced(net, arguments, shape):
    x = images(64, 96)
    features = net.forward_features(x)
    net.reset_classifier(*arguments)
    assert net.num_classes == arguments[0]
    assert net(x).shape == shape
    assert torch.equal(net.forward_features(x), features)
    if arguments == (0, ""):
        assert torch.equal(net(x), features)


def test_group_matcher_gives_each_block_its_own_group():
    model = create_nano(out_norms=True)
    group = group_parameters(model, model.group_matcher(), reverse=True)
    assert set(group) == {name for name, _ in model.named_parameters()}
    expected = {"stem": 0, "norm": 24, "out_norms": 24, "head": 25}  # timm counts the norm to the last block
    first = 1
    for i, depth in enumerate(NANO.depths):
        expected.update({f"stages.{i}.{name}": first for name in ("downsample", "peg")})
        expected.update({f"stages.{i}.blocks.{j}": first + j for j in range(depth)})
        first += depth
    for prefix, number in expected.items():
        assert {g for name, g in group.items() if name.startswith(f"{prefix}.")} <= {number}, prefix
    assert all(any(name.startswith(f"{prefix}.") for prefix in expected) for name in group)


def test_coarse_group_matcher_gives_each_stage_its_own_group(nano):
    group = group_parameters(nano, nano.group_matcher(coarse=True), reverse=True)
    numbers = {name.partition(".")[0]: number for name, number in group.items() if not name.startswith("stages")}
    assert numbers == {"stem": 0, "norm": 5, "head": 5}
    assert all(number == int(name.split(".")[1]) + 1 for name, number in group.items() if name.startswith("stages"))


def test_layer_decay_scales_every_parameter_once(nano):
    groups = param_groups_layer_decay(nano, layer_decay=0.5)
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(ids) == sorted(id(parameter) for parameter in nano.parameters())
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert scale[id(nano.head.fc.weight)] == 1
    assert scale[id(nano.stem.weight)] == 0.5**25


def test_peg_norms_and_biases_have_no_weight_decay(nano):
    names = {id(parameter): name for name, parameter in nano.named_parameters()}
    groups = param_groups_weight_decay(nano, 0.05, no_weight_decay_list=nano.no_weight_decay())
    decayed = {names[id(p)]: p for group in groups if group["weight_decay"] for p in group["params"]}
    expected = {
        f"{name}.weight"
        for name, module in nano.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and ".peg" not in name
    }
    assert set(decayed) == expected
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_gradient_checkpointing_recomputes_blocks_and_changes_no_gradient():
    model, x = small(), images()
    expected = {name: grad.clone() for name, grad in backward(model, x).items()}
    calls = []
    model.stages[2].blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    for enable, runs in ((True, 2), (False, 1)):
        calls.clear()
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        torch.testing.assert_close(backward(model, x), expected)
        assert len(calls) == runs


# Gradients and ablations.


def without_gradient(model):
    grads = backward(model, images())
    assert grads
    return [name for name, grad in grads.items() if grad is None or not grad.any()]


def test_every_parameter_of_the_classifier_receives_a_gradient():
    assert without_gradient(create_nano()) == []


@pytest.mark.parametrize("out_norms", [False, True])
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (0, 1), (2,)])
def test_every_parameter_of_a_backbone_receives_a_gradient(out_indices, out_norms):
    model = create_model(
        "atmnet_nano", depths=(2, 2, 2, 2), features_only=True, out_indices=out_indices, out_norms=out_norms
    )
    assert without_gradient(model) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"offset_mode": "joint"},
        {"offset_mode": "zero"},
        {"offset_mode": "zero", "peg": False},
        {"num_samples": 3},
        {"offset_mode": "joint", "num_samples": 3},
        {"fusion": "token"},
        {"fusion": "paper"},
        {"channels_per_offset": 1},
        {"num_samples": 3, "channels_per_offset": 1},
        {"peg": False},
        {"drop_rate": 0.1},
    ],
    ids=str,
)
def test_ablations_run_and_train_every_parameter(arguments):
    model = small(**arguments)
    assert without_gradient(model) == []


@pytest.mark.parametrize("arguments", [{"offset_mode": "zero"}, {"fusion": "token"}, {"peg": False}], ids=str)
def test_ablations_change_what_the_same_weights_compute(arguments):
    complete, x = small().double().eval(), images().double()
    ablated = small(**arguments).double().eval()
    unused = ablated.load_state_dict(complete.state_dict(), strict=False)
    assert not unused.missing_keys
    assert not torch.allclose(ablated(x), complete(x), rtol=0, atol=1e-9)


# Offsets and positions.


def test_layers_share_the_offsets_of_their_source(nano):
    seen = {}
    for layer in nano.atm_layers():
        watch(nano.get_submodule(layer.module).hook_offset, seen, layer.name)
    nano(images())
    assert len(seen) == 24
    assert seen["3_18"] is seen["3_13"]
    assert not torch.equal(seen["3_13"], seen["3_7"])
    for layer in nano.atm_layers():
        offset = seen[layer.name]
        assert offset is seen[layer.source]
        assert (layer.channels, layer.num_offsets) == (NANO.dims[LayerId.parse(layer.name).stage - 1], offset.shape[-1])
    assert len({id(offset) for offset in seen.values()}) == 6


@pytest.mark.parametrize(("share", "num_samples"), [(1, 1), (4, 1), (1, 3)])
def test_channels_that_share_an_offset_are_told_by_one_argument(share, num_samples):
    for layer in create_nano(channels_per_offset=share, num_samples=num_samples).atm_layers():
        assert (layer.channels_per_offset, layer.num_offsets) == (share, num_samples * layer.channels // share)
        assert layer.channels == NANO.dims[LayerId.parse(layer.name).stage - 1]


@pytest.mark.parametrize("offset_mode", ["decoupled", "joint", "zero"])
def test_offset_layers_exist_where_offsets_are_generated(offset_mode):
    model = create_nano(offset_mode=offset_mode)
    blocks = [model.get_submodule(layer.module.removesuffix(".token_mixer")) for layer in model.atm_layers()]
    generates = [offset_mode != "zero" and layer.is_source for layer in model.atm_layers()]
    assert [isinstance(block.offset, OffsetLayer) for block in blocks] == generates


def test_atm_layers_of_a_pruned_network_are_those_left(nano):
    nano.prune_intermediate_layers([0, 1])
    assert [layer.name for layer in nano.atm_layers()] == ["1_1", "1_2", "2_1", "2_2"]
    assert all(isinstance(nano.get_submodule(layer.module), ActiveTokenMixer) for layer in nano.atm_layers())


@pytest.mark.parametrize("offset_mode", ["decoupled", "zero"])
def test_peg_comes_before_each_generator_and_nowhere_else(offset_mode):
    stage, calls = create_nano(offset_mode=offset_mode).stages[2], []
    stage.peg.register_forward_hook(lambda *_: calls.append("peg"))
    for i, block in enumerate(stage.blocks):
        block.register_forward_pre_hook(lambda *_, i=i: calls.append(i))
    stage(torch.randn(2, NANO.dims[1], 8, 8))
    assert calls == ["peg", *range(6), "peg", *range(6, 12), "peg", *range(12, 18)]


def test_stage_computes_equations_5_and_6():
    stage = small().double().stages[1]
    for block in stage.blocks:  # a norm with its first weights would change nothing after another norm
        nn.init.normal_(block.norm1.weight)
        nn.init.normal_(block.norm2.weight)
    x = torch.randn(2, 24, 9, 12, dtype=torch.float64)
    actual = stage(x)
    first, second = stage.blocks
    x = stage.downsample(x).permute(0, 2, 3, 1)
    peg = torch.conv2d(x.permute(0, 3, 1, 2), stage.peg.proj.weight, stage.peg.proj.bias, padding=1, groups=48)
    x = x + peg.permute(0, 2, 3, 1)
    offset = first.offset(x)  # of the block's input, not of the normed tokens
    for block in (first, second):
        x = x + block.token_mixer(block.norm1(x), offset)
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(actual, x.permute(0, 3, 1, 2))


# Precision, compilation, devices.


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.002), (torch.bfloat16, 0.02)])
def test_autocast_stays_finite_and_close_to_float32(net, dtype, tolerance):
    expected = net(x := images())
    with torch.autocast("cpu", dtype=dtype):
        actual = net(x)
    assert actual.dtype == dtype
    assert actual.isfinite().all()
    torch.testing.assert_close(actual.float(), expected, rtol=0, atol=tolerance)
    actual.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as torch 2.11's compiler may use deprecated parts
def test_network_compiles_without_graph_breaks(net):
    x = images()
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")  # generated kernels: see the operator's tests
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-2)])
def test_cuda_equals_the_cpu(nano, dtype, tolerance):
    nano, x = nano.to(dtype), images(64, 96).to(dtype)
    expected = nano(x)
    actual = nano.cuda()(x.cuda())
    assert actual.is_cuda
    # Relative to the largest score; convolutions may run in TF32, with a mantissa of 10 bits.
    torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=tolerance * expected.abs().max().item())
