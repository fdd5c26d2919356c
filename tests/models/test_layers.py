"""The channel MLP beside timm's, and the switch between fused and plain layers."""

import pytest
import timm
import torch
from timm.layers import Mlp

import atmviz.models.token_mixer
from atmviz.models import set_fused
from atmviz.models.layers import ChannelMLP


def test_channel_mlp_computes_and_learns_as_timms():
    ours = ChannelMLP(6, 24).double()
    timms = Mlp(6, 24).double()
    timms.load_state_dict(ours.state_dict())
    x, grad = (torch.randn(2, 3, 4, 6, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    assert torch.equal(ours(x), timms(x))
    for one, other in zip(
        torch.autograd.grad(ours(x), [x, *ours.parameters()], grad),
        torch.autograd.grad(timms(x), [x, *timms.parameters()], grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_channel_mlp_calls_what_stands_in_a_layers_place(layer):
    class Twice(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    mlp = ChannelMLP(6, 24)
    getattr(mlp, layer).__class__ = Twice
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(mlp(x), Mlp.forward(mlp, x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_channel_mlp_keeps_half_of_its_widest_tensors(dtype):
    def kept(mlp, x):
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        autocast = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
            out = mlp(x)
        out.float().sum().backward()
        return sum(sizes.values())

    x = torch.randn(64, 8, 8, 16, requires_grad=True)
    wide = 64 * 8 * 8 * 64 * dtype.itemsize
    ours, timms = ChannelMLP(16, 64), Mlp(16, 64)
    assert kept(ours, x) == pytest.approx(kept(timms, x) - wide, rel=0.01)
    assert ours.fc2.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("fused", [True, False])
def test_the_switch_chooses_between_our_operators_and_pytorchs_alone(monkeypatch, fused):
    called = []
    for name in ("layers.channel_mlp", "token_mixer.weighted_sum"):
        module, function = name.split(".")
        original = getattr(getattr(atmviz.models, module), function)
        monkeypatch.setattr(
            f"atmviz.models.{name}", lambda *args, name=name, run=original: (called.append(name), run(*args))[1]
        )
    network, images = timm.create_model("atmnet_nano", depths=(2, 2, 2, 2)).eval(), torch.randn(2, 3, 64, 64)
    expected = network(images)
    called.clear()
    set_fused(network, fused)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert {name: called.count(name) for name in called} == (
        {"layers.channel_mlp": 8, "token_mixer.weighted_sum": 8} if fused else {}
    )
