"""Whether offsets stay in the segment of their token: hits of the offset and of its mirror image.

For a set of tokens and a fixed offset d, as many tokens have their partner in the set at +d as at -d. An offset that is
blind to the image therefore has a mirror gap of exactly 0, whatever its length and whatever the objects.

Legend: N images, O distinct offsets.

Source: Sec. 3.2 and A2.1 ("semantic-relevant regions").
"""

import numpy as np

from atmviz.statistics.measures import Estimate

MOVED, HITS, MIRRORED = range(3)
"""Entries of the last axis of `hits`: samples that moved, those with the label of their token, those mirrored."""


def mirror_gap(hits: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return hits less mirrored hits, % of the moved samples of labeled tokens (percentage points).

    Args:
        hits: Counts of each image and offset of one axis, [N, O, 3 or more]; also `other_hits` of a recording.
        weights: See `resample`.
    """
    sums = hits.sum(1, dtype=np.float64)
    return Estimate.ratio(100 * (sums[:, HITS] - sums[:, MIRRORED]), sums[:, MOVED], weights)


def hit_rates(hits: np.ndarray, weights: np.ndarray) -> tuple[Estimate, Estimate]:
    """Return the hits and the mirrored hits, % of the moved samples; see `mirror_gap`."""
    sums = hits.sum(1, dtype=np.float64)
    hit, mirrored = (Estimate.ratio(100 * sums[:, kind], sums[:, MOVED], weights) for kind in (HITS, MIRRORED))
    return hit, mirrored


def achievable_share(hits: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the mirror gap as % of the largest that the mirrored hits leave: 100 M / (1 - H(-o))."""
    sums = hits.sum(1, dtype=np.float64)
    return Estimate.ratio(100 * (sums[:, HITS] - sums[:, MIRRORED]), sums[:, MOVED] - sums[:, MIRRORED], weights)
