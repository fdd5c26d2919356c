"""One image through the network: the offsets of every token.

Legend: H/W grid in tokens, O distinct offsets per direction, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from atmviz.data.fitting import preprocess
from atmviz.errors import AtmvizError
from atmviz.geometry import Placement, Preprocessing
from atmviz.observe.hooks import forward_to_sites, observing, require_observable
from atmviz.observe.site import BySite, Site, sources_of


@dataclass(frozen=True)
class ObservedImage:
    """The offsets and fusion weights that a network used for one image.

    Attributes:
        placement: How the image was fitted to the network.
        sites: The sites asked for, in that order.
        offsets: By site, distinct offsets, [H, W, 2, O], tokens; axis 2: horizontal, vertical.
        fusion: By site, fusion weights, [1, 1, C, branches] or [H, W, C, branches].
    """

    placement: Placement
    sites: Sequence[Site]
    offsets: BySite[np.ndarray]
    fusion: BySite[np.ndarray] = field(default_factory=BySite)


def observe_image(
    network: nn.Module, image: np.ndarray, preprocessing: Preprocessing, sites: Sequence[Site]
) -> ObservedImage:
    """Run one upright RGB image [H, W, 3], uint8, and return the offsets and fusion weights of the sites.

    Raises:
        AtmvizError: offsets that are not finite, or a network that cannot be observed.
    """
    require_observable(network)
    pixels, placement = preprocess(image, preprocessing)
    with observing(network, sites) as observed, torch.inference_mode():
        forward_to_sites(network, pixels)
    offsets = {source: observed.offsets[s.name][0].float().cpu().numpy() for source, s in sources_of(sites).items()}
    for source, values in offsets.items():
        if not np.isfinite(values).all():
            raise AtmvizError(f"layer {source} gave NaN or infinite offsets: check the checkpoint and the image")
    fusion = BySite({site.name: observed.fusion[site.name][0].float().cpu().numpy() for site in sites})
    return ObservedImage(placement, sites, BySite({site.name: offsets[site.source] for site in sites}), fusion)
