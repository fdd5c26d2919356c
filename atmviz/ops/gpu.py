# mypy: allow-untyped-defs
"""The Triton kernels of `sample_along` and of its gradients.

A line is one row (branch "width") or one column (branch "height") of one image; shifts never leave it. A program takes
a few tokens of a line and a few offsets with all channels that share them, so its reads stay in the L1 cache. Each
offset is read once and broadcast to its channels in registers. Only the inputs are kept for the backward pass. No two
programs write the same value, so results are deterministic.

Legend: T tokens and O offsets of one program, S channels sharing an offset. Strides count elements.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from atmviz.ops.cpu import readable

_TOKENS = 16
_CHANNELS = 64


@triton.jit
def _tile(size, offsets, SHARED: tl.constexpr, T: tl.constexpr, O: tl.constexpr, S: tl.constexpr):  # noqa: E741
    """Return tokens [T, 1], offsets [1, O] and channels [1, O, S] of this program, and masks [T, O] and [T, O, S]."""
    blocks = tl.cdiv(offsets, O)
    token = (tl.program_id(0) // blocks) * T + tl.arange(0, T)[:, None]
    o = (tl.program_id(0) % blocks) * O + tl.arange(0, O)[None, :]
    s = tl.arange(0, S)[None, None, :]
    exists = (token < size) & (o < offsets)
    channel_exists = tl.broadcast_to(exists[:, :, None], T, O, S)
    if S != SHARED:  # constant: unmasked channels are loaded as one vector
        channel_exists = channel_exists & (s < SHARED)
    return token, o, o[:, :, None] * SHARED + s, exists, channel_exists


@triton.jit
def _start(batch_stride, line_stride, lines):
    """Return the index of the first element of this program's line."""
    line = tl.program_id(1)
    return (line // lines).to(tl.int64) * batch_stride + (line % lines) * line_stride


@triton.jit
def _position(offset, query, size, REAL: tl.constexpr):
    """Return the position that a query token reads, clamped where reads are zero, so that huge offsets stay finite."""
    position = query + offset.to(REAL)
    position = tl.where(position < -2, -2.0, position)
    return tl.where(position > size + 1, size + 1.0, position)


@triton.jit
def _read(row, index, stride, size, exists, REAL: tl.constexpr):
    """Load the channels of a neighbor; zero outside the line."""
    return tl.load(row + index * stride, mask=exists & (index >= 0) & (index < size), other=0).to(REAL)


@triton.jit
def _forward(
    x, offset, out, x_batch, x_line, x_token, offset_batch, offset_line, offset_token, lines, size, offsets,
    SHARED: tl.constexpr, REAL: tl.constexpr, T: tl.constexpr, O: tl.constexpr, S: tl.constexpr,  # noqa: E741
):  # fmt: skip
    token, o, channel, exists, channel_exists = _tile(size, offsets, SHARED, T, O, S)
    row = _start(x_batch, x_line, lines) + channel
    shift = tl.load(offset + _start(offset_batch, offset_line, lines) + token * offset_token + o, mask=exists, other=0)
    position = _position(shift, token, size, REAL)
    floor = tl.floor(position)
    low = floor.to(tl.int32)[:, :, None]
    fraction = (position - floor)[:, :, None]
    at_low = _read(x + row, low, x_token, size, channel_exists, REAL)
    at_high = _read(x + row, low + 1, x_token, size, channel_exists, REAL)
    value = (1 - fraction) * at_low + fraction * at_high
    tl.store(out + row + token[:, :, None] * x_token, value, mask=channel_exists)


@triton.jit
def _backward_offset(
    x, offset, grad, grad_offset, x_batch, x_line, x_token, offset_batch, offset_line, offset_token,
    out_batch, out_line, out_token, lines, size, offsets,
    SHARED: tl.constexpr, REAL: tl.constexpr, T: tl.constexpr, O: tl.constexpr, S: tl.constexpr,  # noqa: E741
):  # fmt: skip
    """Sum slope between the two neighbors times output gradient over the channels sharing the offset."""
    token, o, channel, exists, channel_exists = _tile(size, offsets, SHARED, T, O, S)
    row = _start(x_batch, x_line, lines) + channel
    shift = tl.load(offset + _start(offset_batch, offset_line, lines) + token * offset_token + o, mask=exists, other=0)
    low = tl.floor(_position(shift, token, size, REAL)).to(tl.int32)[:, :, None]
    at_low = _read(x + row, low, x_token, size, channel_exists, REAL)
    at_high = _read(x + row, low + 1, x_token, size, channel_exists, REAL)
    g = tl.load(grad + row + token[:, :, None] * x_token, mask=channel_exists, other=0).to(REAL)
    slope = tl.sum(g * (at_high - at_low), axis=2)
    tl.store(grad_offset + _start(out_batch, out_line, lines) + token * out_token + o, slope, mask=exists)


@triton.jit
def _backward_x(
    offset, grad, grad_x, x_batch, x_line, x_token, offset_batch, offset_line, offset_token, lines, size, offsets,
    WHOLE: tl.constexpr, SHARED: tl.constexpr, REAL: tl.constexpr, T: tl.constexpr, O: tl.constexpr, S: tl.constexpr,  # noqa: E741
):  # fmt: skip
    """Gather for each token the gradients of the queries that read it; a read at distance d < 1 has weight 1 - d.

    The line's largest offset bounds how far such queries are away; only those are visited.
    """
    token, o, channel, _, channel_exists = _tile(size, offsets, SHARED, T, O, S)
    row = _start(x_batch, x_line, lines) + channel
    shifts = offset + _start(offset_batch, offset_line, lines) + o
    line = tl.arange(0, WHOLE)[:, None]
    all_shifts = tl.load(shifts + line * offset_token, mask=(line < size) & (o < offsets), other=0).to(REAL)
    reach = tl.minimum(tl.max(tl.abs(all_shifts)), size).to(tl.int32) + 1
    first = (tl.program_id(0) // tl.cdiv(offsets, O)) * T
    total = tl.zeros([T, O, S], REAL)
    for query in range(tl.maximum(first - reach, 0), tl.minimum(first + T + reach, size)):
        shift = tl.load(shifts + query * offset_token, mask=o < offsets, other=0)
        weight = 1 - tl.abs(_position(shift, query, size, REAL) - token)
        g = tl.load(grad + row + query * x_token, mask=channel_exists, other=0).to(REAL)
        total += tl.where(weight < 0, 0.0, weight)[:, :, None] * g
    tl.store(grad_x + row + token[:, :, None] * x_token, total, mask=channel_exists)


def forward(x: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Compute `sample_along` of tokens [B, H, W, C] and offsets [B, H, W, O] along axis 1 (H) or 2 (W), unchecked."""
    x, offset = x.contiguous(), readable(offset)
    out = torch.empty_like(x)
    if x.numel():
        grid, shape, tile = _launch(x, offset, axis)
        _forward[grid](x, offset, out, *_strides(x, axis), *_strides(offset, axis), *shape, **tile)
    return out


def backward(grad: Tensor, x: Tensor, offset: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return gradients of x and offset, in their shapes and dtypes, from that of the output, [B, H, W, C]."""
    x, offset, grad = x.contiguous(), readable(offset), grad.contiguous()
    grad_x = torch.empty_like(x)
    grad_offset = torch.empty_like(offset, memory_format=torch.contiguous_format)
    if x.numel():
        grid, shape, tile = _launch(x, offset, axis)
        strides = (*_strides(x, axis), *_strides(offset, axis))
        _backward_offset[grid](x, offset, grad, grad_offset, *strides, *_strides(grad_offset, axis), *shape, **tile)
        whole = triton.next_power_of_2(x.shape[axis])
        _backward_x[grid](offset, grad, grad_x, *strides, *shape, WHOLE=whole, **tile)
    return grad_x, grad_offset


def _strides(tensor: Tensor, axis: int) -> tuple[int, int, int]:
    """Return strides from image to image, line to line, and token to token of a line."""
    return tensor.stride(0), tensor.stride(3 - axis), tensor.stride(axis)


def _launch(x: Tensor, offset: Tensor, axis: int) -> tuple[tuple[int, int], tuple[int, ...], dict]:
    """Return the grid of programs, the sizes of the map, and the tile of one program."""
    lines, size, offsets = x.shape[3 - axis], x.shape[axis], offset.shape[3]
    shared = x.shape[3] // offsets
    tile_shared = triton.next_power_of_2(shared)
    tile_offsets = max(1, min(triton.next_power_of_2(offsets), _CHANNELS // tile_shared))
    wide = torch.float64 in (x.dtype, offset.dtype)
    real = tl.float64 if wide else tl.float32
    tile = {"REAL": real, "SHARED": shared, "T": _TOKENS, "O": tile_offsets, "S": tile_shared}
    grid = (triton.cdiv(size, _TOKENS) * triton.cdiv(offsets, tile_offsets), x.shape[0] * lines)
    return grid, (lines, size, offsets), tile
