"""The change of a metric between two evaluations of the same images: interval over images and p-value. Torch-free.

Legend: N images, K classes, G groups, D draws.
"""

import math
from dataclasses import dataclass

import numpy as np

from atmviz.statistics.intervals import DRAWS, MIN_IMAGES, T_QUANTILE, Interval, jackknife_error, resample

GROUPS = 16
"""Groups of images for a metric that cannot be drawn again: an image is in group (its number mod 16)."""


@dataclass(frozen=True)
class Right:
    """Whether each image is classified right, [N], bool."""

    values: np.ndarray


@dataclass(frozen=True)
class Overlaps:
    """Pixels of each image and class, both [N, K]: those true and predicted, and those true or predicted."""

    intersections: np.ndarray
    unions: np.ndarray


@dataclass(frozen=True)
class WithoutGroups:
    """A metric over the images that are not in each of the groups, [G], percent; no value for fewer than G images."""

    values: np.ndarray


Outcomes = Right | Overlaps | WithoutGroups
"""What an evaluation keeps of each image, in order of the images."""


def paired_change(change: float, before: Outcomes, after: Outcomes) -> tuple[Interval, float]:
    """Return the interval of a metric's change over images, in points of percent, and its two-sided p-value.

    Args:
        change: Metric after less metric before.
        before, after: Outcomes of the same kind and images.

    Returns:
        Top-1: percentile bootstrap, and McNemar's exact test. mIoU: percentile bootstrap; average precision: jackknife
        over groups; both with the normal p-value of the change.
    """
    if isinstance(before, Right) and isinstance(after, Right):
        return Interval.of_draws(change, top1_changes(before, after)), mcnemar(before.values, after.values)
    if isinstance(before, Overlaps) and isinstance(after, Overlaps):
        weights = resample(len(before.unions))
        interval = Interval.of_draws(change, miou_draws(after, weights) - miou_draws(before, weights))
    else:
        assert isinstance(before, WithoutGroups)
        assert isinstance(after, WithoutGroups)
        interval = jackknife(change, after.values - before.values)
    return interval, interval.p_value(0)


def top1_changes(before: Right, after: Right, seed: int = 0) -> np.ndarray:
    """Return the change of top-1 in D draws of N images with replacement, [D], points of percent.

    The number of images lost, gained and unchanged is all that a draw changes: it is drawn in place of the images. No
    draws, [0], for fewer than 8 images.
    """
    images = len(before.values)
    if images < MIN_IMAGES:
        return np.empty(0)
    lost, gained = (np.mean(a & ~b) for a, b in ((before.values, after.values), (after.values, before.values)))
    counts = np.random.default_rng(seed).multinomial(images, (lost, gained, 1 - lost - gained), DRAWS)
    return 100 * (counts[:, 1] - counts[:, 0]) / images


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """Return the exact two-sided p-value of McNemar's test: images lost and gained are equally likely.

    Args:
        before, after: Whether each image is right, [N], bool.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, 1947; in its exact
        form the sign test of the images whose outcome changes.

    >>> round(mcnemar(np.array([True] * 5), np.array([False] * 5)), 4)
    0.0625
    """
    lost, gained = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    changed, few = lost + gained, np.arange(1, min(lost, gained) + 1)
    binomials = np.cumsum([-changed * math.log(2), *np.log((changed - few + 1) / few)])  # logarithms
    return min(1.0, 2 * float(np.exp(binomials).sum()))


def miou_draws(overlaps: Overlaps, weights: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent of each draw of images, [D]; classes without pixels in a draw are left out of it.

    Args:
        overlaps: Pixels of each image.
        weights: How often each image is drawn, [D, N]; see `resample`.
    """
    unions = weights @ overlaps.unions
    with np.errstate(divide="ignore", invalid="ignore"):
        ious = (weights @ overlaps.intersections) / unions
    return 100 * np.ma.masked_invalid(ious).mean(1).filled(np.nan)


def jackknife(estimate: float, without: np.ndarray) -> Interval:
    """Return the interval of an estimate from its values without each of G groups, [G].

    Returns:
        No interval where a value is missing.

    Source: the delete-one-group jackknife, with Student's t of G - 1 degrees of freedom.
    """
    if len(without) != GROUPS or not np.isfinite(without).all():
        return Interval(estimate)
    error = float(jackknife_error(without))
    return Interval(estimate, estimate - T_QUANTILE * error, estimate + T_QUANTILE * error, error)
