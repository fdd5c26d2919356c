"""All claims of a recording with planted offsets: each row says what was planted."""

import math

import numpy as np
import pytest

from atmviz.errors import LayerNotFoundError, RecordingFormatError, SettingsError
from atmviz.statistics.claims import claims_of, generating_sites, measure_claims, paired_differences
from atmviz.statistics.depth import untrained_reach
from atmviz.statistics.measures import DEFINITIONS, claim_rows

MEASURES = set(DEFINITIONS)


def rows_of(recording, **settings):
    return {
        (row["measure"], row["layer"], row["axis"]): row for row in claim_rows(measure_claims(recording, **settings))
    }


@pytest.fixture(scope="module")
def recordings(planted, scenes):
    """Offsets to the center of the object with noise, twice as far in 2_1; and noise alone, as before training."""
    draw = np.random.default_rng(3)
    noise = draw.normal(0, 0.1, (*scenes.labels.shape, 2, 3))
    fields = {"1_1": scenes.to_center / 2 + noise, "2_1": scenes.to_center + noise}
    untrained = {name: draw.normal(0, 0.5, noise.shape) for name in fields}
    return tuple(planted(offsets, scenes.masks, scenes.things) for offsets in (fields, untrained))


@pytest.fixture(scope="module")
def rows(recordings):
    return rows_of(recordings[0])


def test_every_measure_has_a_row_for_each_layer_and_axis(rows):
    axes = ("horizontal", "vertical")
    expected = {(measure, layer, axis) for measure in MEASURES for layer in ("1_1", "2_1") for axis in axes}
    expected = {key for key in expected if key[0] != "anisotropy" and not key[0].startswith("trend")}
    expected |= {("anisotropy", layer, "both") for layer in ("1_1", "2_1")}
    expected |= {(measure, "all", axis) for measure in ("trend", "trend_px", "trend_growth") for axis in axes}
    assert set(rows) == expected


def test_what_was_planted_holds(rows):
    growth = rows["trend_growth", "all", "vertical"]
    assert (growth["estimate"], growth["verdict"]) == (1, "holds")
    for measure in ("growth", "mirror_gap"):
        assert rows[measure, "2_1", "horizontal"]["verdict"] == "holds"
    assert rows["elasticity", "2_1", "horizontal"]["low"] > 0
    assert rows["boundary", "2_1", "horizontal"]["verdict"] == "fails"  # the center is not at the border
    assert rows["anisotropy", "2_1", "both"]["verdict"] == "holds"  # it is farther along the longer side


def test_reach_has_three_units_and_its_null_is_the_formula(rows, recordings):
    mean = np.abs(recordings[0].read("moments", "1_1")[:, 0, :, 2]).sum() / (30 * 12 * 16 * 3)
    found = {
        measure: rows[measure, "1_1", "horizontal"] for measure in ("reach", "reach_px", "reach_percent", "growth")
    }
    assert found["reach"]["estimate"] == pytest.approx(mean, rel=1e-12)
    assert found["reach_px"]["estimate"] == pytest.approx(4 * mean, rel=1e-12)
    assert found["reach_percent"]["estimate"] == pytest.approx(100 * mean / 16, rel=1e-12)
    assert found["reach"]["null"] == untrained_reach(12)
    assert found["growth"]["estimate"] == pytest.approx(mean / untrained_reach(12), rel=1e-12)
    assert {row["n"] for row in found.values()} == {30 * 12 * 16 * 3}


def test_samples_beyond_limits_are_counted(rows, recordings):
    far = recordings[0].read("beyond", "2_1")[:, 1].sum(0) / (30 * 12 * 16 * 3)
    found = [rows[measure, "2_1", "vertical"]["estimate"] for measure in ("beyond_1_5", "beyond_2_5", "beyond_half")]
    assert found == pytest.approx((100 * far).tolist(), rel=1e-12)


def test_a_recording_of_the_untrained_network_replaces_the_formula(recordings):
    trained, untrained = recordings
    rows = rows_of(trained, baseline=untrained)
    reach = untrained.read("mean_abs_offset", "1_1")[:, 0].mean()
    found = rows["reach", "1_1", "horizontal"]
    assert found["null"] == pytest.approx(reach)
    assert found["null_low"] < reach < found["null_high"]
    assert rows["growth", "1_1", "horizontal"]["estimate"] == pytest.approx(found["estimate"] / reach)
    beyond = untrained.read("beyond", "1_1")[:, 0, 0].sum() / (30 * 12 * 16 * 3)
    assert rows["beyond_1_5", "1_1", "horizontal"]["null"] == pytest.approx(100 * beyond)


def test_the_trend_of_the_untrained_network_is_the_null_of_the_trend(recordings, rows):
    for measure in ("trend", "trend_px"):
        row = rows[measure, "all", "horizontal"]
        assert (row["estimate"], row["null"], row["verdict"]) == (1, 0, "")  # both layers are equally wide and large
    measured = rows_of(recordings[0], baseline=recordings[1])["trend", "all", "horizontal"]
    reaches = [recordings[1].read("mean_abs_offset", layer)[:, 0] for layer in ("1_1", "2_1")]
    assert measured["null"] == np.sign(reaches[1] - reaches[0]).mean()
    assert measured["null_low"] < measured["null"] < measured["null_high"]


def test_a_network_has_not_grown_beyond_itself(recordings):
    row = rows_of(recordings[0], baseline=recordings[0])["growth", "2_1", "vertical"]
    assert [row[name] for name in ("estimate", "low", "high", "p")] == [1, 1, 1, 1]


def test_differences_are_those_of_the_estimates(recordings):
    ours, theirs = (measure_claims(recording) for recording in recordings)
    for row in claim_rows(paired_differences(ours, theirs), differences=True):
        key = row["measure"], row["layer"], row["axis"]
        first, second = (next(m for m in each if (m.measure, m.layer, m.axis) == key) for each in (ours, theirs))
        assert row["estimate"] == first.estimate.value - second.estimate.value
    gap = next(row for row in claim_rows(paired_differences(ours, theirs), differences=True) if row["layer"] == "2_1")
    assert gap["verdict"] == "higher"


def test_recordings_are_compared_in_the_layers_that_both_have(recordings, planted, scenes):
    fields = {"2_1": scenes.to_center, "3_1": scenes.to_center}
    other = planted(fields, scenes.masks, scenes.things)
    rows = claims_of(recordings[0], against=other)
    assert {row["layer"] for row in rows} == {"2_1"}  # no trend of one layer
    with pytest.raises(SettingsError, match="have no layer in common"):
        claims_of(recordings[0], ("1_1",), against=other)


def test_recordings_of_other_images_are_not_compared(recordings, planted, scenes):
    few = planted({"1_1": scenes.to_center[:9]}, scenes.masks[:9], scenes.things[:9])
    reseeded = planted({"1_1": scenes.to_center}, scenes.masks, scenes.things, seed=1)  # scenes of equal names
    for other in (few, reseeded):
        with pytest.raises(SettingsError, match="hold other images, expected the same"):
            claims_of(recordings[0], against=other)


def test_a_recording_without_a_finished_image_is_refused(planted, scenes):
    empty = planted({"1_1": scenes.to_center[:1]}, scenes.masks[:1], scenes.things[:1])
    empty.images = []
    with pytest.raises(RecordingFormatError, match="no finished image: resume the recording first"):
        claims_of(empty)
    whole = planted({"1_1": scenes.to_center}, scenes.masks, scenes.things)
    for role in ("baseline", "against"):
        with pytest.raises(RecordingFormatError, match="no finished image: resume the recording first"):
            claims_of(whole, **{role: empty})


def test_noise_holds_nothing_but_its_reach(recordings):
    rows = rows_of(recordings[1])
    assert {row["verdict"] for key, row in rows.items() if key[0] in ("mirror_gap", "elasticity")} == {"not decidable"}


def test_layers_are_chosen_and_corrected_among_themselves(recordings):
    rows = rows_of(recordings[0], layers=("2_1",))
    assert {layer for _, layer, _ in rows} == {"2_1"}
    with pytest.raises(LayerNotFoundError, match="9_9"):
        measure_claims(recordings[0], ("9_9",))


def test_without_labels_only_depth_is_measured(recordings, planted, scenes):
    plain = planted({"1_1": scenes.to_center}, scenes.masks, scenes.things)
    plain.quantities = {"mean_abs_offset": None}
    rows = rows_of(plain)
    assert {measure for measure, *_ in rows} == {"reach", "reach_px", "reach_percent", "growth"}
    full = rows_of(planted({"1_1": scenes.to_center}, scenes.masks, scenes.things))
    for name in ("estimate", "low", "high", "null", "effect", "n"):
        assert rows["growth", "1_1", "vertical"][name] == pytest.approx(full["growth", "1_1", "vertical"][name])


def test_seven_images_decide_nothing(planted, scenes):
    few = planted({"1_1": scenes.to_center[:7]}, scenes.masks[:7], scenes.things[:7])
    for (measure, *_), row in rows_of(few).items():
        assert math.isnan(row["low"])
        assert row["verdict"] == ("not decidable" if DEFINITIONS[measure].tested else "")


def test_a_baseline_of_other_maps_is_refused(planted, scenes, recordings):
    other = planted({name: scenes.to_center[:, :6] for name in ("1_1", "2_1")}, scenes.masks, scenes.things)
    with pytest.raises(SettingsError, match="layer 1_1 of planted has maps or offsets of another size"):
        measure_claims(recordings[0], baseline=other)


def test_layers_without_offsets_are_refused(recordings):
    class Fixed:
        path, sites = "here", []

    with pytest.raises(SettingsError, match="no layer of here has offsets"):
        generating_sites(Fixed())


def test_constant_offsets_decide_nothing_about_objects(planted, scenes):
    """Rounding differs by object, equally in all draws: it would look certain."""
    for seed in range(2):
        each = np.random.default_rng(seed).normal(0, 2, (30, 1, 1, 2, 5))
        for offsets in (each[:1], each):  # the same in all images, or one for each image
            field = np.broadcast_to(offsets, (30, *scenes.labels.shape[1:], 2, 5))
            rows = claims_of(planted({"1_1": field}, scenes.masks, scenes.things, seed))
            told = [row for row in rows if row["measure"] in ("mirror_gap", "elasticity", "boundary")]
            told += [row for row in rows if row["measure"] == "anisotropy" and len(offsets) == 1]
            assert [row["p"] for row in told] == [1.0] * len(told)
