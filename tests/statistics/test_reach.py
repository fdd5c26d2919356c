"""Reach against depth as numbers: quantiles in every unit, and the untrained network beside."""

import numpy as np
import pytest

from atmviz.errors import LayerNotFoundError, RecordingFormatError, SettingsError
from atmviz.statistics.reach import QUANTILES, depth_table, reach_rows

FIELD = np.random.default_rng(0).normal(0, 2, (30, 12, 16, 2, 3))


@pytest.fixture(scope="module")
def recording(planted, scenes):
    return planted({"1_1": FIELD, "2_1": FIELD / 2}, scenes.masks, scenes.things)


def test_quantiles_are_those_of_the_samples_within_a_bin(recording):
    for row in reach_rows(recording):
        field = np.abs(FIELD[..., ("horizontal", "vertical").index(row["axis"]), :]) / (1 + (row["layer"] == "2_1"))
        expected = np.quantile(field, list(QUANTILES.values()))
        assert [row[name] for name in QUANTILES] == pytest.approx(expected, abs=1 / 16)
        assert (row["n_images"], row["n"]) == (30, 30 * 12 * 16 * 3)


def test_units_are_tokens_px_and_percent_of_the_axis(recording):
    tokens, px, percent = (reach_rows(recording, ("1_1",), unit=unit) for unit in ("tokens", "px", "percent"))
    for k, size in ((0, 16), (1, 12)):
        for name in ("median", "untrained_median"):
            assert px[k][name] == pytest.approx(4 * tokens[k][name])
            assert percent[k][name] == pytest.approx(100 * tokens[k][name] / size)


def test_the_untrained_network_is_known_by_formula_or_from_a_recording(recording, planted, scenes):
    offsets = np.random.default_rng(1).normal(0, 0.02 * 12**0.5, (100_000,))
    assert reach_rows(recording)[0]["untrained_median"] == pytest.approx(np.median(np.abs(offsets)), rel=0.02)
    other = planted({"1_1": FIELD / 3, "2_1": FIELD / 3}, scenes.masks, scenes.things)
    found = reach_rows(recording, baseline=other)
    assert found[0]["untrained_median"] == pytest.approx(reach_rows(other)[0]["median"])


def test_layers_are_chosen(recording):
    assert {row["layer"] for row in reach_rows(recording, ("2_*",))} == {"2_1"}
    with pytest.raises(LayerNotFoundError, match="9_9"):
        reach_rows(recording, ("9_9",))


def test_a_recording_without_distances_says_how_to_get_them(planted, scenes):
    plain = planted({"1_1": FIELD}, scenes.masks, scenes.things)
    plain.quantities = {"counts": None}
    with pytest.raises(RecordingFormatError, match="no distances of offsets: record its images again"):
        reach_rows(plain)


def test_an_untrained_network_on_maps_of_another_size_is_refused(recording, planted, scenes):
    other = planted({"1_1": FIELD[:, :6], "2_1": FIELD[:, :6]}, scenes.masks, scenes.things)
    with pytest.raises(SettingsError, match="layer 1_1 of planted has maps or offsets of another size"):
        reach_rows(recording, baseline=other)


@pytest.mark.parametrize("factor", [-1, 0, 2])
def test_distances_that_are_not_one_for_each_sample_are_damage(factor, planted, scenes):
    damaged = planted({"1_1": FIELD}, scenes.masks, scenes.things)
    damaged.arrays["distances", "1_1"] = damaged.arrays["distances", "1_1"] * factor
    with pytest.raises(RecordingFormatError, match="'distances' in planted is damaged"):
        reach_rows(damaged)


def test_the_table_is_of_a_folder_too(labeled_scenes):
    table = depth_table(labeled_scenes, unit="px")
    assert list(table)[:2] == ["layer", "axis"]
    assert list(table["layer"]) == [name for name in ("1_1", "2_1", "3_1", "3_7", "3_13", "4_1") for _ in range(2)]
    assert (table["q2_5"] < table["median"]).all()
