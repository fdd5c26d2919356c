"""Half precision stays half under CUDA's autocast, seen on tensors without values, so no GPU is needed."""

import pytest
import timm
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from atmviz.benchmark.model import as_baseline
from atmviz.models.norm import LayerNorm
from atmviz.ops import sampling


@pytest.fixture
def autocast_on_cuda(monkeypatch):
    """What a GPU's network meets; `torch.autocast` itself refuses without a GPU."""
    monkeypatch.setattr(sampling, "has_kernels", lambda device: True)
    torch.set_autocast_enabled("cuda", True)
    yield
    torch.set_autocast_enabled("cuda", False)


class WideMaps(TorchDispatchMode):
    """Collects the shapes of float32 token maps that operators write."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32 and out.dim() == 4 and out.shape[1] > 3:
            self.shapes.append(tuple(out.shape))
        return out


def wide_maps(network):
    """Float32 maps that the forward pass of two images writes."""
    with FakeTensorMode():
        weights = {n: torch.empty(p.shape, device="cuda", requires_grad=True) for n, p in network.named_parameters()}
        images = torch.empty(2, 3, 224, 224, device="cuda")
        with WideMaps() as maps:
            torch.func.functional_call(network, weights, (images,))
    return maps.shapes


@pytest.mark.usefixtures("autocast_on_cuda")
def test_no_block_writes_float32_maps_under_autocast():
    network = timm.create_model("atmnet_nano").train()
    assert wide_maps(network) == [(2, 7, 7, 96)]  # the norm after the last block
    assert len(wide_maps(as_baseline(network))) > 20  # what the line above would miss


def test_elsewhere_the_norm_is_pytorchs():
    x, ours, theirs = torch.randn(3, 6), LayerNorm(6), torch.nn.LayerNorm(6)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.eps == theirs.eps
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert torch.equal(ours(x), theirs(x))
            assert ours(x.bfloat16()).dtype == theirs(x.bfloat16()).dtype


@pytest.mark.gpu
def test_on_a_gpu_half_precision_is_rounded_once():
    x, norm = torch.randn(64, 512, device="cuda") * 30 + 100, LayerNorm(512).cuda()
    exact = torch.nn.functional.layer_norm(x.half().double(), (512,))
    with torch.autocast("cuda", torch.float16):
        torch.testing.assert_close(norm(x).double(), exact, rtol=2**-10, atol=2e-4)
