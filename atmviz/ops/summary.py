"""Statistics of the offsets of all tokens: mean distance, samples outside the map, histogram.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from functools import partial

import torch
from torch import Tensor

from atmviz.ops import cpu
from atmviz.ops.sampling import has_kernels


def summarize_offsets(offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Add up distances and count samples over all tokens of a layer.

    Args:
        offset: Offsets in tokens, [B, H, W, 2, O], float32; axis 3: horizontal, vertical.

    Returns:
        Three tensors, without waiting for a GPU. The sum of |offset|, [B, 2]. The number of samples whose nearest token
        is outside the map, [B, 2], int64. A histogram over all images, [2, 2n + 1], int64, with n the larger of H and
        W: bin k counts offsets that round to k - n, and the first and last bin also collect everything further out.
        A NaN makes the sum NaN and is counted in some bin.

    Raises:
        ValueError: the shape or dtype is another.
    """
    if offset.dim() != 5 or offset.shape[3] != 2 or offset.dtype != torch.float32:
        raise ValueError(
            f"got offsets {list(offset.shape)} in {offset.dtype}, expected [B, H, W, 2, O] in torch.float32"
        )
    if offset.device.type == "cpu" and has_kernels("cpu"):
        return cpu.summarize(offset)
    if offset.device.type == "cuda" and has_kernels("cuda"):
        from atmviz.ops import gpu_summary

        with torch.cuda.device(offset.device):
            return gpu_summary.summarize(offset)
    batch, height, width = offset.shape[:3]
    n = max(height, width)
    bins = 2 * n + 1
    count = partial(torch.arange, device=offset.device)
    image = count(batch).view(batch, 1, 1, 1, 1)
    query = torch.stack(torch.broadcast_tensors(count(width), count(height)[:, None]), -1)  # [H, W, 2]: j, i
    row = (2 * image + count(2).view(2, 1)) * n + query[..., None]  # [B, H, W, 2, 1]
    index = offset.round().nan_to_num_(0).clamp_(-n, n).long().add_(row * bins + n).flatten()
    table = torch.zeros(batch * 2 * n * bins, dtype=torch.int64, device=offset.device)
    table.scatter_add_(0, index, index.new_ones(1).expand_as(index))
    table = table.view(batch, 2, n, bins)  # by position of the query token and rounded offset
    position = count(n)[:, None] + count(bins) - n
    size = count(2).view(2, 1, 1) * (height - width) + width  # of each axis
    outside = (position < 0) | (position >= size)  # [2, n, 2n + 1]
    distance = offset.abs().flatten(1, 2).sum(1).sum(2)
    return distance, (table * outside).sum((2, 3)), table.sum((0, 2))
