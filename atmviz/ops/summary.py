"""What is kept of the offsets of every token: distances and counts.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from functools import partial

import torch
from torch import Tensor

from atmviz.ops import cpu
from atmviz.ops.sampling import has_kernels


def summarise_offsets(offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far all samples of a layer lie, and how many fall where: all that a recording keeps of every token.

    Args:
        offset: [B, H, W, 2, O], float32, tokens; axis 3: horizontal, vertical.

    Returns:
        The sum of |offset|, [B, 2]; how many samples' nearest token is outside the map, [B, 2], int64; how many have
        which nearest integer offset -n ... n in all images, [2, 2n + 1], int64, with n the larger of H and W, the
        ends holding all beyond. A NaN is in the sum, and counts as any offset. Nothing waits for a GPU.

    Raises:
        ValueError: another shape or dtype.
    """
    if offset.dim() != 5 or offset.shape[3] != 2 or offset.dtype != torch.float32:
        raise ValueError(
            f"got offsets {list(offset.shape)} in {offset.dtype}, expected [B, H, W, 2, O] in torch.float32"
        )
    if offset.device.type == "cpu" and has_kernels("cpu"):
        return cpu.summarise(offset)
    batch, height, width = offset.shape[:3]
    n = max(height, width)
    bins = 2 * n + 1
    place = partial(torch.arange, device=offset.device)
    image = place(batch).view(batch, 1, 1, 1, 1)
    own = torch.stack(torch.broadcast_tensors(place(width), place(height)[:, None]), -1)  # [H, W, 2]: j, i
    row = (2 * image + place(2).view(2, 1)) * n + own[..., None]  # [B, H, W, 2, 1]
    index = offset.round().nan_to_num_(0).clamp_(-n, n).long().add_(row * bins + n).flatten()
    table = torch.zeros(batch * 2 * n * bins, dtype=torch.int64, device=offset.device)
    table.scatter_add_(0, index, index.new_ones(1).expand_as(index))
    table = table.view(batch, 2, n, bins)  # by own position and nearest offset
    position = place(n)[:, None] + place(bins) - n
    size = place(2).view(2, 1, 1) * (height - width) + width  # of each axis
    outside = (position < 0) | (position >= size)  # [2, n, 2n + 1]
    distance = offset.abs().flatten(1, 2).sum(1).sum(2)
    return distance, (table * outside).sum((2, 3)), table.sum((0, 2))
