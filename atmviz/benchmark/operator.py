"""Times one branch of the Active Token Mixer: sampling, Eq. (2), and the fully connected layer after it.

The released code does both with `torchvision.ops.deform_conv2d`: offsets repeated for each channel and doubled with
zeros, channels before positions, and the fully connected layer inside the operator.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets, S = C / O channels per offset.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from atmviz.benchmark.replay import sets_beyond_cache
from atmviz.benchmark.timing import BASELINE, Timing, require_same, time_versions
from atmviz.geometry import map_size
from atmviz.ops import Branch, sample_along
from atmviz.ops.reference import sample_reference
from atmviz.variants import VARIANTS

OFFSET_SPREAD = 1.5  # standard deviation of narrow offsets, tokens

SAMPLING, COPY = "sampling alone", "copy of x"

BranchFunction = Callable[[Tensor, Tensor, Branch, Tensor, Tensor], Tensor]


def sample_by_deform_conv(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    """One branch as in the released code, [B, H, W, C] from x [B, H, W, C] and offset [B, H, W, O].

    `deform_conv2d` does not take bfloat16; the released code computes in float32 under autocast, and so does this.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, offset, weight, bias = (tensor.to(dtype) for tensor in (x, offset, weight, bias))
    return deform_conv2d(
        x.permute(0, 3, 1, 2), _in_two_dimensions(x, offset, branch), weight[:, :, None, None], bias
    ).permute(0, 2, 3, 1)


def _in_two_dimensions(x: Tensor, offset: Tensor, branch: Branch) -> Tensor:
    """Return offsets as `deform_conv2d` takes them, (y, x) for each channel, [B, 2C, H, W]."""
    offset = offset.repeat_interleave(x.shape[-1] // offset.shape[-1], -1).permute(0, 3, 1, 2)
    zeros = torch.zeros_like(offset)
    return torch.stack([zeros, offset] if branch == "width" else [offset, zeros], 2).flatten(1, 2)


@dataclass(frozen=True)
class _Task:
    """A computation on one set of tensors, with what learns in training.

    Attributes:
        run: Computes the output.
        leaves: Tensors whose gradients training needs.
        grad: Gradient of the output, in its shape and dtype.
    """

    run: Callable[[], Tensor]
    leaves: Sequence[Tensor]
    grad: Tensor

    def infer(self) -> Tensor:
        with torch.no_grad():
            return self.run()

    def train(self) -> tuple[Tensor, ...]:
        """Return the output and the gradients of all leaves."""
        out = self.run()
        return out, *torch.autograd.grad(out, self.leaves, self.grad, allow_unused=True)


@dataclass(frozen=True)
class _Tensors:
    """What one call works on: x [B, H, W, C], offset [B, H, W, O], weight [C, C], bias [C], and the output's gradient.

    Attributes:
        branch: "width" or "height".
    """

    branch: Branch
    x: Tensor
    offset: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor

    def whole(self, function: BranchFunction) -> _Task:
        """A branch: sampling and its linear layer."""
        dtype = torch.promote_types(self.x.dtype, torch.float32) if function is sample_by_deform_conv else self.x.dtype
        run = partial(function, self.x, self.offset, self.branch, self.weight, self.bias)
        return _Task(run, (self.x, self.offset, self.weight, self.bias), self.grad.to(dtype))

    def sampling(self) -> _Task:
        """Sampling alone."""
        return _Task(partial(sample_along, self.x, self.offset, self.branch), (self.x, self.offset), self.grad)

    def sampling_by_deform_conv(self) -> _Task:
        """Sampling alone by `deform_conv2d`, all that it needs prepared: channels first, offsets stacked, weights 1.

        In float16 for half precision, in which torchvision computes positions too, so values differ. CPUs lack it.
        """
        x, offset, grad = (tensor.detach().to(self._torchvision_dtype) for tensor in (self.x, self.offset, self.grad))
        maps, grad = (tensor.permute(0, 3, 1, 2).contiguous() for tensor in (x, grad))
        leaves = maps.requires_grad_(), _in_two_dimensions(x, offset, self.branch).requires_grad_()
        return _Task(partial(deform_conv2d, *leaves, maps.new_ones(maps.shape[1], 1, 1, 1)), leaves, grad)

    def sampling_by_deform_conv1d(self) -> _Task:
        """The same by `tvdcn.deform_conv1d`, which takes lines [B, C, W]."""
        from tvdcn import deform_conv1d

        order = (0, 1, 3, 2) if self.branch == "width" else (0, 2, 3, 1)
        tensors = (tensor.detach().to(self._torchvision_dtype) for tensor in (self.x, self.offset, self.grad))
        lines, shifts, grad = (tensor.permute(order).flatten(0, 1).contiguous() for tensor in tensors)
        leaves = lines.requires_grad_(), shifts.requires_grad_()
        ones = lines.new_ones(lines.shape[1], 1, 1)
        return _Task(lambda: deform_conv1d(lines, ones, shifts, groups=len(ones)), leaves, grad)

    @property
    def _torchvision_dtype(self) -> torch.dtype:
        half = torch.float16 if self.x.is_cuda else torch.float32
        return self.x.dtype if self.x.dtype in (torch.float32, torch.float64) else half

    def linear(self) -> _Task:
        """The linear layer alone."""
        leaves = self.x, self.weight, self.bias
        return _Task(partial(F.linear, *leaves), leaves, self.grad)

    def copy(self) -> _Task:
        """A copy of x; it has no training."""
        return _Task(self.x.clone, (), self.grad)


def _sample_then_linear(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(sample_along(x, offset, branch), weight, bias)


def _reference_then_linear(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(sample_reference(x, offset, 2 if branch == "width" else 1), weight, bias)


def benchmark_operator(
    model: str,
    size: tuple[int, int],
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int = 15,
    *,
    wide: bool = False,
) -> Iterator[Timing]:
    """Time one branch on the maps of each stage, forward and forward + backward.

    Args:
        model, size, batch_size: Variant, input height and width in px, and images that give the maps.
        dtype, device: Dtype and device of all tensors.
        rounds: Timed calls of each version.
        wide: Offsets to any token of the line, each as likely, instead of 1.5 tokens (standard deviation).

    Raises:
        AtmvizError: the versions differ on the tensors timed.
    """
    variant = VARIANTS[model]
    for stage, (dim, num_offsets) in enumerate(zip(variant.dims, variant.num_offsets, strict=True), start=1):
        shape = (batch_size, *map_size(size, 2 ** (stage + 1)), dim)
        branches: tuple[Branch, Branch] = ("width", "height")
        for branch in branches:
            first = _draw(shape, num_offsets, branch, dtype, device, wide)
            others = range(1, sets_beyond_cache([first.x, first.offset]))
            sets = [first, *(_draw(shape, num_offsets, branch, dtype, device, wide) for _ in others)]
            yield from _time_branch(sets, wide, rounds)


def _draw(
    shape: tuple[int, ...], num_offsets: int, branch: Branch, dtype: torch.dtype, device: torch.device, wide: bool
) -> _Tensors:
    """Draw tensors for maps [B, H, W, C]; offsets are views of those of both branches, as the mixer passes them."""
    dim, side = shape[-1], shape[2 if branch == "width" else 1]
    x, grad = (torch.randn(shape, device=device).to(dtype) for _ in range(2))
    offsets = OFFSET_SPREAD * torch.randn(*shape[:3], 2, num_offsets, device=device)
    if wide:
        own = torch.arange(side, device=device).view((-1, 1, 1) if branch == "width" else (-1, 1, 1, 1))
        offsets = (side - 1) * torch.rand_like(offsets) - own
    offset = offsets.to(dtype)[..., 0 if branch == "width" else 1, :]
    weight, bias = (torch.randn(*s, device=device).to(dtype) / dim**0.5 for s in ((dim, dim), (dim,)))
    for tensor in (x, offset, weight, bias):
        tensor.requires_grad_()
    return _Tensors(branch, x, offset, weight, bias, grad)


def _time_branch(sets: Sequence[_Tensors], wide: bool, rounds: int) -> Iterator[Timing]:
    """Time one branch; results must agree on the first set."""
    torch.compiler.reset()  # the compiler gives up after eight shapes
    branches: dict[str, BranchFunction] = {
        BASELINE: sample_by_deform_conv,
        "eager": _sample_then_linear,
        "compiled": torch.compile(_sample_then_linear),
        "reference compiled": torch.compile(_reference_then_linear),
    }
    require_same({name: sets[0].whole(function).train() for name, function in branches.items()})
    versions: dict[str, list[_Task]] = {
        **{name: [each.whole(function) for each in sets] for name, function in branches.items()},
        "linear alone": [each.linear() for each in sets],
        SAMPLING: [each.sampling() for each in sets],
        "deform_conv2d alone, best layout": [each.sampling_by_deform_conv() for each in sets],
    }
    if find_spec("tvdcn"):
        versions["tvdcn.deform_conv1d alone"] = [each.sampling_by_deform_conv1d() for each in sets]
    x, offset = sets[0].x, sets[0].offset
    sizes, shared = "×".join(map(str, x.shape)), x.shape[-1] // offset.shape[-1]
    case = f"{sets[0].branch} {sizes}, S = {shared}, {str(x.dtype).removeprefix('torch.')}"
    case += ", offsets to any token" if wide else ""
    forward = {name: [task.infer for task in tasks] for name, tasks in versions.items()}
    forward[COPY] = [each.copy().infer for each in sets]
    steps = {name: [task.train for task in tasks] for name, tasks in versions.items()}
    for operation, calls in (("forward", forward), ("forward + backward", steps)):
        firsts = {name: several[0] for name, several in calls.items()}
        rows = time_versions(operation, case, firsts, rounds, x.device, rotated=calls)
        yield from _with_bandwidth(rows, x, offset)


def _with_bandwidth(rows: list[Timing], x: Tensor, offset: Tensor) -> list[Timing]:
    """Say how fast sampling moves what it must, beside a copy of x.

    Forward reads x and the offsets and writes x. Backward reads both and a gradient, and writes two.
    """
    is_forward = rows[0].operation == "forward"
    sampled = 2 * x.nbytes + offset.nbytes + (0 if is_forward else 3 * x.nbytes + 2 * offset.nbytes)
    moved = {SAMPLING: sampled, COPY: 2 * x.nbytes}
    rate = {
        row.version: moved[row.version] / (1e3 * (row.gpu_us or 1e3 * row.milliseconds))
        for row in rows
        if row.version in moved
    }
    return [
        replace(
            row,
            gb_per_s=rate.get(row.version),
            copy_fraction=rate[SAMPLING] / rate[COPY] if is_forward and row.version == SAMPLING else None,
        )
        for row in rows
    ]
