"""The channel MLP, computed in chunks of tokens so that hidden activations stay in the cache and are not kept.

Legend: N tokens, C channels in, P channels out, D hidden channels (mostly 4 C).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from atmviz.ops import cpu
from atmviz.ops.sampling import has_kernels, require_one_device

# Chunk size in tokens: hidden activations fit the CPU cache, matrix products stay efficient. A GPU takes all at once.
_TOKENS_TOGETHER = 2048


def channel_mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Apply two fully connected layers with a GELU between, which the backward pass recomputes instead of keeping it.

    Args:
        x: Tokens, [..., C], on a CPU or CUDA.
        weight1, bias1: Parameters of the first layer, [D, C] and [D].
        weight2, bias2: Parameters of the second layer, [P, D] and [P].

    Returns:
        Tokens, [..., P], in autocast's dtype, else that of x.

    Raises:
        ValueError: the tensors are on two devices.

    Source: Eq. (6).
    """
    tensors = [x, weight1, bias1, weight2, bias2]
    require_one_device(*tensors)
    if x.is_cuda and torch.compiler.is_compiling():
        # Inductor fuses GELU and its gradient with what is around them, and keeps the same hidden activations.
        return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)
    if torch.is_autocast_enabled(x.device.type):
        tensors = [tensor.to(torch.get_autocast_dtype(x.device.type)) for tensor in tensors]
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    out, _ = _mlp(tensors[0].reshape(-1, x.shape[-1]), *tensors[1:], learns)
    return out.reshape(*x.shape[:-1], len(weight2))


@torch.library.custom_op("atmviz::channel_mlp", mutates_args=())
def _mlp(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    """Return tokens [N, P], and the hidden activations before the GELU, [N, D] (none unless `keep`), from [N, C]."""
    rows = _rows_together(x)
    hidden = x.new_empty(len(x) if keep else 0, len(weight1))
    activated, out = x.new_empty(rows, len(weight1)), x.new_empty(len(x), len(weight2))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        tokens = x[part]
        buffer = activated[: len(tokens)]
        before = torch.addmm(bias1, tokens, weight1.T, out=hidden[part] if keep else buffer)
        torch.addmm(bias2, torch.ops.aten.gelu.out(before, out=buffer), weight2.T, out=out[part])
    return out, hidden


@torch.library.custom_op("atmviz::channel_mlp_backward", mutates_args=())
def _mlp_backward(
    grad: Tensor, x: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of x and of both layers' weights and biases, from that of the output, [N, P]."""
    rows = _rows_together(x)
    grad_x, grad_weight1, grad_weight2 = (torch.empty_like(tensor) for tensor in (x, weight1, weight2))
    grad_bias1, grad_bias2 = (weight.new_zeros(len(weight)) for weight in (weight1, weight2))
    buffers = [x.new_empty(rows, len(weight1)) for _ in range(2)]
    for start in range(0, max(1, len(x)), rows):  # once even without tokens, so that the gradients become zeros
        part = slice(start, start + rows)
        tokens, before, slope = x[part], hidden[part], grad[part]
        activated, grad_before = (buffer[: len(tokens)] for buffer in buffers)
        torch.mm(slope, weight2, out=grad_before)
        _gelu_with_gradient(before, grad_before, activated)
        so_far = 1 if start else 0
        grad_weight2.addmm_(slope.T, activated, beta=so_far)
        grad_weight1.addmm_(grad_before.T, tokens, beta=so_far)
        grad_bias2 += slope.sum(0)
        grad_bias1 += grad_before.sum(0)
        torch.mm(grad_before, weight1, out=grad_x[part])
    return grad_x, grad_weight1, grad_bias1, grad_weight2, grad_bias2


def _gelu_with_gradient(x: Tensor, grad: Tensor, out: Tensor) -> None:
    """Fill `out` with GELU(x) and turn `grad`, its gradient, into that of x."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and has_kernels("cpu"):
        cpu.gelu_with_gradient(x, grad, out)
    else:
        torch.ops.aten.gelu.out(x, out=out)
        torch.ops.aten.gelu_backward.grad_input(grad, x, grad_input=grad)


def _rows_together(x: Tensor) -> int:
    return max(1, min(len(x), _TOKENS_TOGETHER) if x.device.type == "cpu" else len(x))


@_mlp.register_fake
def _(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], weight2.shape[0]), x.new_empty(x.shape[0] if keep else 0, weight1.shape[0])


@_mlp_backward.register_fake
def _(
    grad: Tensor, x: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    biases = (weight.new_empty(weight.shape[0]) for weight in (weight1, weight2))
    return torch.empty_like(x), torch.empty_like(weight1), next(biases), torch.empty_like(weight2), next(biases)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight1, _, weight2, _, _ = inputs
    ctx.save_for_backward(x, output[1], weight1, weight2)
    ctx.set_materialize_grads(False)  # the hidden activations have no gradient


def _differentiate(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    return *_mlp_backward(grad.contiguous(), *ctx.saved_tensors), None


_mlp.register_autograd(_differentiate, setup_context=_save)


@register_flop_formula(torch.ops.atmviz.channel_mlp)
def _count_flops(
    x: torch.Size, weight1: torch.Size, bias1: torch.Size, weight2: torch.Size, *_: Any, **kwargs: Any
) -> int:
    """Count two operations per multiply-accumulate, as PyTorch does."""
    return 2 * x[0] * (weight1.numel() + weight2.numel())


@register_flop_formula(torch.ops.atmviz.channel_mlp_backward)
def _count_flops_backward(
    grad: torch.Size, x: torch.Size, hidden: torch.Size, weight1: torch.Size, weight2: torch.Size, **kwargs: Any
) -> int:
    return 4 * x[0] * (weight1.numel() + weight2.numel())
