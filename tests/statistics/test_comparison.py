"""Two recordings of chosen offsets compared: known distances, scipy, plain numpy, and how often intervals are right."""

import math

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance

from atmviz.errors import LayerNotFoundError, RecordingFormatError
from atmviz.models import create_model
from atmviz.models.token_mixer import OffsetLayer
from atmviz.statistics.comparison import compare_recordings, distance_interval, wasserstein1
from atmviz.statistics.depth import untrained_reach
from atmviz.statistics.intervals import resample

GRID = (6, 9)


def field(images=3, grid=GRID, spread=1.0, seed=0, samples=2):
    """Random offsets, well inside a map, that differ by image."""
    random = np.random.default_rng(seed)
    scale = spread * random.uniform(0.5, 1.5, (images, 1, 1, 1, 1))
    return np.clip(scale * random.normal(size=(images, *grid, 2, samples)), -4, 4)


@pytest.fixture
def compare(write_recording, tmp_path):
    """`compare(offsets of A, offsets of B)` writes both and compares them."""

    def run(a, b, of_a=(), of_b=(), **settings):
        first = write_recording(tmp_path / "a", a if isinstance(a, dict) else {"3_1": a}, **dict(of_a))
        second = write_recording(tmp_path / "b", b if isinstance(b, dict) else {"3_1": b}, **dict(of_b))
        return compare_recordings(first, second, **settings)

    return run


def column(comparison, name):
    return [row[name] for row in comparison.rows]


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_of_histograms_is_scipy_s(seed):
    random = np.random.default_rng(seed)
    positions = [np.sort(random.choice(1000, size, replace=False)) / 7 for size in (13, 29)]
    counts = [random.integers(0, 50, len(own)) for own in positions]
    expected = wasserstein_distance(*positions, *counts)
    assert wasserstein1(positions[0], counts[0], positions[1], counts[1]) == pytest.approx(expected, rel=1e-12)


def test_distances_of_many_histograms_are_those_of_each():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 50, (2, 4, 9))
    places = np.arange(9)
    each = [float(wasserstein1(places, one, places, other)) for one, other in zip(a, b, strict=True)]
    assert wasserstein1(places, a, places, b).tolist() == pytest.approx(each)
    assert math.isnan(wasserstein1(places, a[0], places, np.zeros(9)))


def test_a_recording_differs_from_itself_in_nothing(compare):
    comparison = compare(field(600), field(600))
    for name in ("w1", "w1_low", "w1_high", "w1_px", "w1_percent", "shift", "difference", "difference_high"):
        assert column(comparison, name) == [0, 0]
    assert column(comparison, "growth") == column(comparison, "p") == [1, 1]
    assert comparison.left_out == []


def test_offsets_moved_by_one_token_are_one_token_away(compare):
    moved = np.clip(field(), -3, 3)
    rows = compare(moved, moved + 1).rows
    assert [row["w1"] for row in rows] == pytest.approx([1, 1], abs=1e-12)
    assert [row["shift"] for row in rows] == pytest.approx([1, 1], abs=1e-12)
    assert [row["w1_px"] for row in rows] == pytest.approx([16, 16])  # stage 3
    assert [row["w1_percent"] for row in rows] == pytest.approx([100 / 9, 100 / 6])


def test_offsets_that_spread_without_a_shift_are_apart_too(compare):
    narrow, wide = np.zeros((2, *GRID, 2, 2)), np.zeros((2, *GRID, 2, 2))
    wide[..., 0], wide[..., 1] = -2, 2
    row, _ = compare(narrow, wide).rows
    assert (row["w1"], row["shift"], row["reach_a"], row["reach_b"]) == (2, 0, 0, 2)
    assert math.isnan(row["growth"])


def test_numbers_are_those_of_the_dense_fields(compare):
    a, b = field(20), field(20, spread=1.4, seed=1)
    for axis, row in enumerate(compare(a, b).rows):
        nearest = [np.rint(offsets[..., axis, :]).ravel() for offsets in (a, b)]
        reach = [np.abs(offsets[..., axis, :]).mean((1, 2, 3)) for offsets in (a, b)]
        assert row["w1"] == pytest.approx(wasserstein_distance(*nearest))
        assert row["shift"] == pytest.approx(nearest[1].mean() - nearest[0].mean())
        assert (row["reach_a"], row["reach_b"]) == pytest.approx((reach[0].mean(), reach[1].mean()), rel=1e-6)
        assert row["growth"] == pytest.approx(reach[1].mean() / reach[0].mean(), rel=1e-6)
        drawn = np.random.default_rng(0).integers(0, 20, (2000, 20))
        ends = np.percentile((reach[1] - reach[0])[drawn].mean(1), (2.5, 97.5))
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(ends), rel=1e-5)
        assert (row["n_images_a"], row["n_images_b"], row["n_images"]) == (20, 20, 20)
        assert row["definition"] == "wasserstein1/1"


def test_pairs_tell_a_difference_that_images_hide(compare):
    a = field(100)
    paired = compare(a, 1.02 * a)
    assert paired.is_paired
    assert all(low > 0 for low in column(paired, "difference_low"))


def test_without_pairs_the_same_difference_is_hidden_by_that_of_images(compare):
    a = field(100)
    unpaired = compare(a, 1.02 * a, of_b={"names": [f"other {n}" for n in range(100)]})
    assert not unpaired.is_paired
    assert all(low < 0 for low in column(unpaired, "difference_low"))
    assert column(unpaired, "n_images") == [200, 200]


def test_p_values_are_corrected_for_all_rows(compare):
    layers = {name: field(30, seed=k) for k, name in enumerate(("3_1", "3_7", "3_13"))}
    others = {name: values + 0.02 * field(30, seed=9 + k) for k, (name, values) in enumerate(layers.items())}
    rows = compare(layers, others).rows
    smallest = min(rows, key=lambda row: row["p"])
    assert len(rows) == 6
    assert smallest["p_corrected"] == pytest.approx(min(6 * smallest["p"], 1))
    assert all(row["p_corrected"] >= row["p"] for row in rows)


def test_maps_of_different_sizes_are_compared_by_position_in_them(compare):
    small, large = np.zeros((3, 4, 8, 2, 1)), np.zeros((3, 8, 16, 2, 1))
    small[..., 0, :], large[..., 0, :] = 2, 4  # a quarter of the width in both
    horizontal, vertical = compare(small, large).rows
    assert (horizontal["w1"], horizontal["w1_px"], horizontal["w1_percent"]) == (2, 32, 0)
    assert (horizontal["map_a"], horizontal["map_b"], vertical["map_a"], vertical["map_b"]) == (8, 16, 4, 8)


def test_growth_over_untrained_offset_layers_follows_from_their_width(compare):
    row, _ = compare(field(), field(samples=8), baseline="init").rows
    assert row["baseline_a"] == pytest.approx(0.02 * math.sqrt(2 * 8 / math.pi))  # 2 offsets of 4 channels
    assert row["baseline_b"] == pytest.approx(2 * row["baseline_a"])
    assert row["growth_a"] == pytest.approx(row["reach_a"] / row["baseline_a"])
    assert row["growth_b"] == pytest.approx(row["reach_b"] / row["baseline_b"])


def test_untrained_offset_layers_reach_as_far_as_the_formula_says():
    import torch

    widths, reach = [], []
    with torch.no_grad():
        layers = [m for m in create_model("atmnet_tiny").modules() if isinstance(m, OffsetLayer)]
        for layer in layers:
            inputs = torch.nn.functional.layer_norm(
                torch.randn(500, layer.linear.in_features), (layer.linear.in_features,)
            )
            widths.append(layer.linear.in_features)
            reach.append(layer.linear(inputs).abs().mean().item())
    ratios = np.divide(reach, [untrained_reach(width) for width in widths])
    assert ratios.mean() == pytest.approx(1, abs=0.03)


def test_growth_over_a_recording_is_missing_where_it_lacks_the_layer(compare, write_recording, tmp_path):
    before = field(5, spread=0.1, seed=3)
    baseline = write_recording(tmp_path / "before", {"3_1": before})
    layers = {"3_1": field(), "4_1": field()}
    rows = compare(layers, layers, baseline=baseline).rows
    assert rows[0]["baseline_a"] == rows[0]["baseline_b"] == pytest.approx(np.abs(before[..., 0, :]).mean(), rel=1e-6)
    assert rows[0]["growth_a"] == pytest.approx(rows[0]["reach_a"] / rows[0]["baseline_a"])
    assert math.isnan(rows[2]["growth_a"])


def test_few_images_have_no_intervals_and_it_is_said(compare):
    comparison = compare(field(7), field(7, seed=1))
    assert all(
        math.isnan(value) for name in ("w1_low", "difference_low", "p_corrected") for value in column(comparison, name)
    )
    assert comparison.left_out == [
        "no interval of the difference: got 7 images, expected 8 or more",
        "no interval of W1: got 1 chunk of 64 images, expected 8 or more",
    ]


def test_chunks_that_are_not_shared_are_not_counted(compare):
    a, b = field(130), field(130, seed=1)
    comparison = compare(a, b, of_b={"chunks": (0, 2)})
    shared = np.r_[0:64, 128:130]
    row = comparison.rows[0]
    nearest = [np.rint(offsets[shared][..., 0, :]).ravel() for offsets in (a, b)]
    assert row["w1"] == pytest.approx(wasserstein_distance(*nearest))
    assert row["reach_a"] == pytest.approx(np.abs(a[shared][..., 0, :]).mean(), rel=1e-6)
    assert (row["n_images_a"], row["n_images_b"], row["n_images"]) == (66, 66, 66)
    assert "64 images of one recording alone: not compared" in comparison.left_out


def test_a_recording_of_no_finished_image_is_refused(compare):
    with pytest.raises(RecordingFormatError, match="b holds no finished image: resume the recording first"):
        compare(field(), field(), of_b={"chunks": ()})


def test_layers_that_both_lack_are_refused(compare):
    with pytest.raises(LayerNotFoundError, match="no layer '4_1': expected one of 3_1"):
        compare(field(), field(), layers="4_1")


@pytest.mark.parametrize(("shift", "most"), [(0.01, 0.99), (0.3, 0.97)])
def test_intervals_of_the_distance_cover_the_truth_also_near_zero(shift, most):
    """Unpaired chunks of images, whose offsets vary in mean and spread."""
    random, offsets, chunks = np.random.default_rng(0), np.arange(-8, 9), 64
    edges = np.concatenate([[-np.inf], offsets[:-1] + 0.5, [np.inf]])

    def shares(effects, shift):
        return np.diff(norm.cdf((edges - shift - 0.05 * effects[0]) / (1.5 * np.exp(0.03 * effects[1]))), axis=1)

    many = random.normal(size=(2, 20_000, 1))
    truth = wasserstein1(offsets, shares(many, 0).mean(0), offsets, shares(many, shift).mean(0))
    weights, covered = (resample(chunks, 0), resample(chunks, 1)), []
    for _ in range(400):
        effects = random.normal(size=(2, 2, chunks, 1))
        a, b = (random.multinomial(10_000, shares(*each)) for each in zip(effects, (0, shift), strict=True))
        interval = distance_interval((a.sum(0), b.sum(0)), (weights[0] @ a, weights[1] @ b))
        covered.append(interval.low <= truth <= interval.high)
    assert 0.93 <= np.mean(covered) <= most


def test_the_interval_holds_the_distance_where_images_alone_differ(compare):
    comparison = compare(field(520), field(520, seed=1), of_b={"names": [f"other {n}" for n in range(520)]})
    assert all(row["w1_low"] <= row["w1"] <= row["w1_high"] for row in comparison.rows)
    assert max(column(comparison, "w1_low")) < 0.02 < 0.1 * column(comparison, "reach_a")[0]
