"""Estimates over draws of images, and the rows of claims: intervals, correction and verdicts."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from atmviz.statistics.intervals import Interval, holm, ratio_interval, resample
from atmviz.statistics.measures import DEFINITIONS, Estimate, Measured, claim_rows
from atmviz.statistics.reach import DEFINITION

WEIGHTS = resample(40)


def measured(measure, values, null=0.0, layer="1_1", axis="horizontal"):
    estimate = Estimate.ratio(np.asarray(values, float), np.ones(len(values)), resample(len(values)))
    return Measured.of((measure, layer, axis), estimate, null, len(values), 100)


def around(mean, images=40, seed=0):
    return mean + np.random.default_rng(seed).normal(0, 1, images)


def test_a_ratio_has_the_interval_of_the_ratio_of_sums():
    draw = np.random.default_rng(0)
    numerators, denominators = draw.random((2, 40))
    ours, known = (function(numerators, denominators, WEIGHTS) for function in (Estimate.ratio, ratio_interval))
    assert vars(ours.interval) == pytest.approx(vars(known), rel=1e-12)


def test_a_difference_is_paired_by_image():
    hard, noise = around(0) * 100, around(1, seed=1) / 10
    ours, theirs = measured("reach", hard + noise), measured("reach", hard)
    difference = ours.less(theirs).effect.interval
    assert difference.high - difference.low < 0.1 < ours.estimate.interval.high - ours.estimate.interval.low


def test_a_difference_of_a_recording_to_itself_is_nothing():
    (row,) = claim_rows([measured("growth", around(2), 1.0).less(measured("growth", around(2), 1.0))], differences=True)
    assert [row[name] for name in ("estimate", "low", "high", "null", "effect", "p")] == [0, 0, 0, 0, 0, 1]
    assert row["verdict"] == "not decidable"


@pytest.mark.parametrize(("mean", "verdict"), [(2, "holds"), (-2, "fails"), (0, "not decidable")])
def test_a_claim_holds_above_its_null_and_fails_below(mean, verdict):
    (row,) = claim_rows([measured("mirror_gap", around(mean), 0.0)])
    assert row["verdict"] == verdict
    assert row["low"] < row["estimate"] < row["high"]


@pytest.mark.parametrize(("mean", "verdict"), [(2, "higher"), (-2, "lower"), (0, "not decidable")])
def test_differences_are_higher_or_lower(mean, verdict):
    difference = measured("reach", around(mean)).less(measured("reach", around(0, seed=1)))
    assert claim_rows([difference], differences=True)[0]["verdict"] == verdict


def test_what_only_describes_is_not_tested():
    (row,) = claim_rows([measured("reach", around(9))])
    assert (row["verdict"], row["effect"]) == ("", row["estimate"])
    assert math.isnan(row["p"])
    assert math.isnan(row["p_corrected"])


def test_p_values_are_corrected_over_the_layers_and_axes_of_one_measure():
    layers = [measured("mirror_gap", around(0.4 * k, seed=k), layer=f"1_{k}") for k in range(1, 4)]
    rows = claim_rows([*layers, measured("boundary", around(0.4))])
    assert [row["p_corrected"] for row in rows[:3]] == holm(np.array([row["p"] for row in rows[:3]])).tolist()
    assert rows[3]["p_corrected"] == rows[3]["p"]


def test_nothing_is_decided_by_seven_images():
    (row,) = claim_rows([measured("mirror_gap", around(50, 7))])
    assert row["verdict"] == "not decidable"
    assert row["estimate"] > 40
    assert math.isnan(row["low"])


def test_images_that_say_nothing_do_not_count_among_the_eight():
    denominators = np.zeros(40)
    denominators[:7] = 1
    assert len(Estimate.ratio(np.ones(40), denominators, WEIGHTS).draws) == 0
    denominators[7] = 1
    assert len(Estimate.ratio(np.ones(40), denominators, WEIGHTS).draws) == len(WEIGHTS)


def test_a_known_null_has_no_interval_and_a_measured_one_has():
    known, other = measured("reach", around(3), 0.5), measured("reach", around(3), Interval(1, 0.5, 1.5))
    paired = measured("reach", around(3), measured("reach", around(1)).estimate)
    rows = [claim_rows([each])[0] for each in (known, other, paired)]
    assert [(row["null"], row["null_low"], row["null_high"]) for row in rows[:2]] == [(0.5, None, None), (1, 0.5, 1.5)]
    assert rows[2]["null_low"] < rows[2]["null"] < rows[2]["null_high"]
    assert rows[2]["effect_high"] - rows[2]["effect_low"] < 1e-9  # the same noise in both


def test_definitions_are_those_of_the_docs():
    pages = Path(__file__).parents[2].glob("docs/definitions/*.md")
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    rows = [line for line in lines if re.match(r"\| `\w+/\d", line)]
    ids = {name: "**tested**" in row for row in rows for name in re.findall(r"`(\w+/\d)`", row)}
    assert ids == {each.id: each.tested for each in DEFINITIONS.values()} | {DEFINITION: False}
