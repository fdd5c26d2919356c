"""Whether offsets end near the border of their token's segment.

Legend: N images, O distinct offsets.
"""

import numpy as np

from atmviz.statistics.measures import Estimate
from atmviz.statistics.segment import MOVED

_NEAR, _NEAR_MIRRORED = 3, 4  # entries of the last axis of `hits`


def boundary_shares(hits: np.ndarray, weights: np.ndarray) -> tuple[Estimate, Estimate]:
    """Return samples of 0.8 to 1.2 times the distance to the border ahead, and to that behind, % of those that moved.

    Constant offsets have equal shares: the distances to the right ends of runs of one label are, over all tokens, those
    to the left ends.

    Args:
        hits: Counts of each image and offset of one axis, [N, O, 5], as recorded.
        weights: See `resample`.
    """
    sums = hits.sum(1, dtype=np.float64)
    near, mirrored = (Estimate.ratio(100 * sums[:, k], sums[:, MOVED], weights) for k in (_NEAR, _NEAR_MIRRORED))
    return near, mirrored
