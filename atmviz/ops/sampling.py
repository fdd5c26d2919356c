"""One-axis sampling, Eq. (2), and the choice between its CPU, GPU and reference versions.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets, S = C / O channels per offset.
"""

import sys
from functools import partial
from importlib.util import find_spec
from itertools import compress
from typing import Any, Literal

import torch
from torch import Tensor

from atmviz.ops import cpu
from atmviz.ops.reference import sample_reference

Branch = Literal["width", "height"]
_AXIS: dict[Branch, int] = {"height": 1, "width": 2}


def sample_along(x: Tensor, offset: Tensor, branch: Branch) -> Tensor:
    """Read each channel of each token from another token of the same row or column, Eq. (2).

    Args:
        x: Feature map, [B, H, W, C], any floating dtype and strides.
        offset: Distance to the token that is read, in tokens, [B, H, W, O]: positive to the right or down, unbounded.
            Offset k serves the S channels from k*S to k*S + S - 1 and is not repeated in memory.
        branch: "width" reads along W, "height" along H.

    Returns:
        The tokens read, [B, H, W, C], in the dtype of x. Between two tokens, x is interpolated linearly; outside the
        map it is zero. Positions and weights are computed in float32 or wider, so half-precision features keep exact
        positions.

    Raises:
        ValueError: the shapes do not fit, O does not divide C, a dtype is not floating, the tensors are on two devices,
            or the branch is unknown.

    Source: Eq. (2), Sec. 3.2. The released code does this with `torchvision.ops.deform_conv2d`.
    """
    if x.dim() != 4 or offset.dim() != 4 or x.shape[:3] != offset.shape[:3]:
        raise ValueError(
            f"got features {list(x.shape)} and offsets {list(offset.shape)}, expected [B, H, W, C] and [B, H, W, O]"
        )
    if not offset.shape[3] or x.shape[3] % offset.shape[3]:
        raise ValueError(f"got {offset.shape[3]} offsets for {x.shape[3]} channels, expected a divisor")
    if not x.is_floating_point() or not offset.is_floating_point():
        raise ValueError(f"got features in {x.dtype} and offsets in {offset.dtype}, expected floating dtypes")
    require_one_device(x, offset)
    if branch not in _AXIS:
        raise ValueError(f"got branch {branch!r}, expected one of {', '.join(_AXIS)}")

    axis = _AXIS[branch]
    if kernels_take(x, offset):
        return _sample(x, offset, axis)
    return sample_reference(x, offset, axis)


def require_one_device(first: Tensor, *others: Tensor) -> None:
    """Check that all tensors are on one device, because kernels get bare addresses.

    Raises:
        ValueError: the tensors are on two devices.
    """
    for other in others:
        if other.device != first.device:
            raise ValueError(f"got tensors on {first.device} and {other.device}, expected one device: move one of them")


def kernels_take(*tensors: Tensor) -> bool:
    """Whether the first tensor's device has kernels for these tensors: real numbers, and no export under way."""
    real = all(tensor.is_floating_point() for tensor in tensors)
    return real and has_kernels(tensors[0].device.type) and not torch.compiler.is_exporting()


@torch.compiler.assume_constant_result
def has_kernels(device_type: str) -> bool:
    """Whether kernels for this type of device are available; other devices use the reference."""
    if device_type == "cpu":
        return cpu.library() is not None
    return device_type == "cuda" and (find_spec("triton") is not None or "triton" in sys.modules)


_on_cpu = partial(torch.library.custom_op, mutates_args=(), device_types="cpu")
_sample: Any = _on_cpu("atmviz::sample_along", cpu.forward)


@_on_cpu("atmviz::sample_along_backward")
def _sample_backward(
    grad: Tensor, x: Tensor, offset: Tensor, axis: int, learns_x: bool = True, learns_offset: bool = True
) -> list[Tensor]:
    """Return the gradients that are asked for, that of x first; both for graphs in torch.compile's cache on disk."""
    return list(compress(cpu.backward(grad, x, offset, axis), (learns_x, learns_offset)))


@_sample.register_kernel("cuda")
def _(x: Tensor, offset: Tensor, axis: int) -> Tensor:
    from atmviz.ops import gpu

    with torch.cuda.device(x.device):
        return gpu.forward(x, offset, axis)


@_sample_backward.register_kernel("cuda")
def _(
    grad: Tensor, x: Tensor, offset: Tensor, axis: int, learns_x: bool = True, learns_offset: bool = True
) -> list[Tensor]:
    from atmviz.ops import gpu

    with torch.cuda.device(x.device):
        return gpu.backward(grad, x, offset, axis, learns_x, learns_offset)


@_sample.register_fake
def _(x: Tensor, offset: Tensor, axis: int) -> Tensor:
    return x.new_empty(x.shape)


@_sample_backward.register_fake
def _(
    grad: Tensor, x: Tensor, offset: Tensor, axis: int, learns_x: bool = True, learns_offset: bool = True
) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in compress((x, offset), (learns_x, learns_offset))]


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    x, offset, ctx.axis = inputs
    ctx.save_for_backward(x, offset)  # recomputing positions and weights is cheaper than keeping them


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    learns_x, learns_offset, _ = ctx.needs_input_grad
    gradients = iter(_sample_backward(grad, *ctx.saved_tensors, ctx.axis, learns_x, learns_offset))
    return next(gradients) if learns_x else None, next(gradients) if learns_offset else None, None


_sample.register_autograd(_differentiate, setup_context=_save)
