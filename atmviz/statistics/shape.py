"""Whether offsets are longer along the longer side of an object: the slope of anisotropy.

Legend: N images, M objects, K permutations.

Source: Sec. 3.2 (offsets adapt to the shape of objects).
"""

import math

import numpy as np

from atmviz.recording.label_quantities import OBJECT_FIELDS
from atmviz.statistics.intervals import ROUNDING, Interval
from atmviz.statistics.measures import Estimate

PERMUTATIONS = 200


def log_aspect(objects: np.ndarray) -> np.ndarray:
    """Return log(extent_h / extent_v) of the visible pixels of each object, [N, M]; NaN where one is 0."""
    extents = (objects[..., OBJECT_FIELDS.index(name)] for name in ("extent_h_px", "extent_v_px"))
    horizontal, vertical = (np.log(np.where(extent > 0, extent, np.nan)) for extent in extents)
    return horizontal - vertical


def anisotropy_slope(aspect: np.ndarray, anisotropy: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the slope of log(mean |o_h| / mean |o_v|) in log(extent_h / extent_v) over all objects.

    Args:
        aspect, anisotropy: Logarithms, [N, M]; an object that is NaN in either is left out.
        weights: See `resample`.

    Returns:
        The slope; NaN where all aspects are equal.
    """
    usable = np.isfinite(aspect) & np.isfinite(anisotropy)
    middle = aspect[usable].mean() if usable.any() else 0.0
    x, y = np.where(usable, aspect - middle, 0.0), np.where(usable, anisotropy, 0.0)
    sums = [(x * y).sum(1), (x * x).sum(1), x.sum(1), y.sum(1), usable.sum(1)]

    def slope(totals: np.ndarray) -> np.ndarray:
        xy, xx, sum_x, sum_y, count = totals
        spread = count * xx - sum_x**2
        return (count * xy - sum_x * sum_y) / np.where(spread > ROUNDING * count * xx, spread, np.nan)

    return Estimate.of_sums(np.stack(sums, 1).astype(np.float64), weights, slope)


def permuted_slopes(aspect: np.ndarray, anisotropy: np.ndarray, scale: np.ndarray, seed: int = 0) -> Interval:
    """Return the null of `anisotropy_slope`: masks permuted among objects of the same quarter of scale.

    Args:
        aspect, anisotropy: See `anisotropy_slope`.
        scale: Logarithms of the objects' scale, [N, M].
        seed: Of the permutations.

    Returns:
        The mean slope over 200 permutations, with the range of 95 % of them; NaN where all aspects are equal.
    """
    usable = np.isfinite(aspect) & np.isfinite(anisotropy) & np.isfinite(scale)
    x, y, scales = aspect[usable], anisotropy[usable], scale[usable]
    if len(x) < 2 or not np.ptp(x) > ROUNDING * np.abs(x).max():
        return Interval(math.nan)
    quarter = np.searchsorted(np.quantile(scales, (0.25, 0.5, 0.75)), scales)
    order = np.argsort(quarter, kind="stable")
    x, y, quarter = x[order], y[order], quarter[order]
    draw = np.random.default_rng(seed)
    keys = quarter + draw.random((PERMUTATIONS, len(x)))  # sorted, they are permuted within each quarter
    permuted = x[np.argsort(keys, axis=1)]
    slopes = (permuted - x.mean()) @ (y - y.mean()) / ((x - x.mean()) ** 2).sum()
    return Interval.of_draws(float(slopes.mean()), slopes)
