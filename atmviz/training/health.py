"""The health of learned offsets: how far they reach, how much leaves the map, which channels never move.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atmviz.observe.hooks import find_sites, forward_to_sites, observing

NEVER_MOVES = 0.1  # tokens: an offset that stays below this reads its own token, all but a tenth
_OUTSIDE_LIMIT = 0.5
_REACH_LIMIT = 0.5


@dataclass(frozen=True)
class OffsetHealth:
    """One layer that generates offsets, over all query tokens, channels and both directions.

    Attributes:
        layer: Its label.
        mean_abs: Mean |offset|, tokens.
        mean_share: The same as a share of the map's width or height.
        p99_abs: 99th percentile of |offset|, tokens.
        outside: Share of samples whose token (the nearest) lies outside the map.
        still: Share of the distinct offsets that stay below `NEVER_MOVES` tokens for every query and image.
    """

    layer: str
    mean_abs: float
    mean_share: float
    p99_abs: float
    outside: float
    still: float

    @property
    def complaint(self) -> str | None:
        """What is wrong, as part of a sentence; None for healthy offsets."""
        if self.outside > _OUTSIDE_LIMIT:
            return f"{self.outside:.0%} of the samples of {self.layer} lie outside the map"
        if self.mean_share > _REACH_LIMIT:
            return f"the offsets of {self.layer} reach over {self.mean_share:.0%} of the map on average"
        if self.still == 1:
            return f"no channel of {self.layer} moves by {NEVER_MOVES} tokens"
        return None


def measure_offsets(network: nn.Module, pixels: Tensor) -> list[OffsetHealth]:
    """The health of every generating layer on images [B, 3, H, W]; nothing for a network without offsets.

    The network keeps its mode and its gradients.
    """
    if all(module.offset_mode == "zero" for module in network.modules() if hasattr(module, "offset_mode")):
        return []
    was_training = network.training
    sources = [site.name for site in find_sites(network) if site.is_source]
    try:
        with observing(network) as observed, torch.no_grad():
            forward_to_sites(network.eval(), pixels)
    finally:
        network.train(was_training)
    return [_measure(name, observed.offsets[name].float()) for name in sources]


def _measure(layer: str, offset: Tensor) -> OffsetHealth:
    """From offsets [B, H, W, 2, O]."""
    height, width = offset.shape[1:3]
    sizes = torch.tensor([width, height], device=offset.device, dtype=offset.dtype).view(2, 1)
    j = torch.arange(width, device=offset.device, dtype=offset.dtype).view(1, width, 1)
    i = torch.arange(height, device=offset.device, dtype=offset.dtype).view(height, 1, 1)
    own = torch.stack(torch.broadcast_tensors(j, i), dim=2)  # [H, W, 2, 1]: where each query token is, per direction
    token = (own + offset).round()
    magnitude = offset.abs()
    return OffsetHealth(
        layer=layer,
        mean_abs=magnitude.mean().item(),
        mean_share=(magnitude / sizes).mean().item(),
        p99_abs=_quantile(magnitude, 0.99),
        outside=((token < 0) | (token > sizes - 1)).float().mean().item(),
        still=(magnitude.amax((0, 1, 2)) < NEVER_MOVES).float().mean().item(),
    )


def _quantile(values: Tensor, share: float) -> float:
    """The smallest value that `share` of the values do not exceed; torch.quantile takes 16 million values at most."""
    flat = values.flatten()
    return flat.kthvalue(max(1, round(share * flat.numel()))).values.item()
