"""Statistics that show whether learned offsets are healthy: their size, how many leave the map, which stay zero.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atmviz.observe.hooks import find_sites, forward_to_sites, observing

DEAD_BELOW = 0.1  # tokens: interpolation then gives the query token a weight of at least 0.9
_OUTSIDE_LIMIT = 0.5
_REACH_LIMIT = 0.5


@dataclass(frozen=True)
class OffsetHealth:
    """Offset statistics of one generating layer, over all query tokens, channels and both directions.

    Attributes:
        layer: Name of the site, e.g. "3_13".
        mean_abs: Mean |offset|, tokens.
        mean_fraction: Mean |offset| as a fraction of the map's width or height.
        p99_abs: 99th percentile of |offset|, tokens.
        outside_fraction: Fraction of samples whose nearest token lies outside the map.
        dead_fraction: Fraction of the distinct offsets that stay below `DEAD_BELOW` tokens for all queries and images.
    """

    layer: str
    mean_abs: float
    mean_fraction: float
    p99_abs: float
    outside_fraction: float
    dead_fraction: float

    @property
    def warning(self) -> str | None:
        """What is wrong, as part of a sentence; None for healthy offsets."""
        if self.outside_fraction > _OUTSIDE_LIMIT:
            return f"{self.outside_fraction:.0%} of the samples of {self.layer} lie outside the map"
        if self.mean_fraction > _REACH_LIMIT:
            return f"the offsets of {self.layer} reach over {self.mean_fraction:.0%} of the map on average"
        if self.dead_fraction == 1:
            return f"no channel of {self.layer} moves by {DEAD_BELOW} tokens"
        return None

    def row(self) -> dict[str, Any]:
        """Return the columns of offsets.csv, whose names are those of earlier versions."""
        columns = ("layer", "mean_abs", "mean_share", "p99_abs", "outside", "still")
        return dict(zip(columns, asdict(self).values(), strict=True))


def measure_offsets(network: nn.Module, pixels: Tensor) -> list[OffsetHealth]:
    """Return the offset statistics of every generating layer; an empty list for a network without offsets.

    The network keeps its mode and its gradients. `pixels` are normalized images, [B, 3, H, W].
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
    """Return the statistics of offsets [B, H, W, 2, O], tokens."""
    height, width = offset.shape[1:3]
    sizes = torch.tensor([width, height], device=offset.device, dtype=offset.dtype).view(2, 1)
    j, i = (torch.arange(size, device=offset.device, dtype=offset.dtype) for size in (width, height))
    query_index = torch.stack(torch.meshgrid(j, i, indexing="xy"), dim=2)[..., None]  # [H, W, 2, 1]
    token = (query_index + offset).round()
    magnitude = offset.abs()
    return OffsetHealth(
        layer=layer,
        mean_abs=magnitude.mean().item(),
        mean_fraction=(magnitude / sizes).mean().item(),
        p99_abs=_quantile(magnitude, 0.99),
        outside_fraction=((token < 0) | (token > sizes - 1)).float().mean().item(),
        dead_fraction=(magnitude.amax((0, 1, 2)) < DEAD_BELOW).float().mean().item(),
    )


def _quantile(values: Tensor, fraction: float) -> float:
    """Return the smallest value that `fraction` of the values do not exceed; torch.quantile takes at most 2**24."""
    flat = values.flatten()
    return flat.kthvalue(max(1, round(fraction * flat.numel()))).values.item()
