"""Half precision stays half under CUDA's autocast, counted on tensors without values, so no GPU is needed."""

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
    """Collects the operators that write float32 token maps."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32 and out.dim() == 4 and out.shape[1] > 3:
            self.found.append((str(function), tuple(out.shape)))
        return out


def training_forward(network, count):
    """Return bytes kept for the backward pass, and operators that wrote float32 maps."""
    kept, wide = {}, WideMaps()

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (storage.nbytes(), tensor)  # alive: no other storage gets its address
        return tensor

    with FakeTensorMode():
        weights = {n: torch.empty(p.shape, device="cuda", requires_grad=True) for n, p in network.named_parameters()}
        images = torch.empty(count, 3, 224, 224, device="cuda")
        with wide, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            torch.func.functional_call(network, weights, (images,))
    own = {weight.untyped_storage()._cdata for weight in weights.values()}
    return sum(size for address, (size, _) in kept.items() if address not in own), wide.found


@pytest.mark.usefixtures("autocast_on_cuda")
def test_training_on_a_gpu_keeps_at_most_half_of_what_the_released_arrangement_keeps():
    network = timm.create_model("atmnet_tiny").train()
    networks = network, as_baseline(network)
    ours, theirs = (training_forward(net, 2)[0] - training_forward(net, 1)[0] for net in networks)  # of one image
    assert ours / theirs <= 0.5  # 44.1 of 96.5 MB


@pytest.mark.usefixtures("autocast_on_cuda")
def test_no_block_writes_float32_maps_under_autocast():
    network = timm.create_model("atmnet_nano").train()
    _, wide = training_forward(network, 2)
    assert [shape for _, shape in wide] == [(2, 7, 7, 96)]  # the norm after the last block
    assert len(training_forward(as_baseline(network), 2)[1]) > 20  # what the line above would miss


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
