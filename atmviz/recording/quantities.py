"""Quantities that a recording keeps of each image, declared once. Torch-free until something is reduced.

The reader, the writer, merging and the documentation follow these declarations. To keep something more, declare a
`Quantity` and pass it to `record(..., quantities=(*QUANTITIES, mine))`; nothing else changes.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets per direction, N images, R the longest axis of all
grids, in tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from atmviz.observe.site import sources_of
from atmviz.recording.sites import RecordedSite

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class QuantityInfo:
    """What a recording says of a quantity, and enough to read it; the attributes are described at `Quantity`."""

    name: str
    unit: str
    description: str
    dims: tuple[str, ...]
    dtype: str
    per: Literal["image", "chunk"] = "image"
    of: Literal["source", "site", "image"] = "source"
    separate: bool = False

    def members(self, sites: Sequence[RecordedSite]) -> dict[str, RecordedSite]:
        """Return the sites that have values, by the name that the values are stored under; none for those of images."""
        if self.of == "image":
            return {}
        return sources_of(sites) if self.of == "source" else {site.name: site for site in sites}


@dataclass(frozen=True, repr=False)
class Quantity(QuantityInfo):
    """A quantity that can be recorded.

    Attributes:
        name: Name of its array, or the beginning of the names of several.
        unit: Unit of its values; "1" for numbers without one.
        description: One sentence.
        dims: Names of the axes of one site's values; "{source}" stands for the name of the site.
        dtype: Type of the stored array. Floats are NaN for images that could not be read, and finite for others.
        per: "image": one row per image. "chunk": one row per chunk of images, summed over them.
        of: "source": a value for each site that generates offsets. "site": a value for each site. "image": a value
            that no site has a part in; it is reduced from the batch of the first.
        separate: Whether each site has a separate array, `name_3_13`, because their shapes differ. Otherwise one array
            holds all sites along its second axis.
        shape: Shape of one site's values, from the sites that share an array.
        labels: Whether it needs the labels of the images: "same" as the offsets', or "crossed": labels of each image
            with the offsets of the next readable image of its chunk, for the last image those of the first. Of a chunk
            of one image, no token has a label then.
        reduce: Reduces a batch to `[B, *shape]`, or to `[*shape]` for quantities per chunk. Leaves the batch's tensors
            as they are: other quantities are reduced from the same.
    """

    shape: Callable[[Sequence[RecordedSite]], Shape] = lambda sites: ()
    labels: Literal["same", "crossed"] | None = None
    reduce: "Callable[[SiteBatch], Tensor]" = lambda batch: batch.offsets

    def __repr__(self) -> str:
        return f"<Quantity {self.name}>"


@dataclass(frozen=True)
class SiteBatch:
    """Offsets and fusion weights of a site for a batch of images: the argument of `Quantity.reduce`.

    Attributes:
        site: The site.
        sites: All recorded sites.
        offsets: [B, H, W, 2, O], float32, tokens; axis 3: horizontal, vertical.
        fusion: Fusion weights, [B, 1, 1, C, branches] or [B, H, W, C, branches], float32.
        images: Index of each image, [B], int64.
        labels: Object of each token, [B, H, W], int32, 0 for none; see `label_tokens`. None where labels were not asked
            for.
        objects: What is known of the objects, [B, 64, fields], see `label_quantities.OBJECT_FIELDS`; or None.
    """

    site: RecordedSite
    sites: Sequence[RecordedSite]
    offsets: "Tensor"
    fusion: "Tensor"
    images: "Tensor"
    labels: "Tensor | None" = None
    objects: "Tensor | None" = None

    @property
    def samples(self) -> int:
        """Number of samples of one image and axis: tokens times distinct offsets."""
        return self.site.grid[0] * self.site.grid[1] * self.site.num_offsets

    @cached_property
    def summary(self) -> "tuple[Tensor, Tensor, Tensor]":
        """Sum of |offset|, samples outside the map (both [B, 2]) and samples by offset; see `ops.summarize_offsets`."""
        from atmviz.ops import summarize_offsets

        distance, outside, counts = summarize_offsets(self.offsets)
        if self.offsets.device.type == "mps":  # has no float64
            distance, outside = distance.cpu(), outside.cpu()
        return distance.double(), outside.double(), counts


def _counts(batch: SiteBatch) -> "Tensor":
    """Count samples by nearest offset -R ... R, [2, 2R + 1]; on an axis of n tokens, -n and n also count all beyond."""
    counts = batch.summary[2]
    reach, middle = longest_axis(batch.sites), counts.shape[1] // 2
    kept = counts.new_zeros((2, 2 * reach + 1))
    for axis, size in enumerate(batch.site.grid[::-1]):
        kept[axis, reach - size : reach + size + 1] = counts[axis, middle - size : middle + size + 1]
        kept[axis, reach - size] += counts[axis, : middle - size].sum()
        kept[axis, reach + size] += counts[axis, middle + size + 1 :].sum()
    return kept


def longest_axis(sites: Sequence[RecordedSite]) -> int:
    """Return R."""
    return max(max(site.grid) for site in sites)


QUERY_OFFSETS = Quantity(
    name="offset",
    unit="tokens",
    description="offsets of the query token, positive to the right and down",
    dims=("axis", "offset_index_{source}"),
    dtype="float32",
    separate=True,
    shape=lambda sites: (2, sites[0].num_offsets),
    reduce=lambda batch: batch.offsets[:, *batch.site.query],
)
MEAN_ABS_OFFSET = Quantity(
    name="mean_abs_offset",
    unit="tokens",
    description="mean |offset| over all tokens",
    dims=("axis",),
    dtype="float32",
    shape=lambda sites: (2,),
    reduce=lambda batch: batch.summary[0] / batch.samples,
)
OUTSIDE_SHARE = Quantity(
    name="outside_share",
    unit="1",
    description="fraction of all samples whose nearest token is outside the map",
    dims=("axis",),
    dtype="float64",
    shape=lambda sites: (2,),
    reduce=lambda batch: batch.summary[1] / batch.samples,
)
FUSION = Quantity(
    name="fusion",
    unit="1",
    description="fusion weights, averaged over channels (and tokens, where each has its own)",
    dims=("branch",),
    dtype="float32",
    of="site",
    shape=lambda sites: (len(sites[0].branches),),
    reduce=lambda batch: batch.fusion.mean((1, 2, 3)),
)
COUNTS = Quantity(
    name="counts",
    unit="samples",
    description="samples of all tokens by nearest integer offset: bin k holds offset k minus the middle bin",
    dims=("axis", "bin"),
    dtype="int64",
    per="chunk",
    shape=lambda sites: (2, 2 * longest_axis(sites) + 1),
    reduce=_counts,
)
QUANTITIES = (QUERY_OFFSETS, MEAN_ABS_OFFSET, OUTSIDE_SHARE, FUSION, COUNTS)
"""What is recorded unless others are asked for; also what recordings of schema 1 hold."""
