"""Edits that remove what a network learned about offsets, to measure what they are worth.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from atmviz.data.keyed import seed_of
from atmviz.observe.hooks import Edit
from atmviz.observe.site import Intervention, Site


def edits_of(intervention: Intervention, sites: Sequence[Site], seed: int = 0) -> dict[str, Edit]:
    """Return the edits of all sites for `observing`.

    Args:
        intervention: "zero" lets every channel read the query token itself (Table 8, row 1, without training for it).
            "shuffle" gives each token the offsets of another token, by one permutation of the map per source: their
            distribution is kept, the token they belong to is lost. "learned" changes nothing.
        sites: The sites of a network.
        seed: Seed of the permutations.

    Raises:
        ValueError: another intervention.
    """
    if intervention == "learned":
        return {}
    if intervention == "zero":
        return {site.name: torch.zeros_like for site in sites}
    if intervention == "shuffle":
        return {site.name: partial(_shuffle, seed=seed, source=site.source) for site in sites}
    raise ValueError(f"got intervention {intervention!r}, expected learned, zero or shuffle")


def _shuffle(offset: Tensor, seed: int, source: str) -> Tensor:
    """Permute the tokens of offsets [B, H, W, 2, O]."""
    height, width = offset.shape[1:3]
    generator = torch.Generator().manual_seed(seed_of(seed, source, height, width))
    order = torch.randperm(height * width, generator=generator).to(offset.device)
    return offset.flatten(1, 2)[:, order].view_as(offset)
