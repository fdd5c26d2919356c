"""One-axis sampling, Eq. (2), in plain PyTorch: runs on any device, can be exported, and is what kernels must equal.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets, S = C / O channels per offset.
"""

import torch
from torch import Tensor


def sample_reference(x: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Compute `sample_along` of tokens [B, H, W, C] and offsets [B, H, W, O] along axis 1 (H) or 2 (W), unchecked.

    Eq. (2), with o the offset of channel c at token [i, j]: the result at [i, j, c] is x at [i, j + o, c] along W, and
    at [i + o, j, c] along H. Between two tokens, x is interpolated linearly; outside the map it is zero.
    """
    size = x.shape[axis]
    groups = x.unflatten(3, (offset.shape[3], -1))  # [B, H, W, O, S]

    dtype = torch.promote_types(offset.dtype, torch.float32)
    query = torch.arange(size, device=x.device, dtype=dtype).view(size, *[1] * (3 - axis))
    # Positions a token or more outside read zero anyway: clamping them keeps huge offsets finite.
    position = (query + offset).clamp(-2, size + 1).unsqueeze(-1)  # [B, H, W, O, 1]
    low = position.detach().floor()
    fraction = position - low
    low = low.long()
    high = low + 1

    def read(index: Tensor) -> Tensor:
        return groups.gather(axis, index.clamp(0, size - 1).expand_as(groups))

    weight_low = (1 - fraction) * ((low >= 0) & (low < size))
    weight_high = fraction * ((high >= 0) & (high < size))
    return (weight_low * read(low) + weight_high * read(high)).flatten(3).to(x.dtype)
