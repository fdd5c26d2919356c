"""The weighted sum of an ATM layer's branches, the last part of Eq. (3).

Legend: B batch, H/W grid in tokens, C channels.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atmviz.ops import cpu
from atmviz.ops.sampling import kernels_take, require_one_device


def weighted_sum(branches: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Add the tokens of all branches, weighted per branch and channel.

    Args:
        branches: Token maps, each [B, H, W, C].
        weights: [B, 1, 1, C, branches], or [B, H, W, C, branches] for weights per token, or another shape that
            broadcasts to it.

    Returns:
        Sums, [B, H, W, C], in the wider of both dtypes; in that of the branches under CUDA's autocast, which computes
        weights in float32 but should not widen maps. One weight per branch and channel is needed for that.

    Raises:
        ValueError: there are no branches, their shapes differ, there is not one weight per branch, or the tensors are
            on two devices.

    Source: Eq. (3).
    """
    shapes = [list(tokens.shape) for tokens in branches]
    if not branches or any(shape != shapes[0] or len(shape) != 4 for shape in shapes):
        raise ValueError(f"got branches {shapes}, expected one or more of one shape [B, H, W, C]")
    if weights.dim() > 5 or weights.shape[-1:] != (len(branches),):
        raise ValueError(f"got weights {list(weights.shape)} for {len(branches)} branches, expected as many at the end")
    require_one_device(weights, *branches)
    batch, _, _, channels = branches[0].shape
    one_for_all_tokens = weights.shape == (batch, 1, 1, channels, len(branches))
    fit = one_for_all_tokens and all(tokens.dtype == branches[0].dtype for tokens in branches)
    if fit and kernels_take(branches[0], weights):
        # One pass over memory. Compiled, the plain lines below would recompute the softmax of `weights` for each token.
        wide = not (weights.is_cuda and torch.is_autocast_enabled("cuda"))
        return _weighted_sum(list(branches), weights.flatten(1, 3), wide)
    out = weights[..., 0] * branches[0]
    for k in range(1, len(branches)):
        out = torch.addcmul(out, weights[..., k], branches[k])
    return out


_on_cpu = partial(torch.library.custom_op, mutates_args=(), device_types="cpu")
_weighted_sum_backward: Any = _on_cpu("atmviz::weighted_sum_backward", cpu.weighted_sum_backward)


@_on_cpu("atmviz::sum_weighted")  # not the name of before `wide`: torch.compile keeps graphs on disk
def _weighted_sum(branches: list[Tensor], weights: Tensor, wide: bool) -> Tensor:
    """Return the sum in the wider dtype of branches and weights, or in that of the branches."""
    out = cpu.weighted_sum(branches, weights)
    return out if wide else out.to(branches[0].dtype)


@_weighted_sum.register_kernel("cuda")
def _(branches: list[Tensor], weights: Tensor, wide: bool) -> Tensor:
    from atmviz.ops import gpu_fusion

    with torch.cuda.device(weights.device):
        return gpu_fusion.weighted_sum(branches, weights, wide)


@_weighted_sum_backward.register_kernel("cuda")
def _(grad: Tensor, branches: list[Tensor], weights: Tensor) -> list[Tensor]:
    from atmviz.ops import gpu_fusion

    with torch.cuda.device(weights.device):
        return gpu_fusion.weighted_sum_backward(grad, branches, weights)


@_weighted_sum.register_fake
def _(branches: list[Tensor], weights: Tensor, wide: bool) -> Tensor:
    dtype = torch.promote_types(branches[0].dtype, weights.dtype) if wide else branches[0].dtype
    return branches[0].new_empty(branches[0].shape, dtype=dtype)


@_weighted_sum_backward.register_fake
def _(grad: Tensor, branches: list[Tensor], weights: Tensor) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (*branches, weights)]


def _save(ctx: Any, inputs: tuple[list[Tensor], Tensor, bool], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[0], inputs[1])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[list[Tensor], Tensor, None]:
    *branches, weights = ctx.saved_tensors
    *grad_branches, grad_weights = _weighted_sum_backward(grad, branches, weights)
    return grad_branches, grad_weights, None


_weighted_sum.register_autograd(_differentiate, setup_context=_save)
