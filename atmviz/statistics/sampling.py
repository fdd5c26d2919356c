"""The tokens that one query token samples in one layer.

Legend: C channels, H/W grid in tokens, M sampled tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Direction = Literal["horizontal", "vertical", "point"]
"""How samples are taken: along the query token's row, along its column, or anywhere."""


def nearest_index(offsets: np.ndarray, query_index: int | np.ndarray, size: int) -> np.ndarray:
    """Return the index along an axis of the token nearest to each sample, int64; halves go to the even offset.

    Args:
        offsets: Offsets of samples along the axis, tokens.
        query_index: Index of the query token, or of each.
        size: Tokens along the axis. -1 and `size` stand for samples nearest to a token outside the map.
    """
    return np.clip(np.rint(offsets) + query_index, -1, size).astype(np.int64)


@dataclass(frozen=True)
class SampledTokens:
    """Sampled tokens of one direction.

    Attributes:
        positions: (i, j) of each sampled token, int64, [M, 2], sorted.
        counts: Channels that sample each token, [M].
    """

    positions: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class SamplingMap:
    """The tokens that one query token samples in one layer.

    Attributes:
        grid: (H, W) in tokens.
        query: The query token (i, j).
        channels: C; with several samples per channel, the number of samples per direction.
        samples: Sampled tokens by direction: "horizontal" and "vertical", or "point" where a sample is a 2-D point.
        outside: Channels whose sample lies outside the map, by side: left, right, top, bottom. A point beyond a corner
            counts on both sides.
    """

    grid: tuple[int, int]
    query: tuple[int, int]
    channels: int
    samples: Mapping[Direction, SampledTokens]
    outside: Mapping[str, int]

    def along(self, direction: Literal["horizontal", "vertical"]) -> np.ndarray:
        """Return how many channels sample each token of the query token's row, [W], or of its column, [H]."""
        axis = 1 if direction == "horizontal" else 0
        sampled = self.samples[direction]
        counts = np.zeros(self.grid[axis], np.int64)
        counts[sampled.positions[:, axis]] = sampled.counts
        return counts

    def only(self, direction: Literal["horizontal", "vertical"]) -> "SamplingMap":
        """Return the samples along one axis; 2-D points, which have none, as they are."""
        if "point" in self.samples:
            return self
        sides = ("left", "right") if direction == "horizontal" else ("top", "bottom")
        outside = {side: self.outside[side] for side in sides}
        return replace(self, samples={direction: self.samples[direction]}, outside=outside)


def sampling_map(
    offsets: np.ndarray, query: tuple[int, int], grid: tuple[int, int], kind: Literal["axis", "point"] = "axis"
) -> SamplingMap:
    """Count the channels that sample each token.

    Args:
        offsets: Offsets of the query token, [2, C], tokens; axis 0: horizontal, vertical.
        query: The query token (i, j).
        grid: (H, W) in tokens.
        kind: "axis": each offset is one sample, on the query token's row or column. "point": a channel's two
            offsets give one 2-D sample.

    Returns:
        Sampled tokens with their counts, and the samples outside the map.
    """
    rows = nearest_index(offsets[1], query[0], grid[0])
    columns = nearest_index(offsets[0], query[1], grid[1])
    in_rows, in_columns = (rows >= 0) & (rows < grid[0]), (columns >= 0) & (columns < grid[1])
    samples: dict[Direction, SampledTokens]
    if kind == "point":
        inside = in_rows & in_columns
        samples = {"point": _count(rows[inside], columns[inside])}
    else:
        samples = {
            "horizontal": _count(np.full(in_columns.sum(), query[0]), columns[in_columns]),
            "vertical": _count(rows[in_rows], np.full(in_rows.sum(), query[1])),
        }
    sides = {"left": columns < 0, "right": columns >= grid[1], "top": rows < 0, "bottom": rows >= grid[0]}
    outside = {side: int(beyond.sum()) for side, beyond in sides.items()}
    return SamplingMap(grid, query, offsets.shape[1], samples, outside)


def _count(rows: np.ndarray, columns: np.ndarray) -> SampledTokens:
    return SampledTokens(*np.unique(np.stack([rows, columns], axis=1), axis=0, return_counts=True))
