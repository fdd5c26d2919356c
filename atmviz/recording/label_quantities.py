"""Quantities that answer questions: moments of offsets, and what they hit among the objects of an image.

A *sample* is one token with one distinct offset o. It has *moved* if rint(o) is not 0, and is a *hit* if the token at
p + rint(o) belongs to the same object as the token p; a position outside the map is a miss. Only samples of tokens that
belong to an object count. Networks with 2-D samples are counted along each axis alone.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction, n tokens along an axis, L lines of tokens, R the
longest axis of all grids.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from atmviz.recording.quantities import Quantity, SiteBatch, longest_axis
from atmviz.recording.sites import RecordedSite

if TYPE_CHECKING:
    from torch import Tensor

Keep = Literal["moments", "positions", "maps"]
MAX_OBJECTS = 64
"""Objects of an image that have a row in a recording: the largest."""
OBJECT_FIELDS = ("label", "area_px", "extent_h_px", "extent_v_px", "length_px", "elongation", "angle")
"""What a recording keeps of an object; -1 as label where there is none, 0 for what is not known."""
GROUPS = 16
"""Groups of images for the jackknife: index of the image modulo 16."""
BINS_PER_TOKEN = 16  # of `DISTANCES`
MAP_STEPS = 64  # of a token, of `MAPS`
THRESHOLDS = (1.5, 2.5)  # tokens, of `BEYOND`: what CycleMLP and Shift, and what AS-MLP cannot reach
BORDER_RANGE = (0.8, 1.2)  # of |o| over the distance to the border, which counts as reaching it


def _exact(offsets: "Tensor") -> "Tensor":
    """Return float64, on the CPU where a device has none."""
    return (offsets.cpu() if offsets.device.type == "mps" else offsets).double()


def _moments(batch: SiteBatch) -> "Tensor":
    """Return sums over tokens of o, o^2 and |o|, [B, 2, O, 3]."""
    import torch

    offsets = _exact(batch.offsets)
    return torch.stack([values.sum((1, 2)) for values in (offsets, offsets.square(), offsets.abs())], -1)


def _beyond(batch: SiteBatch) -> "Tensor":
    """Count samples with |o| above 1.5 tokens, 2.5 tokens and half the map, [B, 2, 3]."""
    import torch

    distance, (height, width) = batch.offsets.abs(), batch.site.grid
    halves = distance.new_tensor((width / 2, height / 2))[:, None]
    return torch.stack([(distance > limit).sum((1, 2, 4)) for limit in (*THRESHOLDS, halves)], -1)


def _distances(batch: SiteBatch) -> "Tensor":
    """Count samples by |o| in steps of 1/16 token, [2, 16 R + 1]; the last bin also counts all beyond."""
    import torch

    last = BINS_PER_TOKEN * longest_axis(batch.sites)
    bins = (batch.offsets.abs() * BINS_PER_TOKEN).clamp(max=last).long()
    return torch.stack([torch.bincount(bins[:, :, :, axis].flatten(), minlength=last + 1) for axis in (0, 1)])


def _positions(batch: SiteBatch) -> "Tensor":
    """Sum offsets over the images of each group, [16, H, W, 2, O]."""
    import torch

    offsets = _exact(batch.offsets)
    member = torch.arange(GROUPS, device=offsets.device)[:, None] == batch.images.to(offsets.device) % GROUPS
    return torch.einsum("gb,bhwao->ghwao", member.double(), offsets)


def _maps(batch: SiteBatch) -> "Tensor":
    """Return offsets in 1/64 token, [B, H, W, 2, O], rounded, but not to another nearest token.

    What lies beyond 512 tokens counts as 512.
    """
    import torch

    steps = (batch.offsets * MAP_STEPS).round()
    steps -= (steps / MAP_STEPS).round() - batch.offsets.round()  # by one step, where halves make the difference
    return steps.clamp(-(2**15), 2**15 - 1).to(torch.int16)


def _hits(batch: SiteBatch, borders: bool = True) -> "Tensor":
    """Count moved samples; hits at p + rint(o) and, mirrored, at p - rint(o); and those that reach the border.

    Returns:
        [B, 2, O, 5]: with `borders`, |o| is compared with the distance to the object's border on either side, too. Else
        [B, 2, O, 3].
    """
    import torch

    assert batch.labels is not None
    axes = []
    for axis in (0, 1):
        labels = batch.labels if axis == 0 else batch.labels.transpose(1, 2)  # [B, L, n]
        offsets = batch.offsets[:, :, :, axis].permute((0, 1, 3, 2) if axis == 0 else (0, 2, 3, 1))  # [B, L, O, n]
        nearest = offsets.round()
        counted = (nearest != 0) & (labels > 0)[:, :, None]
        counts = [counted, *(counted & _same_object(labels, way * nearest) for way in (1, -1))]
        if borders:
            distance, ahead, behind = _exact(offsets.abs()), *_border_distances(labels)
            right = (nearest > 0).to(distance.device)
            for forward, backward in ((ahead, behind), (behind, ahead)):
                ratio = distance / torch.where(right, forward[:, :, None], backward[:, :, None]).to(distance.device)
                reaches = (ratio >= BORDER_RANGE[0]) & (ratio <= BORDER_RANGE[1])
                counts.append(counted & reaches.to(counted.device))
        axes.append(torch.stack([count.sum((1, 3), dtype=torch.int32) for count in counts], -1))
    return torch.stack(axes, 1)


def _same_object(labels: "Tensor", steps: "Tensor") -> "Tensor":
    """Whether the token that lies whole steps [B, L, O, n] from each token along a line belongs to the same object."""
    import torch

    size = labels.shape[-1]
    there = torch.arange(size, device=labels.device) + steps
    inside = (there >= 0) & (there < size)
    each = labels[:, :, None].expand(*steps.shape)
    return inside & (each.gather(-1, there.clamp(0, size - 1).long()) == each)


def _border_distances(labels: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Return the distance from each token of lines [B, L, n] to the end of its object, ahead and behind, in tokens.

    An object ends halfway to the first token of another label, or half a token beyond the last one of the map.
    """
    import torch

    size = labels.shape[-1]
    index = torch.arange(size, device=labels.device).expand(labels.shape)
    ends = torch.ones_like(labels, dtype=torch.bool)
    ends[..., :-1] = labels[..., :-1] != labels[..., 1:]
    starts = ends.roll(1, -1)  # the first token of a line follows the last one's end
    last = torch.where(ends, index, size).flip(-1).cummin(-1).values.flip(-1)
    first = torch.where(starts, index, 0).cummax(-1).values
    return (last - index).double() + 0.5, (index - first).double() + 0.5


def _object_sums(batch: SiteBatch) -> "Tensor":
    """Return, by object, its tokens and the sums over them of |o|, horizontal and vertical, [B, 64, 3].

    |o| of a token is the mean over its O offsets.
    """
    import torch

    assert batch.labels is not None
    distance = _exact(batch.offsets.abs()).mean(-1).flatten(1, 2)  # [B, HW, 2]
    values = torch.cat([torch.ones_like(distance[..., :1]), distance], -1)
    numbers = torch.arange(1, MAX_OBJECTS + 1, device=distance.device)
    members = batch.labels.to(distance.device).flatten(1)[:, None] == numbers[:, None]  # [B, 64, HW]
    return members.double() @ values


def _objects(batch: SiteBatch) -> "Tensor":
    assert batch.objects is not None
    return batch.objects


def _per_offset(values: int) -> Callable[[Sequence[RecordedSite]], tuple[int, ...]]:
    return lambda sites: (2, sites[0].num_offsets, values)


def _map_shape(sites: Sequence[RecordedSite]) -> tuple[int, ...]:
    return (*sites[0].grid, 2, sites[0].num_offsets)


_OFFSET_DIMS = ("axis", "offset_index_{source}")
_MAP_DIMS = ("row_{source}", "column_{source}", *_OFFSET_DIMS)
_MOVED = "samples of labeled tokens whose nearest token is another; of these, those on the same object; with -o"
MOMENTS = (
    Quantity(
        name="moments",
        unit="tokens, tokens^2, tokens",
        description="sums over all tokens of o, o^2 and |o|",
        dims=(*_OFFSET_DIMS, "moment"),
        dtype="float64",
        separate=True,
        shape=_per_offset(3),
        reduce=_moments,
    ),
    Quantity(
        name="beyond",
        unit="samples",
        description="samples with |o| above 1.5 tokens, 2.5 tokens and half the map",
        dims=("axis", "threshold"),
        dtype="int64",
        shape=lambda sites: (2, len(THRESHOLDS) + 1),
        reduce=_beyond,
    ),
    Quantity(
        name="distances",
        unit="samples",
        description="samples by |o|: bin k holds k/16 to (k + 1)/16 tokens, the last bin also all beyond",
        dims=("axis", "distance_bin"),
        dtype="int64",
        per="chunk",
        shape=lambda sites: (2, BINS_PER_TOKEN * longest_axis(sites) + 1),
        reduce=_distances,
    ),
)
HITS = (
    Quantity(
        name="hits",
        unit="samples",
        description=f"{_MOVED}; those with |o| at 0.8 to 1.2 of the distance to the object's border; on the other side",
        dims=(*_OFFSET_DIMS, "hit"),
        dtype="int32",
        separate=True,
        shape=_per_offset(5),
        labels="same",
        reduce=_hits,
    ),
    Quantity(
        name="other_hits",
        unit="samples",
        description=f"with the offsets of the next image of the chunk: {_MOVED}",
        dims=(*_OFFSET_DIMS, "other_hit"),
        dtype="int32",
        separate=True,
        shape=_per_offset(3),
        labels="crossed",
        reduce=lambda batch: _hits(batch, borders=False),
    ),
    Quantity(
        name="objects",
        unit="1, px^2, px, px, px, 1, radians",
        description=f"the largest objects: {', '.join(OBJECT_FIELDS)}; label -1: none, 0: unknown",
        dims=("object", "object_field"),
        dtype="float64",
        of="image",
        shape=lambda sites: (MAX_OBJECTS, len(OBJECT_FIELDS)),
        labels="same",
        reduce=_objects,
    ),
    Quantity(
        name="object_offsets",
        unit="tokens",
        description="by object: tokens of it, sums over these of the mean |o|, horizontal and vertical",
        dims=("object", "object_sum"),
        dtype="float64",
        shape=lambda sites: (MAX_OBJECTS, 3),
        labels="same",
        reduce=_object_sums,
    ),
    Quantity(
        name="other_object_offsets",
        unit="tokens",
        description="with the offsets of the next image of the chunk: sums over the object's tokens of the mean |o|",
        dims=("object", "axis"),
        dtype="float64",
        shape=lambda sites: (MAX_OBJECTS, 2),
        labels="crossed",
        reduce=lambda batch: _object_sums(batch)[..., 1:],
    ),
)
POSITIONS = Quantity(
    name="positions",
    unit="tokens",
    description="offsets of each token, summed over the images whose index modulo 16 is the group",
    dims=("group", *_MAP_DIMS),
    dtype="float64",
    per="chunk",
    separate=True,
    shape=lambda sites: (GROUPS, *_map_shape(sites)),
    reduce=_positions,
)
MAPS = Quantity(
    name="map",
    unit="1/64 token",
    description="offsets of every token, rounded, but not to another nearest token",
    dims=_MAP_DIMS,
    dtype="int16",
    separate=True,
    shape=_map_shape,
    reduce=_maps,
)


def asked_quantities(labels: bool, keep: Sequence[Keep]) -> tuple[Quantity, ...]:
    """Return what labels, and things to keep, add to a recording."""
    moments = MOMENTS if labels or {"moments", "positions"} & {*keep} else ()
    hits = HITS if labels else ()
    return (*moments, *hits, *([POSITIONS] if "positions" in keep else []), *([MAPS] if "maps" in keep else []))
