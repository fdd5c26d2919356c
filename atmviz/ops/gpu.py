# mypy: allow-untyped-defs
"""The Triton kernels of `sample_along`, Eq. (2), and of its gradients.

A line is one row (branch "width") or one column (branch "height") of one image; shifts never leave it. One program owns
a line, and in it O neighboring offsets with the S channels that share each, so no other program writes what it writes.
Each offset is read once and broadcast to its channels in registers. Programs count in one dimension: the other two end
at 65,535.

The gradient of x adds up, at each token, what the queries that read it send back. Its owner walks the queries of its
line in order and adds to float32 rows of its own, which mostly stay in the L2 cache. There are no atomics: results are
the same bits every time. The work does not depend on how far offsets reach.

Legend: T tokens of a step, O offsets of a program, S channels sharing an offset. Strides count elements.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from atmviz.ops.cpu import readable

_WALKERS = 16  # backward programs that a multiprocessor holds
_NAN = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def _owned(item, lines, offsets, O: tl.constexpr):  # noqa: E741
    """Return image, line and first offset of an item of work; the items of a line follow each other."""
    blocks = tl.cdiv(offsets, O)
    line = item // blocks
    return (line // lines).to(tl.int64), line % lines, (item % blocks) * O


@triton.jit
def _locate(shift, query, size, REAL: tl.constexpr):
    """Return the lower of the two neighbors that a query reads, and how far behind it the position lies, 0 to 1.

    Positions are clamped where reads are zero, so that huge offsets stay finite. A NaN reads NaN, outside the line.
    """
    position = tl.maximum(query + shift.to(REAL), -2.0, _NAN)
    position = tl.minimum(position, size + 1.0, _NAN)
    floor = tl.floor(position)
    return tl.where(floor > -2, floor, -2.0).to(tl.int32), position - floor


@triton.jit
def _read(row, index, stride, size, exists, REAL: tl.constexpr):
    """Load the channels of a neighbor; zero outside the line."""
    return tl.load(row + index * stride, mask=exists & (index >= 0) & (index < size), other=0).to(REAL)


@triton.jit(do_not_specialize=["lines", "size"])
def _forward(
    x, offset, out, x_batch, x_line, x_token, offset_batch, offset_line, offset_token, lines, size, offsets,
    SHARED: tl.constexpr, REAL: tl.constexpr, T: tl.constexpr, O: tl.constexpr, S: tl.constexpr,  # noqa: E741
):  # fmt: skip
    image, line, first = _owned(tl.program_id(0), lines, offsets, O)
    o = first + tl.arange(0, O)[None, :]
    s = tl.arange(0, S)[None, None, :]
    channel = o[:, :, None] * SHARED + s
    start = image * x_batch + line * x_line
    offset += image * offset_batch + line * offset_line
    for step in range(0, size, T):
        token = step + tl.arange(0, T)[:, None]
        exists = tl.broadcast_to((token < size)[:, :, None], T, O, S)
        if S != SHARED:  # constant: unmasked channels are loaded as one vector
            exists = exists & (s < SHARED)
        shift = tl.load(offset + token * offset_token + o, mask=token < size, other=0)
        low, fraction = _locate(shift, token, size, REAL)
        low, fraction = low[:, :, None], fraction[:, :, None]
        at_low = _read(x + start + channel, low, x_token, size, exists, REAL)
        at_high = _read(x + start + channel, low + 1, x_token, size, exists, REAL)
        value = (1 - fraction) * at_low + fraction * at_high
        tl.store(out + start + channel + token[:, :, None] * x_token, value, mask=exists)


@triton.jit
def _clear(rows, count, REAL: tl.constexpr, O: tl.constexpr, S: tl.constexpr):  # noqa: E741
    for row in range(count):
        tl.store(rows + row * (O * S), tl.zeros([O, S], REAL))
    tl.debug_barrier()


@triton.jit(do_not_specialize=["lines", "size", "items"])
def _backward(
    x, offset, grad, grad_x, grad_offset, sums, x_batch, x_line, x_token, offset_batch, offset_line, offset_token,
    out_batch, out_line, out_token, lines, size, offsets, items,
    SHARED: tl.constexpr, REAL: tl.constexpr, O: tl.constexpr, S: tl.constexpr,  # noqa: E741
):  # fmt: skip
    """Walk lines: each query adds its gradient to the rows of both neighbors, and multiplies it by their difference.

    A gradient that is None is left out. `sums` has size + 5 rows of O * S values for each program: the first two and
    the last three take what falls outside the line.
    """
    column = tl.arange(0, O)[:, None] * S + tl.arange(0, S)[None, :]
    rows = sums + tl.program_id(0).to(tl.int64) * (size + 5) * (O * S) + column
    for item in range(tl.program_id(0), items, tl.num_programs(0)):
        image, line, first = _owned(item, lines, offsets, O)
        o = first + tl.arange(0, O)
        s = tl.arange(0, S)[None, :]
        exists = tl.broadcast_to((o < offsets)[:, None], O, S)
        if S != SHARED:
            exists = exists & (s < SHARED)
        start = image * x_batch + line * x_line + o[:, None] * SHARED + s
        shifts = offset + image * offset_batch + line * offset_line + o
        out_start = image * out_batch + line * out_line + o
        if grad_x is not None:
            _clear(rows, size + 5, REAL, O, S)
        shift = tl.load(shifts, mask=o < offsets, other=0)
        g = tl.load(grad + start, mask=exists, other=0).to(REAL)
        for query in range(size):
            more = query + 1 < size  # the next query's values travel while this one's are used
            next_shift = tl.load(shifts + (query + 1) * offset_token, mask=more & (o < offsets), other=0)
            next_g = tl.load(grad + start + (query + 1) * x_token, mask=more & exists, other=0).to(REAL)
            low, fraction = _locate(shift, query, size, REAL)
            low, fraction = low[:, None], fraction[:, None]
            if grad_offset is not None:
                at_low = _read(x + start, low, x_token, size, exists, REAL)
                at_high = _read(x + start, low + 1, x_token, size, exists, REAL)
            if grad_x is not None:
                here = rows + (low + 2) * (O * S)
                sum_low, sum_high = tl.load(here), tl.load(here + O * S)
                tl.store(here, sum_low + (1 - fraction) * g)
                tl.store(here + O * S, sum_high + fraction * g)
                tl.debug_barrier()
            if grad_offset is not None:  # stored last: no load above waits for it
                slope = tl.sum(g * (at_high - at_low), axis=1)
                tl.store(grad_offset + out_start + query * out_token, slope, mask=o < offsets)
            shift, g = next_shift, next_g
        if grad_x is not None:
            for token in range(size):
                tl.store(grad_x + start + token * x_token, tl.load(rows + (token + 2) * (O * S)), mask=exists)
            tl.debug_barrier()


def forward(x: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Compute `sample_along` of tokens [B, H, W, C] and offsets [B, H, W, O] along axis 1 (H) or 2 (W), unchecked."""
    x, offset = x.contiguous(), readable(offset)
    out = torch.empty_like(x)
    if x.numel():
        lines, size, offsets = _sizes(x, offset, axis)
        tile = _forward_tile(size, offsets, x.shape[3] // offsets)
        programs = len(x) * lines * (offsets // tile["O"])
        strides = (*_strides(x, axis), *_strides(offset, axis))
        _forward[(programs,)](x, offset, out, *strides, lines, size, offsets, REAL=_real(x, offset), **tile)
    return out


def backward(
    grad: Tensor, x: Tensor, offset: Tensor, axis: int, learns_x: bool = True, learns_offset: bool = True
) -> list[Tensor]:
    """Return gradients of x, offset or both, in their shapes and dtypes, from that of the output, [B, H, W, C]."""
    x, offset, grad = x.contiguous(), readable(offset), grad.contiguous()
    grad_x = torch.empty_like(x) if learns_x else None
    grad_offset = torch.empty_like(offset, memory_format=torch.contiguous_format) if learns_offset else None
    if x.numel():
        lines, size, offsets = _sizes(x, offset, axis)
        tile, real = _backward_tile(offsets, x.shape[3] // offsets), _real(x, offset)
        items = len(x) * lines * triton.cdiv(offsets, tile["O"])
        dtype = torch.float64 if real == tl.float64 else torch.float32
        values = (size + 5) * tile["O"] * tile["S"]  # in the rows of a program
        programs = min(items, _walkers(x.device, values * dtype.itemsize))
        sums = x.new_empty(programs * values if learns_x else 0, dtype=dtype)
        slopes = offset if grad_offset is None else grad_offset
        strides = (*_strides(x, axis), *_strides(offset, axis), *_strides(slopes, axis))
        tensors = (x, offset, grad, grad_x, grad_offset, sums)
        _backward[(programs,)](*tensors, *strides, lines, size, offsets, items, REAL=real, **tile)
    return [gradient for gradient in (grad_x, grad_offset) if gradient is not None]


def _sizes(x: Tensor, offset: Tensor, axis: int) -> tuple[int, int, int]:
    """Return lines of an image, tokens of a line, and offsets of a token."""
    return x.shape[3 - axis], x.shape[axis], offset.shape[3]


def _strides(tensor: Tensor, axis: int) -> tuple[int, int, int]:
    """Return strides from image to image, line to line, and token to token of a line."""
    return tensor.stride(0), tensor.stride(3 - axis), tensor.stride(axis)


def _real(x: Tensor, offset: Tensor) -> tl.dtype:
    return tl.float64 if torch.float64 in (x.dtype, offset.dtype) else tl.float32


def _forward_tile(size: int, offsets: int, shared: int) -> dict[str, int]:
    """Return what a forward program takes: 64 channels, in offsets that divide all, and 8 values a thread."""
    tile_shared = triton.next_power_of_2(shared)
    tile_offsets = min(offsets & -offsets, max(1, 64 // tile_shared))
    channels = tile_offsets * tile_shared
    tokens = min(16, triton.next_power_of_2(size), max(1, 2048 // channels))
    warps = min(8, max(1, tokens * channels // 256))
    return {"SHARED": shared, "T": tokens, "O": tile_offsets, "S": tile_shared, "num_warps": warps}


def _backward_tile(offsets: int, shared: int) -> dict[str, int]:
    """Return what a backward program takes: an offset a thread, but not more than 128 channels a warp."""
    tile_shared = triton.next_power_of_2(shared)
    tile_offsets = min(32, triton.next_power_of_2(offsets), max(1, 128 // tile_shared))
    warps = min(8, max(1, tile_offsets * tile_shared // 256))
    return {"SHARED": shared, "O": tile_offsets, "S": tile_shared, "num_warps": warps}


def _walkers(device: torch.device, row_bytes: int) -> int:
    """Return how many backward programs run at once, so that their rows stay in three quarters of the L2 cache."""
    if device.type != "cuda":  # Triton's interpreter: each program gets several lines
        return 3
    gpu = torch.cuda.get_device_properties(device)
    most, cached = _WALKERS * gpu.multi_processor_count, gpu.L2_cache_size * 3 // 4 // row_bytes
    return max(gpu.multi_processor_count, min(most, cached))
