"""Times one branch of the Active Token Mixer: sampling, Eq. (2), and the fully connected layer after it.

The released code does both with `torchvision.ops.deform_conv2d`: offsets repeated for each channel and doubled with
zeros, channels before positions, and the fully connected layer inside the operator.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from atmviz.benchmark.timing import BASELINE, Timing, require_same, time_versions
from atmviz.geometry import map_size
from atmviz.ops import Branch, sample_along
from atmviz.variants import VARIANTS

OFFSET_SPREAD = 1.5  # standard deviation of the offsets, tokens

BranchFunction = Callable[[Tensor, Tensor, Branch, Tensor, Tensor], Tensor]


def sample_by_deform_conv(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    """One branch as in the released code, [B, H, W, C] from x [B, H, W, C] and offset [B, H, W, O].

    `deform_conv2d` does not take bfloat16; the released code computes in float32 under autocast, and so does this.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, offset, weight, bias = (tensor.to(dtype) for tensor in (x, offset, weight, bias))
    offset = offset.repeat_interleave(x.shape[-1] // offset.shape[-1], -1).permute(0, 3, 1, 2)
    zeros = torch.zeros_like(offset)
    yx = torch.stack([zeros, offset] if branch == "width" else [offset, zeros], 2).flatten(1, 2)
    return deform_conv2d(x.permute(0, 3, 1, 2), yx, weight[:, :, None, None], bias).permute(0, 2, 3, 1)


def _sample_then_linear(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(sample_along(x, offset, branch), weight, bias)


def benchmark_operator(
    model: str, size: tuple[int, int], batch_size: int, dtype: torch.dtype, device: torch.device, rounds: int = 15
) -> Iterator[Timing]:
    """Time one branch on the maps of each stage, forward and forward + backward.

    Args:
        model, size, batch_size: Variant, input height and width in px, and images that give the maps.
        dtype, device: Dtype and device of all tensors.
        rounds: Timed calls of each version.

    Raises:
        AtmvizError: the versions differ on the tensors timed.
    """
    variant = VARIANTS[model]
    for stage, (dim, num_offsets) in enumerate(zip(variant.dims, variant.num_offsets, strict=True), start=1):
        shape = (batch_size, *map_size(size, 2 ** (stage + 1)), dim)
        x, grad = (torch.randn(shape, device=device).to(dtype) for _ in range(2))
        offsets = (OFFSET_SPREAD * torch.randn(*shape[:3], 2, num_offsets, device=device)).to(dtype)
        weight, bias = (torch.randn(*s, device=device).to(dtype) / dim**0.5 for s in ((dim, dim), (dim,)))
        for tensor in (x, offsets, weight, bias):
            tensor.requires_grad_()
        branches: tuple[Branch, Branch] = ("width", "height")
        for offset, branch in zip(offsets.unbind(3), branches, strict=True):  # views, as the mixer passes them
            offset = offset.detach().requires_grad_()
            yield from _time_branch([x, offset, weight, bias], branch, grad, rounds)


def _time_branch(tensors: Sequence[Tensor], branch: Branch, grad: Tensor, rounds: int) -> Iterator[Timing]:
    """Time one branch, from x [B, H, W, C], offset [B, H, W, O], weight [C, C], bias [C], and the output's gradient."""
    x, offset, weight, bias = tensors
    inputs = x, offset, branch, weight, bias

    def train(function: BranchFunction) -> tuple[Tensor, ...]:
        """Return the output and the gradients of all tensors."""
        out = function(*inputs)
        return out, *torch.autograd.grad(out, tensors, grad.to(out.dtype), allow_unused=True)

    torch.compiler.reset()  # the compiler gives up after eight shapes
    versions: dict[str, BranchFunction] = {
        BASELINE: sample_by_deform_conv,
        "eager": _sample_then_linear,
        "compiled": torch.compile(_sample_then_linear),
    }
    require_same({name: train(function) for name, function in versions.items()})
    versions["linear alone"] = lambda x, offset, branch, weight, bias: F.linear(x, weight, bias)
    forward_only: dict[str, BranchFunction] = {
        "sampling alone": lambda x, offset, branch, *_: sample_along(x, offset, branch),
        "copy of x": lambda x, *_: x.clone(),
    }
    sizes, shared = "×".join(map(str, x.shape)), x.shape[-1] // offset.shape[-1]
    case = f"{branch} {sizes}, S = {shared}, {str(x.dtype).removeprefix('torch.')}"
    with torch.no_grad():
        calls = {name: partial(function, *inputs) for name, function in (versions | forward_only).items()}
        yield from _with_copy_fraction(time_versions("forward", case, calls, rounds, x.device), x, offset)
    steps = {name: partial(train, function) for name, function in versions.items()}
    yield from time_versions("forward + backward", case, steps, rounds, x.device)


def _with_copy_fraction(timings: list[Timing], x: Tensor, offset: Tensor) -> list[Timing]:
    """Compare the bandwidth of sampling, which reads x and the offsets and writes x, with that of a copy of x."""
    times = {timing.version: timing.milliseconds for timing in timings}
    copied = 2 * x.nbytes
    fraction = ((copied + offset.nbytes) / times["sampling alone"]) / (copied / times["copy of x"])
    return [replace(row, copy_fraction=fraction) if row.version == "sampling alone" else row for row in timings]
