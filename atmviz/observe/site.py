"""Sites: the modules of a network that sample tokens. Torch-free.

Legend: C channels, O distinct offsets per direction, S channels that share one offset.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from atmviz.errors import LayerNotFoundError
from atmviz.layers import LayerId, Layers, find_layer, select_layers, title_of

AXES = ("horizontal", "vertical")
"""Names of the two entries of an axis dimension, in order."""


@dataclass(frozen=True)
class Site:
    """A module that samples tokens, e.g. the token mixer of an ATM block.

    Attributes:
        name: "3_18" or "fpn_p3"; see `atmviz.layers`.
        source: Name of the site that generates the offsets it uses: `name` or another.
        module: Path of the module in the network.
        kind: "axis" samples one value along the token's row and one along its column (the paper); "point" samples one
            2-D point (Fig. 2, A).
        channels: C.
        num_offsets: O, of all samples; 0 where offsets are fixed to zero.
        channels_per_offset: S; 0 without offsets.
        stride_px: Input pixels per token, (vertical, horizontal).
        branches: What is fused, in the order of the fusion weights.
    """

    name: str
    source: str
    module: str
    kind: Literal["axis", "point"]
    channels: int
    num_offsets: int
    channels_per_offset: int
    stride_px: tuple[int, int]
    branches: tuple[str, ...]

    @property
    def is_source(self) -> bool:
        """Whether the site generates the offsets it uses."""
        return self.name == self.source

    @property
    def title(self) -> str:
        """Name in figures: `layer_3_18`."""
        return title_of(self.name)

    @property
    def label(self) -> str:
        """Title, and the source of reused offsets: `layer_3_18 (offsets of 3_13)`."""
        return self.title if self.is_source else f"{self.title} (offsets of {self.source})"


S = TypeVar("S", bound=Site)
T = TypeVar("T")


class BySite(dict[str, T]):
    """Values by name of a site. A site may also be named in the other ways of `atmviz.layers.find_layer`."""

    def __missing__(self, layer: str | LayerId) -> T:
        if not self:
            raise LayerNotFoundError(f"got {str(layer)!r} before a forward pass: run the network first")
        return self[find_layer(layer, list(self))]


def select_sites(patterns: Layers, sites: Sequence[S]) -> list[S]:
    """Return the sites that patterns name, in the order asked for; see `atmviz.layers.select_layers`.

    Raises:
        LayerNotFoundError: a pattern names no site.
    """
    by_name = {site.name: site for site in sites}
    generating = [site.name for site in sites if site.is_source]
    return [by_name[name] for name in select_layers(patterns, list(by_name), generating)]


def sources_of(sites: Iterable[S]) -> dict[str, S]:
    """Return the first of the sites that uses each source's offsets, by the name of the source."""
    first: dict[str, S] = {}
    for site in sites:
        first.setdefault(site.source, site)
    return first
