"""The mirror gap: exactly 0 for whatever is blind to the image, and of the right sign for planted fields."""

import dense_oracle
import numpy as np
import pytest

from atmviz.statistics.intervals import resample
from atmviz.statistics.segment import HITS, MIRRORED, MOVED, achievable_share, hit_rates, mirror_gap


def counted(offsets, labels, axis=0):
    arrays = dense_oracle.label_arrays(offsets, labels)
    return arrays["hits"][:, axis], arrays["other_hits"][:, axis]


@pytest.mark.parametrize("seed", range(3))
def test_constants_have_a_mirror_gap_of_exactly_zero_in_every_channel_and_image(seed, scenes):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, scenes.labels.shape) if seed else scenes.labels
    offsets = np.broadcast_to(draw.normal(0, 4, (2, 6)), (*labels.shape, 2, 6))
    for axis in (0, 1):
        hits, other = counted(offsets, labels, axis)
        assert hits[..., MOVED].sum() > 0
        assert (hits[..., HITS] == hits[..., MIRRORED]).all()
        assert mirror_gap(hits, resample(len(hits))).interval.low == mirror_gap(hits, resample(len(hits))).value == 0
        assert (other == hits[..., :3]).all()


def test_a_field_of_position_alone_has_the_gap_of_the_other_image(scenes):
    field = np.random.default_rng(0).normal(0, 3, (1, *scenes.to_center.shape[1:]))
    hits, other = counted(np.repeat(field, len(scenes.labels), 0), scenes.labels)
    weights = resample(len(hits))
    assert mirror_gap(hits, weights).value != 0
    assert (mirror_gap(hits, weights) - mirror_gap(other, weights)).interval.high == 0


@pytest.mark.parametrize(("sign", "above"), [(1, True), (-1, False)])
def test_offsets_to_the_center_of_their_object_hit_it_and_away_from_it_miss(scenes, sign, above):
    hits, _ = counted(sign * scenes.to_center, scenes.labels)
    gap = mirror_gap(hits, resample(len(hits))).interval
    assert (gap.low > 10) if above else (gap.high < -10)


def test_the_gap_is_hits_less_mirrored_hits_and_its_share_of_what_is_left(scenes):
    hits, _ = counted(scenes.to_center, scenes.labels, 1)
    weights = resample(len(hits))
    moved, hit, mirrored = hits.sum((0, 1))[:3]
    assert [rate.value for rate in hit_rates(hits, weights)] == [100 * hit / moved, 100 * mirrored / moved]
    assert mirror_gap(hits, weights).value == pytest.approx(100 * (hit - mirrored) / moved, rel=1e-12)
    assert achievable_share(hits, weights).value == pytest.approx(100 * (hit - mirrored) / (moved - mirrored))


def test_intervals_of_the_gap_cover_the_truth_in_93_to_97_percent_of_repetitions():
    draw = np.random.default_rng(0)
    covered, images = 0, 80
    for repetition in range(400):
        moved = draw.integers(20, 60, images)
        gap = draw.normal(0.05, 0.1, images)  # each image has its own: samples of an image depend on each other
        hit, mirrored = draw.binomial(moved, 0.5 + gap / 2), draw.binomial(moved, 0.5 - gap / 2)
        hits = np.stack([moved, hit, mirrored], 1)[:, None]
        found = mirror_gap(hits, resample(images, repetition)).interval
        covered += found.low <= 5 <= found.high
    assert 0.93 <= covered / 400 <= 0.97
