"""Offsets of every token, packed for a page. Torch-free.

Legend: H/W grid in tokens, O distinct offsets per direction.
"""

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atmviz.errors import SettingsError
from atmviz.observe.site import sources_of
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording

RECORDED_UNIT = 64
"""Steps per token in which recordings keep offsets."""
_COARSE_UNIT = 16
_OF_STEPS = RECORDED_UNIT // _COARSE_UNIT


@dataclass(frozen=True)
class Detail:
    """How much of the offsets a page holds.

    Attributes:
        sites: Its layers.
        unit: Steps per token: 64 as recorded, or 16.
        every: Of the finest maps, each how many-th token along both axes.
        reduced: What is left out, by the name of the step that leaves it out.
    """

    sites: Sequence[RecordedSite]
    unit: int = RECORDED_UNIT
    every: int = 1
    reduced: Mapping[str, str] = field(default_factory=dict)

    def step(self, site: RecordedSite) -> int:
        """Return each how many-th token of a layer is held."""
        return self.every if site.stride_px == min(each.stride_px for each in self.sites) else 1


def details(sites: Sequence[RecordedSite], fewer: Sequence[RecordedSite]) -> list[Detail]:
    """Return the levels of detail of a page, the largest first.

    Args:
        sites: Layers to show.
        fewer: Those of them that are shown where there is no room for all.
    """
    coarse = {
        "1/16 token": "offsets in steps of 1/16 token (1/64 is recorded); the token nearest to a sample stays the same"
    }
    sparse = {"every second token": f"layers of stride {min(sites[0].stride_px)}: every second token"}
    few = {"few layers": f"layers {', '.join(site.name for site in fewer)} of {len(sites)}"}
    levels = [
        Detail(sites),
        Detail(sites, _COARSE_UNIT, 1, coarse),
        Detail(sites, _COARSE_UNIT, 2, coarse | sparse),
    ]
    return levels if len(fewer) == len(sites) else [*levels, Detail(fewer, _COARSE_UNIT, 1, coarse | few)]


def coarser(offsets: np.ndarray) -> np.ndarray:
    """Return offsets in steps of 1/16 token, from steps of 1/64; a sample's nearest token stays the same.

    Args:
        offsets: Steps of 1/64 token, int16, of any shape.

    Returns:
        Steps of 1/16 token, int16: the nearest step, or the one beside it where that would be nearest to another token.
    """
    exact = offsets / _OF_STEPS
    steps = np.rint(exact)
    moved = np.rint(steps / _COARSE_UNIT) != np.rint(offsets / RECORDED_UNIT)
    return np.where(moved, steps - np.sign(steps - exact), steps).astype(np.int16)


def pack(maps: Sequence[np.ndarray]) -> str:
    """Return offsets as text.

    Each map, [H, W, 2, O], int16, becomes differences along W of [2, O, H, W], then their low and their high bytes. All
    of them are compressed by gzip and written in base64. The same maps give the same text.
    """
    parts = []
    for offsets in maps:
        first = offsets.transpose(2, 3, 0, 1)
        steps = np.diff(first, axis=-1, prepend=np.int16(0)).astype("<i2")  # wraps around, as adding them up does
        parts.append(np.ascontiguousarray(steps).view(np.uint8).reshape(-1, 2).T.tobytes())
    return base64.b64encode(gzip.compress(b"".join(parts), 6, mtime=0)).decode()


def read_maps(recording: Recording, sites: Sequence[RecordedSite], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the offsets of every token by layer that generates them, [images, H, W, 2, O], int16, in 1/64 token.

    Args:
        recording: A recording that keeps maps.
        sites: Layers.
        names: Names of recorded images, in any order.
    """
    indices = np.array([recording.attrs["images"].index(name) for name in names])
    order = np.argsort(indices)
    maps = {}
    for source in sources_of(sites):
        start, parts = 0, []
        for rows in recording.raw_rows(f"map_{source}"):
            inside = indices[order][(indices[order] >= start) & (indices[order] < start + len(rows))]
            parts.append(rows[inside - start])
            start += len(rows)
            if start > indices.max():  # a recording may hold more images than fit into memory
                break
        maps[source] = np.concatenate(parts)[np.argsort(order)]
    return maps


def packed(maps: Mapping[str, np.ndarray], detail: Detail, room: int) -> list[str] | None:
    """Return the offsets of each image as a text; None where they need more than `room` bytes."""
    held = []
    for name, site in sources_of(detail.sites).items():
        step = detail.step(site)
        held.append(maps[name][:, ::step, ::step])
    texts: list[str] = []
    for parts in zip(*held, strict=True):
        texts.append(pack(parts if detail.unit == RECORDED_UNIT else [coarser(offsets) for offsets in parts]))
        if sum(map(len, texts)) > room:
            return None
    return texts


def require_same(first: Recording, second: Recording) -> list[str]:
    """Return the images that two recordings share, in the order of the first.

    Raises:
        SettingsError: they share none, or differ in preprocessing or in their layers.
    """

    def described(recording: Recording) -> Mapping[str, Any]:
        keys = ("name", "source", "kind", "channels", "num_offsets", "channels_per_offset", "stride_px", "grid")
        layers = [[getattr(site, key) for key in keys] for site in recording.sites]
        return {"preprocessing": recording.preprocessing, "layers": layers}

    known = set(second.images)
    shared = [name for name in first.images if name in known]
    differing = [key for key, value in described(first).items() if value != described(second)[key]]
    if not shared or differing:
        what = " and ".join(differing) or "images"
        raise SettingsError(
            f"{first.path} and {second.path} differ in {what}, expected two recordings of the same images and layers: "
            "repeat the first one with other weights"
        )
    return shared
