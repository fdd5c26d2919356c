"""Offsets of other images, for the interventions that use them. Torch-free: it only calls methods of tensors.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from atmviz.errors import SettingsError
from atmviz.observe.site import Site, sources_of

if TYPE_CHECKING:
    from torch import Tensor

    from atmviz.observe.hooks import Edit


class MeanOffsets:
    """Means of offsets over calibration images, by the layer that generates them.

    Args:
        by_position: Keep a mean for each token, [H, W, 2, O], which needs maps of one size; else one over all tokens
            too, [2, O].
    """

    def __init__(self, by_position: bool) -> None:
        self.by_position = by_position
        self._sums: dict[str, Tensor] = {}
        self._counts: defaultdict[str, int] = defaultdict(int)

    def watching(self, sites: Sequence[Site]) -> "dict[str, Edit]":
        """Return edits for `observing` that add what the sites generate to the means, and change nothing."""
        return {site.name: partial(self._add, source) for source, site in sources_of(sites).items()}

    def _add(self, source: str, offset: "Tensor") -> "Tensor":
        values = offset.cpu().double()
        values = values if self.by_position else values.flatten(0, 2)
        self._require_size(values, source)
        self._sums[source] = values.sum(0) + self._sums.get(source, 0)
        self._counts[source] += len(values)
        return offset

    def __call__(self, site: Site, offset: "Tensor") -> "Tensor":
        """Return the means for the offsets [B, H, W, 2, O] of a site.

        Raises:
            SettingsError: means are by position, and a map has another size.
        """
        self._require_size(offset, site.source)
        mean: Tensor = self._sums[site.source] / self._counts[site.source]
        return mean.to(offset.dtype).to(offset.device).expand_as(offset)  # in this order: MPS has no float64

    def _require_size(self, offset: "Tensor", source: str) -> None:
        if self.by_position and source in self._sums and offset.shape[1:] != self._sums[source].shape:
            raise _other_size("position", source)


class OtherOffsets:
    """Offsets of other images: those of the forward passes within `keeping`, given in turn to the passes after it.

    A site that has no others left, or some of another size, raises SettingsError.
    """

    def __init__(self) -> None:
        self._keeps = False
        self._kept: defaultdict[str, list[Tensor]] = defaultdict(list)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep the offsets of what runs within the `with` block, in place of those kept before."""
        self._kept.clear()
        self._keeps = True
        yield
        self._keeps = False

    def __call__(self, site: Site, offset: "Tensor") -> "Tensor":
        """Keep the offsets [B, H, W, 2, O] of a site and return them, or return those that were kept."""
        kept = self._kept[site.name]
        if self._keeps:
            kept.append(offset)
            return offset
        if not kept or kept[0].shape != offset.shape:
            raise _other_size("other", site.source)
        return kept.pop(0)


def _other_size(name: str, source: str) -> SettingsError:
    return SettingsError(
        f"got maps of several sizes in layer {source}, expected one size for {name}: leave {name} out, or take images "
        "of one size"
    )
