"""What one query samples, how often tokens are sampled, and fusion weights, as rows of a table.

All rows begin with `layer` and `source`, the layer whose offsets it uses.
"""

from typing import Any

import numpy as np

from atmviz.observe.site import Site
from atmviz.statistics.fusion import BranchWeights
from atmviz.statistics.sampling import SamplingMap

_SIDES = {  # axis, and whether it is before the first token
    "left": ("horizontal", True),
    "right": ("horizontal", False),
    "top": ("vertical", True),
    "bottom": ("vertical", False),
}


def sample_rows(site: Site, query: str, samples: SamplingMap) -> list[dict[str, Any]]:
    """Return one row per sampled token and direction.

    Columns:
        query: The query as text.
        axis: "horizontal", "vertical" or "point".
        i, j: Row and column of the sampled token; beyond the map "<0" or e.g. ">13", and of a point beyond a side only
            that.
        dy, dx: The same from the query token on, tokens.
        channels: Channels that sample it.
        share: Fraction of all channels.
    """
    (qi, qj), (height, width) = samples.query, samples.grid
    head = {"layer": site.name, "source": site.source, "query": query}

    def row(axis: str, places: dict[str, Any], count: int) -> dict[str, Any]:
        return {**head, "axis": axis, **places, "channels": count, "share": count / samples.channels}

    rows = [
        row(direction, {"i": i, "j": j, "dy": i - qi, "dx": j - qj}, count)
        for direction, sampled in samples.samples.items()
        for (i, j), count in zip(sampled.positions.tolist(), sampled.counts.tolist(), strict=True)
    ]
    is_point = "point" in samples.samples
    inside = dict.fromkeys(("i", "j", "dy", "dx"), "") if is_point else {"i": qi, "j": qj, "dy": 0, "dx": 0}
    for side, count in samples.outside.items():
        axis, is_before = _SIDES[side]
        index, offset, own, size = ("j", "dx", qj, width) if axis == "horizontal" else ("i", "dy", qi, height)
        last = size - 1
        beyond = {index: "<0", offset: f"<{-own}"} if is_before else {index: f">{last}", offset: f">{last - own}"}
        if count:
            rows.append(row("point" if is_point else axis, inside | beyond, count))
    return rows


def density_rows(site: Site, axis: str, per_channel: np.ndarray) -> list[dict[str, Any]]:
    """Return one row per token: `axis`, `i`, `j`, `samples` of all channels, and `per_channel`, samples per channel."""
    return [
        {
            "layer": site.name,
            "source": site.source,
            "axis": axis,
            "i": i,
            "j": j,
            "samples": round(value * site.channels),
            "per_channel": value,
        }
        for (i, j), value in _values(per_channel)
    ]


def fusion_rows(site: Site, branch: str, weights: np.ndarray) -> list[dict[str, Any]]:
    """Return one row per token: `branch`, `i`, `j`, and `weight`, the mean over the channels."""
    head = {"layer": site.name, "source": site.source, "branch": branch}
    return [{**head, "i": i, "j": j, "weight": value} for (i, j), value in _values(weights)]


def weight_rows(site: Site, weights: BranchWeights) -> list[dict[str, Any]]:
    """Return one row per branch: `branch`, `weight`, the mean over the channels, `weight_p10` and `weight_p90`."""
    head = {"layer": site.name, "source": site.source}
    columns = (weights.branches, weights.mean.tolist(), weights.low.tolist(), weights.high.tolist())
    return [
        {**head, "branch": branch, "weight": mean, "weight_p10": low, "weight_p90": high}
        for branch, mean, low, high in zip(*columns, strict=True)
    ]


def _values(values: np.ndarray) -> list[tuple[tuple[int, int], float]]:
    return [((i, j), value) for i, row in enumerate(values.tolist()) for j, value in enumerate(row)]
