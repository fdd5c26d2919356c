"""Bytes of one training step on a GPU, counted without one: fake tensors run every call under CUDA's autocast."""

from dataclasses import dataclass
from itertools import zip_longest
from math import prod

import pytest
import timm
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import atmviz.models  # noqa: F401
from atmviz.benchmark.model import as_baseline

MLP, DEFORM = torch.ops.atmviz, torch.ops.torchvision


def inside(call, args):
    """Bytes that a call moves between the kernels that it consists of, counted by hand from its source."""
    if call is MLP.channel_mlp.default:  # GELU reads the hidden activations; its output is written and read
        x, hidden = args[0], args[1].shape[0]
        return 3 * len(x) * hidden * x.itemsize
    if call is MLP.channel_mlp_backward.default:  # nine more passes over hidden activations, two over the gradient
        grad, _, hidden = args[:3]
        return 9 * hidden.nbytes + 2 * grad.nbytes
    # torchvision, in float32: columns filled with zeros, written and read, three more taps, buffers of the output; in
    # the backward pass also atomic additions. At least this much:
    if call is DEFORM.deform_conv2d.default:
        return 48 * prod(args[0].shape)
    if call is DEFORM._deform_conv2d_backward.default:
        return 84 * prod(args[1].shape)
    return 0


class Traffic(TorchDispatchMode):
    """Adds up what each call reads and writes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        out = call(*args, **(kwargs or {}))
        if not (call.is_view or call in (torch.ops.aten.detach.default, torch.ops.prim.device.default)):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.nbytes for tensor in tensors) + inside(call, args)
        return out


def backward(loss):
    """Do the backward pass node by node: PyTorch's engine asks the device of a tensor for a stream."""
    uses, nodes = {}, [loss.grad_fn]
    for node in nodes:  # grows meanwhile
        for source, _ in node.next_functions:
            if source is not None:
                if source not in uses:
                    nodes.append(source)
                uses[source] = uses.get(source, 0) + 1
    gradients, ready = {loss.grad_fn: {0: torch.ones_like(loss)}}, [loss.grad_fn]
    while ready:
        node = ready.pop()
        given = gradients.pop(node, {})
        if not node.next_functions:
            continue  # a parameter
        outputs = len(node._input_metadata)
        results = getattr(node, "apply", node)(*(given.get(k) for k in range(outputs))) if given else ()
        results = results if isinstance(results, tuple) else (results,)
        for (source, k), gradient in zip_longest(node.next_functions, results[: len(node.next_functions)]):
            if source is None:
                continue
            if gradient is not None:
                here, wanted = gradients.setdefault(source, {}), source._input_metadata[k]
                if gradient.shape != wanted.shape:  # of a tensor that was expanded
                    gradient = gradient.sum_to_size(wanted.shape)
                here[k] = here[k] + gradient if k in here else gradient
            uses[source] -= 1
            if not uses[source]:
                ready.append(source)


@dataclass
class Step:
    """Bytes that a training step keeps for its backward pass, and bytes that it reads and writes."""

    kept: int
    moved: int


def step_of(network):
    """Forward, loss and backward of 128 images of 224 px in float16 by autocast."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True), Traffic() as traffic:
        network = network.to_empty(device="cuda")
        images = torch.empty(128, 3, 224, 224, device="cuda")
        traffic.bytes = 0
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = network(images).float().logsumexp(-1).mean()
        own = {tensor.untyped_storage()._cdata for tensor in network.parameters()}
        kept = sum(storage.nbytes() for key, storage in storages.items() if key not in own)
        backward(loss)
    return Step(kept, traffic.bytes)


@pytest.fixture
def half_precision():
    """CUDA's autocast, which `torch.autocast` turns off where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.float16)
    yield
    torch.set_autocast_enabled("cuda", before[0])
    torch.set_autocast_dtype("cuda", before[1])
    torch.clear_autocast_cache()


@pytest.mark.parametrize("model", ["atmnet_tiny", "atmnet_large"])
def test_a_training_step_on_a_gpu_keeps_and_moves_far_less_than_the_released_arrangement(half_precision, model):
    with torch.device("meta"):
        network = timm.create_model(model).train()
    released = step_of(as_baseline(network))
    ours = step_of(network)
    assert ours.kept / released.kept <= 0.61  # T: 7.47 of 12.39 GB
    assert ours.moved / released.moved <= 0.56  # T: 106.5 of 193.6 GB
