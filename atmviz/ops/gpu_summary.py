# mypy: allow-untyped-defs
"""The Triton kernel of `summarize_offsets`: one pass over the offsets.

A program takes a part of the offsets of one image and axis, and writes its sum, its count of samples outside the map
and its histogram to places of its own. What is added afterwards are whole numbers, and sums in one fixed order: results
are the same in every run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 1024  # offsets that a program reads at once
_TILES = 16  # that a program reads one after another, and more where an image would have too many programs
_MOST_PROGRAMS = 32  # for one image and axis


@triton.jit
def _summarize(
    offset, distance, outside, counts, height, width, offsets, reach, programs, tiles,
    TILE: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    """Bin k counts offsets that round to k - reach; the last bin, of elements that are none, is not read."""
    program = tl.program_id(0)
    part, axis, image = program % programs, (program // programs) % 2, program // programs // 2
    own = offset + image.to(tl.int64) * (height * width * 2 * offsets)
    size = tl.where(axis == 0, width, height)
    lengths = tl.zeros([TILE], tl.float32)
    beyond = tl.zeros([TILE], tl.int32)
    histogram = tl.zeros([BINS], tl.int32)
    for tile in range(part * tiles, (part + 1) * tiles):
        element = tile * TILE + tl.arange(0, TILE)
        token = element // offsets
        exists = token < height * width
        value = tl.load(own + (token * 2 + axis) * offsets + element % offsets, mask=exists, other=0)
        lengths += tl.abs(value)
        value = tl.where(value != value, 0.0, value)  # NaN
        value = tl.minimum(tl.maximum(value, -1.0 * reach), 1.0 * reach)
        low = tl.floor(value)
        nearest, fraction = low.to(tl.int32), value - low
        nearest += ((fraction > 0.5) | ((fraction == 0.5) & (nearest % 2 != 0))).to(tl.int32)  # halves to even
        position = nearest + tl.where(axis == 0, token % width, token // width)
        beyond += (exists & ((position < 0) | (position >= size))).to(tl.int32)
        histogram += tl.histogram(tl.where(exists, nearest + reach, BINS - 1), BINS)
    tl.store(distance + program, tl.sum(lengths))
    tl.store(outside + program, tl.sum(beyond))
    tl.store(counts + program * BINS + tl.arange(0, BINS), histogram)


def summarize(offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `summarize_offsets` of float32 offsets [B, H, W, 2, O]."""
    offset = offset.contiguous()
    batch, height, width, _, offsets = offset.shape
    reach = max(height, width)
    bins = triton.next_power_of_2(2 * reach + 2)
    tiles = triton.cdiv(height * width * offsets, _TILE)  # of one image and axis
    programs = max(1, min(triton.cdiv(tiles, _TILES), _MOST_PROGRAMS))
    rows = batch, 2, programs
    made = offset.new_empty if offset.numel() else offset.new_zeros  # without offsets, no program writes
    distance, outside = made(rows), made(rows, dtype=torch.int32)
    counts = made((*rows, bins), dtype=torch.int32)
    if offset.numel():
        each = triton.cdiv(tiles, programs)
        shape = height, width, offsets, reach, programs, each
        _summarize[(batch * 2 * programs,)](offset, distance, outside, counts, *shape, TILE=_TILE, BINS=bins)
    return distance.double().sum(2), outside.sum(2), counts.sum((0, 2))[:, : 2 * reach + 1]
