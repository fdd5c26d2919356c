"""One-axis sampling, the heart of Eq. (2).

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets, S = C / O channels sharing one.
"""

from typing import Literal

import torch
from torch import Tensor

Branch = Literal["width", "height"]
_AXIS: dict[Branch, int] = {"height": 1, "width": 2}


def sample_along(x: Tensor, offset: Tensor, branch: Branch) -> Tensor:
    """Recompose each token from shifted tokens on its own row or column.

    Args:
        x: Feature map, [B, H, W, C], any floating dtype and strides.
        offset: Shift in tokens, [B, H, W, O], positive to the right or down, unbounded. Offset k serves the S
            neighbouring channels k*S ... k*S+S-1 and is not repeated in memory.
        branch: "width" shifts along W, "height" along H.

    Returns:
        Recomposed tokens, [B, H, W, C], in the dtype of x. A fractional shift interpolates linearly between its two
        neighbours; a neighbour outside the map reads as zero. Positions and weights are computed in float32 or wider,
        so half-precision features keep exact positions.

    Raises:
        ValueError: the shapes do not fit, or O does not divide C.

    Source: Eq. (2), Sec. 3.2. The released code does this with `torchvision.ops.deform_conv2d`.
    """
    if x.dim() != 4 or offset.dim() != 4 or x.shape[:3] != offset.shape[:3]:
        raise ValueError(
            f"got features {list(x.shape)} and offsets {list(offset.shape)}, expected [B, H, W, C] and [B, H, W, O]"
        )
    if x.shape[3] % offset.shape[3]:
        raise ValueError(f"got {offset.shape[3]} offsets for {x.shape[3]} channels, expected a divisor")

    axis = _AXIS[branch]
    size = x.shape[axis]
    groups = x.unflatten(3, (offset.shape[3], -1))  # [B, H, W, O, S]

    dtype = torch.promote_types(offset.dtype, torch.float32)
    own = torch.arange(size, device=x.device, dtype=dtype).view(size, *[1] * (3 - axis))
    # From one token outside on, everything reads zero: clamping beyond that keeps huge offsets finite.
    position = (own + offset).clamp(-2, size + 1).unsqueeze(-1)  # [B, H, W, O, 1]
    low = position.detach().floor()
    fraction = position - low
    low = low.long()
    high = low + 1

    def read(index: Tensor) -> Tensor:
        return groups.gather(axis, index.clamp(0, size - 1).expand_as(groups))

    weight_low = (1 - fraction) * ((low >= 0) & (low < size))
    weight_high = fraction * ((high >= 0) & (high < size))
    return (weight_low * read(low) + weight_high * read(high)).flatten(3).to(x.dtype)
