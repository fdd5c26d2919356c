"""From what sites did with a batch of images to the rows of a recording, on the device.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from atmviz.errors import AtmvizError
from atmviz.observe.hooks import Observation
from atmviz.observe.site import sources_of
from atmviz.recording.batches import Batch
from atmviz.recording.layout import StoredArray
from atmviz.recording.quantities import Quantity, SiteBatch
from atmviz.recording.sites import RecordedSite

SiteBatches = dict[str, SiteBatch]
"""What each site did, by its name."""


class Reducer:
    """Reduces batch after batch of a chunk.

    Crossed quantities take the labels of an image with the offsets of the next one. The labels of a batch's last image
    therefore wait for the next batch, and the offsets of the chunk's first image for the end of the chunk.

    Args:
        sites: The recorded sites.
        quantities: What is recorded of them.
        arrays: The arrays of the recording, by name.
    """

    def __init__(
        self, sites: Sequence[RecordedSite], quantities: Sequence[Quantity], arrays: Mapping[str, StoredArray]
    ) -> None:
        self.sites, self.arrays = sites, arrays
        self.plain = [quantity for quantity in quantities if quantity.labels != "crossed"]
        self.crossed = [quantity for quantity in quantities if quantity.labels == "crossed"]
        self._readable = 0  # images of the chunk
        self._first: SiteBatches = {}
        self._last: SiteBatches = {}

    def reduce(self, observed: Observation, batch: Batch) -> dict[str, Tensor]:
        """Return rows, or sums, of the readable images of a batch by name of the array; see `ChunkBuffer.add`."""
        done = self._site_batches(observed, batch)
        self._readable += len(batch.readable)
        tensors = self._values(self.plain, done)
        if self.crossed:
            whole = {name: _joined(self._last[name], here) if self._last else here for name, here in done.items()}
            if len(batch.readable) + bool(self._last) > 1:
                tensors |= self._values(self.crossed, {name: _crossed(each) for name, each in whole.items()})
            self._first = self._first or {name: _part(here, slice(1)) for name, here in done.items()}
            self._last = {name: _part(here, slice(-1, None)) for name, here in done.items()}
        return tensors

    def end_chunk(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the rows of a chunk's last batch with those that its last image still lacks."""
        first, last, self._first, self._last = self._first, self._last, {}, {}
        readable, self._readable = self._readable, 0
        if not first:
            return tensors
        pairs = {name: _crossed(_joined(last[name], first[name])) for name in first}
        if readable == 1:
            pairs = {name: _unlabeled(pair) for name, pair in pairs.items()}
        missing = self._values(self.crossed, pairs)
        return tensors | {
            name: torch.cat([tensors[name], rows]) if name in tensors else rows for name, rows in missing.items()
        }

    def _site_batches(self, observed: Observation, batch: Batch) -> SiteBatches:
        offsets = {source: _offsets(observed, site) for source, site in sources_of(self.sites).items()}
        assert batch.numbers is not None
        return {
            site.name: SiteBatch(
                site,
                self.sites,
                offsets[site.source],
                observed.fusion[site.name].float(),
                batch.numbers,
                None if batch.instances is None else label_tokens(batch.instances, site),
                batch.objects,
            )
            for site in self.sites
        }

    def _values(self, quantities: Sequence[Quantity], done: SiteBatches) -> dict[str, Tensor]:
        """Reduce quantities, by name of the array."""
        first = done[self.sites[0].name]
        tensors: dict[str, Tensor] = {}
        for quantity in quantities:
            if quantity.of == "image":
                tensors[quantity.name] = self._checked(quantity, quantity.name, quantity.reduce(first), first)
                continue
            members = quantity.members(self.sites)
            arrays = {name: f"{quantity.name}_{name}" if quantity.separate else quantity.name for name in members}
            values = {
                name: self._checked(quantity, arrays[name], quantity.reduce(done[site.name]), first)
                for name, site in members.items()
            }
            if quantity.separate:
                tensors |= {arrays[name]: value for name, value in values.items()}
            else:
                tensors[quantity.name] = torch.stack([*values.values()], 1 if quantity.per == "image" else 0)
        return tensors

    def _checked(self, quantity: Quantity, array: str, value: Tensor, first: SiteBatch) -> Tensor:
        """Return a value; AtmvizError if it is not of the declared shape and kind: numpy would repeat or cut it."""
        rows = (len(first.offsets),) if quantity.per == "image" else ()
        shape = (*rows, *self.arrays[array].shape[1 if quantity.separate or quantity.of == "image" else 2 :])
        if value.shape != shape or not torch.can_cast(value.dtype, getattr(torch, quantity.dtype)):
            raise AtmvizError(
                f"{quantity.name} was reduced to {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}, "
                f"expected {list(shape)} of {quantity.dtype}: change reduce or what is declared"
            )
        return value


def label_tokens(instances: Tensor, site: RecordedSite) -> Tensor:
    """Return the object of each token, [B, H, W], from that of each pixel: the label of the pixel at its center."""
    rows, columns = (
        (stride * torch.arange(size, device=instances.device) + stride // 2).clamp(max=side - 1)
        for stride, size, side in zip(site.stride_px, site.grid, instances.shape[1:], strict=True)
    )
    return instances[:, rows[:, None], columns]


def _joined(first: SiteBatch, second: SiteBatch) -> SiteBatch:
    """Return two batches of a site as one, of offsets and labels alone."""
    assert first.labels is not None
    assert second.labels is not None
    return replace(
        first,
        offsets=torch.cat([first.offsets, second.offsets]),
        images=torch.cat([first.images, second.images]),
        labels=torch.cat([first.labels, second.labels]),
    )


def _part(batch: SiteBatch, which: slice) -> SiteBatch:
    """Return some images of a batch of a site, in memory that outlives the batch."""
    assert batch.labels is not None
    return replace(
        batch,
        offsets=batch.offsets[which].clone(),
        fusion=batch.fusion[:0],
        images=batch.images[which].clone(),
        labels=batch.labels[which].clone(),
        objects=None,
    )


def _crossed(batch: SiteBatch) -> SiteBatch:
    """Return the labels of each image but the last with the offsets of the next."""
    assert batch.labels is not None
    return replace(batch, offsets=batch.offsets[1:], images=batch.images[:-1], labels=batch.labels[:-1])


def _unlabeled(batch: SiteBatch) -> SiteBatch:
    assert batch.labels is not None
    return replace(batch, labels=torch.zeros_like(batch.labels))


def _offsets(observed: Observation, site: RecordedSite) -> Tensor:
    """Return the offsets of a site, [B, H, W, 2, O], float32."""
    offsets = observed.offsets[site.name].float()
    if offsets.shape[1:3] != site.grid:
        raise AtmvizError(
            f"layer {site.source} has a map of {tuple(offsets.shape[1:3])} tokens, expected {site.grid}: "
            "record the ATMNet itself, not a model that resizes its input"
        )
    return offsets
