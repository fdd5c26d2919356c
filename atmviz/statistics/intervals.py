"""Intervals over images, p-values and their correction: what every answer with an interval shares. Torch-free.

Images are the unit that is drawn again: tokens and objects of one image depend on each other.

Legend: N images, D draws.
"""

import math
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
T_QUANTILE = 2.131449545559323
"""97.5 % of Student's t with 15 degrees of freedom, for the jackknife over 16 groups."""
MIN_IMAGES = 8
"""Of fewer images no interval is given."""
ROUNDING = 1e-12
"""Differences below it are those of rounding: they say nothing, however often they are drawn again."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval over images.

    Attributes:
        estimate: The value over all images; NaN where nothing can be estimated.
        low, high: Ends of the interval; NaN for fewer than 8 images.
        error: Standard error: the standard deviation over the draws; NaN for fewer than 8 images.
    """

    estimate: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan

    @classmethod
    def of_draws(cls, estimate: float, draws: np.ndarray) -> "Interval":
        """Return the percentile interval of what D draws of images gave, [D]; see `resample`."""
        draws = draws[np.isfinite(draws)]
        if len(draws) < 2:
            return cls(float(estimate))
        low, high = np.percentile(draws, (2.5, 97.5))
        return cls(float(estimate), float(low), float(high), float(draws.std(ddof=1)))

    def p_value(self, null: float) -> float:
        """Return the two-sided p-value of the estimate under a null value, by its standard error; NaN without one."""
        difference = abs(self.estimate - null)
        if math.isnan(self.error) or difference < ROUNDING:
            return math.nan if math.isnan(self.error) else 1.0
        return math.erfc(difference / self.error / math.sqrt(2)) if self.error > 0 else 0.0


def resample(images: int, seed: int = 0) -> np.ndarray:
    """Draw N images with replacement, D times, and return how often each is drawn, [D, N], float64.

    Returns:
        No draws, [0, N], for fewer than 8 images.
    """
    if images < MIN_IMAGES:
        return np.empty((0, images))
    draw, times = np.random.default_rng(seed), np.empty((DRAWS, images))
    for row in times:
        row[:] = np.bincount(draw.integers(0, images, images), minlength=images)
    return times


def ratio_interval(numerators: np.ndarray, denominators: np.ndarray, weights: np.ndarray) -> Interval:
    """Return the interval of the sum of numerators [N] over the sum of denominators [N].

    Args:
        numerators, denominators: Sums of each image.
        weights: See `resample`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = np.divide(numerators.sum(), denominators.sum())
        return Interval.of_draws(estimate, (weights @ numerators) / (weights @ denominators))


def jackknife_error(without: np.ndarray) -> np.ndarray:
    """Return the standard error of a value from what it is without each of G groups, [G, ...]."""
    return np.sqrt((len(without) - 1) * without.var(axis=0))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values [K] corrected by Holm for K tests; those that are NaN are no tests.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    corrected = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return corrected
