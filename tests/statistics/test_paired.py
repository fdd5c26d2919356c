"""Changes between two evaluations of the same images: against images drawn one by one, scipy and written-out sums."""

import numpy as np
import pytest
from scipy.stats import binomtest, t

from atmviz.statistics import paired
from atmviz.statistics.intervals import resample
from atmviz.statistics.paired import Overlaps, Right, WithoutGroups, jackknife, mcnemar, miou_draws, paired_change


def right(rng, images, share):
    return Right(rng.random(images) < share)


def test_the_interval_of_top1_is_that_of_images_drawn_one_by_one():
    rng = np.random.default_rng(0)
    before, after = right(rng, 400, 0.8), right(rng, 400, 0.5)
    change = 100 * (after.values.mean() - before.values.mean())
    interval, p = paired_change(change, before, after)
    draws = 100 * resample(400, seed=7) @ (after.values * 1.0 - before.values) / 400
    assert (interval.low, interval.high) == pytest.approx(np.percentile(draws, (2.5, 97.5)), abs=0.6)
    assert interval.error == pytest.approx(draws.std(), rel=0.06)
    assert interval.estimate == change
    assert 0 < p < 1e-6


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_the_interval_of_top1_covers_the_true_change(share):
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        before, after = right(rng, 200, 0.9), right(rng, 200, share)
        interval, _ = paired_change(100 * (after.values.mean() - before.values.mean()), before, after)
        covered += interval.low <= 100 * (share - 0.9) <= interval.high
    assert 0.93 <= covered / 400 <= 0.97


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 0), (3, 3), (2, 9), (700, 750), (30_000, 29_000)])
def test_mcnemars_p_value_is_that_of_the_sign_test(lost, gained):
    before = np.repeat([True, False, True, False], [lost, gained, 7, 2])
    after = np.repeat([False, True, True, False], [lost, gained, 7, 2])
    expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1
    assert mcnemar(before, after) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(after, before) == mcnemar(before, after)


def overlaps(rng, images, classes, share):
    unions = rng.integers(0, 100, (images, classes))
    unions[:, -1] = 0
    return Overlaps(rng.binomial(unions, share), unions)


def test_the_miou_of_a_draw_is_that_of_its_images():
    found = overlaps(np.random.default_rng(0), 12, 4, 0.5)
    weights = resample(12)[:3]
    for draw, value in zip(weights, miou_draws(found, weights), strict=True):
        chosen = np.repeat(np.arange(12), draw.astype(int))
        ious = [found.intersections[chosen, k].sum() / found.unions[chosen, k].sum() for k in range(3)]
        assert value == pytest.approx(100 * np.mean(ious))


def test_the_interval_of_miou_is_paired():
    rng = np.random.default_rng(0)
    before = overlaps(rng, 40, 3, 0.8)
    after = Overlaps(np.maximum(before.intersections - 2, 0), before.unions)
    change = (miou_draws(after, np.ones((1, 40))) - miou_draws(before, np.ones((1, 40)))).item()
    interval, p = paired_change(change, before, after)
    assert interval.low < change < interval.high < 0
    alone = np.percentile(miou_draws(before, resample(40)), (2.5, 97.5))
    assert interval.high - interval.low < 0.5 * (alone[1] - alone[0])
    assert p < 1e-6


def test_the_jackknife_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(0).normal(size=paired.GROUPS)
    without = (values.sum() - values) / (paired.GROUPS - 1)
    interval = jackknife(values.mean(), without)
    error = values.std(ddof=1) / np.sqrt(paired.GROUPS)
    assert interval.error == pytest.approx(error)
    assert (interval.low, interval.high) == pytest.approx(
        t.interval(0.95, paired.GROUPS - 1, values.mean(), error), rel=1e-4
    )


def test_the_jackknife_covers_the_true_ratio():
    """Of images that differ: the sum of what is right over the sum of all, with a mean of 0.8."""
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 200, 80)
        right = rng.binomial(sizes, rng.beta(8, 2, 80))
        kept = [np.arange(80) % paired.GROUPS != group for group in range(paired.GROUPS)]
        interval = jackknife(right.sum() / sizes.sum(), np.array([right[k].sum() / sizes[k].sum() for k in kept]))
        covered += interval.low <= 0.8 <= interval.high
    assert 0.93 <= covered / 400 <= 0.97


def test_nothing_changed_is_an_interval_of_no_width():
    found = right(np.random.default_rng(0), 20, 0.5)
    interval, p = paired_change(0.0, found, found)
    assert (interval.low, interval.high, p) == (0, 0, 1)


@pytest.mark.parametrize(
    "found",
    [Right(np.ones(7, bool)), Overlaps(np.ones((7, 2)), np.ones((7, 2))), WithoutGroups(np.empty(0))],
    ids=["top-1", "mIoU", "AP"],
)
def test_few_images_have_no_interval(found):
    interval, _ = paired_change(-1.0, found, found)
    assert interval.estimate == -1
    assert np.isnan([interval.low, interval.high]).all()


def test_a_group_without_a_value_leaves_no_interval():
    without = np.ones(paired.GROUPS)
    without[3] = np.nan
    assert np.isnan(jackknife(1.0, without).low)
