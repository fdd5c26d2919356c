"""How often each token is sampled, over the queries of all tokens.

Legend: H/W grid in tokens, O distinct offsets per direction.
"""

from typing import Literal

import numpy as np

from atmviz.statistics.sampling import nearest_index


def sampling_density(
    offsets: np.ndarray, channels_per_offset: int = 1, kind: Literal["axis", "point"] = "axis"
) -> np.ndarray:
    """Count the samples nearest to each token, over all query tokens and channels.

    Args:
        offsets: Offsets of all tokens, [H, W, 2, O], tokens; axis 2: horizontal, vertical.
        channels_per_offset: Channels that share an offset, each of which counts.
        kind: "axis": each offset is one sample, on its query token's row or column. "point": a channel's two offsets
            give one 2-D sample.

    Returns:
        int64, [2, H, W] (horizontal, vertical) for axes, [H, W] for points. Samples outside the map are in no count.
    """
    height, width = offsets.shape[:2]
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    to_columns = nearest_index(offsets[:, :, 0], columns, width)
    to_rows = nearest_index(offsets[:, :, 1], rows, height)
    if kind == "point":
        return _count(to_rows, to_columns, (height, width)) * channels_per_offset
    both = [(rows, to_columns), (to_rows, columns)]
    return np.stack([_count(*targets, (height, width)) for targets in both]) * channels_per_offset


def _count(rows: np.ndarray, columns: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    rows, columns = np.broadcast_arrays(rows, columns)
    inside = (rows >= 0) & (rows < grid[0]) & (columns >= 0) & (columns < grid[1])
    flat = np.ravel_multi_index((rows[inside], columns[inside]), grid)
    return np.bincount(flat, minlength=grid[0] * grid[1]).reshape(grid)
