"""Sites of a recording. Torch-free."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from atmviz.errors import shorten
from atmviz.geometry import Placement, map_size
from atmviz.layers import LayerId
from atmviz.observe.site import Site
from atmviz.recording.query import fixed_query

# Bounds for files of unknown origin, far above what a network needs
MAX_SITES = 1000
_MAX_TOKENS = 2**14  # along an axis
_MAX_CHANNELS = 2**20
_MAX_STRIDE_PX = 2**10
_MAX_NAME = 200
_FILE_NAME = re.compile(r"\w[\w.-]*")  # arrays are named after sites


@dataclass(frozen=True)
class RecordedSite(Site):
    """A site at the input size of a recording.

    Attributes:
        grid: Map size (H, W) in tokens.
        query: The token (i, j) whose offsets are kept.
    """

    grid: tuple[int, int]
    query: tuple[int, int]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RecordedSite":
        """Read the fields of a recorded site, or what recordings of schema 1 say of a layer.

        Raises:
            KeyError, ValueError, TypeError: for anything else.
        """
        if "layer" in data:
            data = _from_schema_1(data)
        values = {field.name: data[field.name] for field in fields(cls)}
        pairs = {name: _pair(values[name]) for name in ("stride_px", "grid", "query")}
        site = cls(**{**values, **pairs, "branches": tuple(values["branches"])})
        if not site._is_sound():
            raise ValueError(f"numbers of layer {shorten(str(data['name']))}")
        return site

    def _is_sound(self) -> bool:
        (height, width), (i, j) = self.grid, self.query
        texts = self.name, self.source, self.module, *self.branches
        counts = self.channels, self.num_offsets, self.num_offsets * self.channels_per_offset
        return (
            all(isinstance(text, str) and len(text) <= _MAX_NAME for text in texts)
            and all(_FILE_NAME.fullmatch(text) for text in (self.name, self.source))
            and all(type(count) is int and 0 < count <= _MAX_CHANNELS for count in counts)
            and self.kind in ("axis", "point")
            and all(0 < stride <= _MAX_STRIDE_PX for stride in self.stride_px)
            and 0 <= i < height <= _MAX_TOKENS
            and 0 <= j < width <= _MAX_TOKENS
            and len(self.branches) > 0
        )


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    if type(first) is not int or type(second) is not int:
        raise TypeError(f"a pair of {type(first).__name__}")
    return first, second


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer of schema 1 as a site: its stride follows from its stage."""
    layer, source = LayerId.parse(data["layer"]), LayerId.parse(data["source"])
    if not 1 <= layer.stage <= 8:
        raise ValueError(f"stage {layer.stage}")
    stride = 2 ** (layer.stage + 1)
    return {
        **data,
        "name": str(layer),
        "source": str(source),
        "kind": "point" if "joint" in data["branches"] else "axis",
        "channels_per_offset": data["share"],
        "stride_px": [stride, stride],
        "grid": data["map_size"],
    }


def recorded_sites(sites: Sequence[Site], size: tuple[int, int], query: str = "center") -> list[RecordedSite]:
    """Return the sites of a recording, for an input of (height, width) px.

    Raises:
        QueryError: the query is not one token for all images, or lies outside a map.
    """
    wanted = fixed_query(query)
    whole = Placement(image=size, resized=size, origin=(0, 0), size=size)
    recorded = []
    for site in sites:
        grid = map_size(size, site.stride_px[0])
        recorded.append(RecordedSite(**vars(site), grid=grid, query=wanted.token(whole, grid, site.stride_px)))
    return recorded
