# mypy: allow-untyped-defs
"""The Triton kernels of `weighted_sum`, Eq. (3), and of its gradients.

They read and write each value once, in its own dtype, and compute in float32 or wider. A program takes T tokens of one
image and C of its channels. The gradient of the weights is a sum over all tokens of an image: each program adds up its
own tokens, and PyTorch the programs. No two programs write the same value, so results are deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _place(tokens, channels, T: tl.constexpr, C: tl.constexpr):
    """Return this program's image, run of tokens and channels, the values' indices [T, C], and which of both exist."""
    blocks, runs = tl.cdiv(channels, C), tl.cdiv(tokens, T)
    channel = (tl.program_id(0) % blocks) * C + tl.arange(0, C)
    run = (tl.program_id(0) // blocks) % runs
    image = (tl.program_id(0) // (blocks * runs)).to(tl.int64)
    token = run * T + tl.arange(0, T)
    at = image * tokens * channels + token[:, None] * channels + channel[None, :]
    return image, run, channel, at, channel < channels, (token < tokens)[:, None] & (channel < channels)[None, :]


@triton.jit(do_not_specialize=["tokens"])
def _forward(branches, weights, out, tokens, channels, REAL: tl.constexpr, T: tl.constexpr, C: tl.constexpr):
    """Add the branches, each multiplied by its weight of the channel."""
    image, _, channel, at, is_channel, exists = _place(tokens, channels, T, C)
    weights += (image * channels + channel) * len(branches)
    total = tl.zeros([T, C], REAL)
    for k in tl.static_range(len(branches)):
        weight = tl.load(weights + k, mask=is_channel, other=0).to(REAL)
        total += weight[None, :] * tl.load(branches[k] + at, mask=exists, other=0).to(REAL)
    tl.store(out + at, total, mask=exists)


@triton.jit(do_not_specialize=["tokens"])
def _backward(
    branches, weights, grad, grad_branches, sums, tokens, channels, REAL: tl.constexpr, T: tl.constexpr, C: tl.constexpr
):  # fmt: skip
    """Multiply the output's gradient by the weights, and add up its products with the branches over T tokens."""
    image, run, channel, at, is_channel, exists = _place(tokens, channels, T, C)
    weights += (image * channels + channel) * len(branches)
    sums += ((image * tl.cdiv(tokens, T) + run) * channels + channel) * len(branches)
    g = tl.load(grad + at, mask=exists, other=0).to(REAL)
    for k in tl.static_range(len(branches)):
        weight = tl.load(weights + k, mask=is_channel, other=0).to(REAL)
        branch = tl.load(branches[k] + at, mask=exists, other=0).to(REAL)
        tl.store(grad_branches[k] + at, weight[None, :] * g, mask=exists)
        tl.store(sums + k, tl.sum(g * branch, axis=0), mask=is_channel)


def weighted_sum(branches: list[Tensor], weights: Tensor, wide: bool) -> Tensor:
    """Add token maps [B, H, W, C], each multiplied by its weights of [B, C, branches]; `wide` as in `ops.fusion`."""
    maps, weights = [tensor.contiguous() for tensor in branches], weights.contiguous()
    out = torch.empty_like(maps[0], dtype=torch.promote_types(maps[0].dtype, weights.dtype) if wide else None)
    if out.numel():
        programs, settings = _launch(maps[0], weights)
        _forward[(programs,)](tuple(maps), weights, out, *settings.pop("sizes"), **settings)
    return out


def weighted_sum_backward(grad: Tensor, branches: list[Tensor], weights: Tensor) -> list[Tensor]:
    """Return gradients of the branches, then of their weights, in their shapes and dtypes, from that of the sum."""
    maps, by_channel, grad = [tensor.contiguous() for tensor in branches], weights.contiguous(), grad.contiguous()
    grad_branches = [torch.empty_like(tensor) for tensor in maps]
    if not grad.numel():
        return [*grad_branches, torch.zeros_like(by_channel)]
    programs, settings = _launch(maps[0], by_channel)
    tokens, channels = sizes = settings.pop("sizes")
    dtype = torch.float64 if settings["REAL"] == tl.float64 else torch.float32
    sums = grad.new_empty(len(grad), -(-tokens // settings["T"]), channels, len(maps), dtype=dtype)
    _backward[(programs,)](tuple(maps), by_channel, grad, tuple(grad_branches), sums, *sizes, **settings)
    return [*grad_branches, sums.sum(1).to(weights.dtype)]


def _launch(tokens: Tensor, weights: Tensor) -> tuple[int, dict]:
    """Return the number of programs, and what each takes of maps like `tokens`."""
    batch, height, width, channels = tokens.shape
    tile = {"T": min(64, triton.next_power_of_2(height * width)), "C": min(64, triton.next_power_of_2(channels))}
    programs = batch * triton.cdiv(height * width, tile["T"]) * triton.cdiv(channels, tile["C"])
    real = tl.float64 if torch.float64 in (tokens.dtype, weights.dtype) else tl.float32
    warps = max(1, tile["T"] * tile["C"] // 512)  # 16 values a thread
    return programs, {"sizes": (height * width, channels), "REAL": real, "num_warps": warps, **tile}
