"""`atmviz.claims` from images or a recording to a figure, and its numbers on the demonstration model."""

import inspect
import json

import pytest
from matplotlib.figure import Figure

import atmviz
from atmviz.errors import SettingsError
from atmviz.events import Events
from atmviz.recording.store import open_recording
from atmviz.statistics.measures import DEFINITIONS
from atmviz.views import draw_claims
from atmviz.views.claims import printed_claims

# statistics.md: same-instance hits less mirrored hits on 400 scenes, 95 % intervals
GAPS = {"horizontal": (4.7, 7.0), "vertical": (6.3, 8.1)}


class Heard(Events):
    """Keeps messages."""

    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


def find(rows, measure, layer="2_1", axis="horizontal"):
    return next(row for row in rows if (row["measure"], row["layer"], row["axis"]) == (measure, layer, axis))


@pytest.fixture(scope="module")
def drawn(labeled_scenes):
    return draw_claims(labeled_scenes)


@pytest.mark.parametrize("axis", GAPS)
def test_the_mirror_gap_of_the_demonstration_model_is_what_was_published(drawn, axis):
    row, (low, high) = find(drawn.numbers["rows"], "mirror_gap", axis=axis), GAPS[axis]
    assert low <= row["estimate"] <= high
    assert row["low"] < row["estimate"] < row["high"]
    assert row["verdict"] == "holds"
    hits = find(drawn.numbers["rows"], "hit_rate", axis=axis)
    assert hits["effect"] == pytest.approx(row["estimate"], rel=1e-12)
    assert abs(row["null"]) < 2


def test_training_multiplied_the_reach_of_the_demonstration_model(drawn):
    growth = [find(drawn.numbers["rows"], "growth", layer)["estimate"] for layer in ("1_1", "2_1", "3_1", "4_1")]
    assert growth == pytest.approx([8.3, 8.0, 10.9, 10.6], rel=0.05)


def test_numbers_say_what_they_are_of(drawn):
    numbers = drawn.numbers
    assert (numbers["model"], numbers["dataset"], numbers["images"]) == ("atmnet_nano", "shapes", 64)
    assert numbers["labels"] == "objects of shapes"
    assert {row["measure"] for row in numbers["rows"]} == set(DEFINITIONS)
    assert {row["definition"] for row in numbers["rows"]} == {each.id for each in DEFINITIONS.values()}
    keys = "claim layer axis estimate low high null n_images unit definition verdict"
    assert set(keys.split()) <= set(numbers["rows"][0])
    json.dumps(drawn.about)


def test_differences_between_other_objects_are_said_to_be_such(labeled_scenes):
    first, second, heard = open_recording(labeled_scenes), open_recording(labeled_scenes), Heard()
    draw_claims(first, against=second, layers=["4_1"], events=heard)
    assert heard.messages == []
    second.attrs["labels"] = "connected regions of the masks of mine"
    draw_claims(first, against=second, layers=["4_1"], events=heard)
    (said,) = heard.messages
    assert said.startswith("not of the same objects: objects of shapes here, connected regions of the masks of mine")


def test_the_table_holds_the_rows(drawn, labeled_scenes):
    assert drawn.table.equals(atmviz.claims_table(labeled_scenes))
    assert len(drawn.table) == len(drawn.numbers["rows"])
    assert drawn.name.startswith("shapes_atmnet_nano-")


def test_the_figure_has_a_panel_for_each_measure_that_decides(drawn, labeled_scenes):
    titles = [panel.get_title().replace("\n", " ") for panel in drawn.figure.axes if panel.get_visible()]
    assert titles == [
        DEFINITIONS[name].title for name in ("growth", "mirror_gap", "elasticity", "anisotropy", "boundary")
    ]
    assert isinstance(atmviz.claims(labeled_scenes, layers="2_1"), Figure)


def test_printed_texts_are_of_the_numbers(drawn):
    printed = drawn.printed
    gap = printed[(printed["measure"] == "mirror gap (pp)") & (printed["layer"] == "2_1")].iloc[0]
    row = find(drawn.numbers["rows"], "mirror_gap")
    assert gap["estimate"] == f"{row['estimate']:.2f}"
    assert gap["effect"] == f"{row['effect']:.2f} [{row['effect_low']:.2f}, {row['effect_high']:.2f}]"
    assert (gap["p"], gap["verdict"]) == (f"{row['p_corrected']:.3f}", "holds")
    assert "<0.001" in set(printed["p"])


def test_differences_to_itself_are_nothing(labeled_scenes):
    drawn = draw_claims(labeled_scenes, against=labeled_scenes, layers=("2_1", "3_1"))
    rows = drawn.numbers["rows"]
    assert {row["effect"] for row in rows if row["effect"] == row["effect"]} == {0}
    assert {row["verdict"] for row in rows} == {"not decidable"}
    assert "difference" in drawn.printed
    assert " less atmnet_nano" in drawn.figure.get_suptitle()


def test_the_untrained_network_is_recorded_as_well_as_known(labeled_scenes, tmp_path, drawn):
    atmviz.record(out=tmp_path / "init", network="init:atmnet_nano.shapes", like=labeled_scenes, workers=0)
    with_baseline = draw_claims(labeled_scenes, baseline=tmp_path / "init")
    for layer in ("1_1", "3_1"):
        known, measured = (find(each.numbers["rows"], "reach", layer) for each in (drawn, with_baseline))
        assert measured["null"] == pytest.approx(known["null"], rel=0.15)  # by the draw of the weights
    less = draw_claims(labeled_scenes, against=tmp_path / "init")
    assert find(less.numbers["rows"], "reach", "3_1")["verdict"] == "higher"
    gap = find(less.numbers["rows"], "mirror_gap", "2_1")
    assert gap["verdict"] == "not decidable"  # hardly a sample of the untrained network moves


def test_layers_that_one_recording_lacks_are_named(labeled_scenes, tmp_path):
    few, heard = tmp_path / "few", Heard()
    atmviz.record(out=few, network="atmnet_nano.shapes", like=labeled_scenes, layers=("2_1", "4_1"), workers=0)
    drawn = draw_claims(labeled_scenes, against=few, events=heard)
    assert {row["layer"] for row in drawn.numbers["rows"]} == {"all", "2_1", "4_1"}
    assert heard.messages == ["layers that one of the recordings lacks are left out: 1_1, 3_1, 3_7, 3_13"]


def test_recordings_of_other_images_are_not_compared(labeled_scenes, recorded):
    with pytest.raises(SettingsError, match="hold other images, expected the same"):
        draw_claims(labeled_scenes, against=recorded)


def test_without_labels_it_says_how_to_get_them(recorded):
    heard = Heard()
    drawn = draw_claims(recorded, events=heard)
    assert {row["claim"] for row in drawn.numbers["rows"]} == {"depth"}
    assert len([text for text in heard.messages if "take shapes, ade20k or coco" in text and "masks" in text]) == 1
    assert [panel.get_title() for panel in drawn.figure.axes] == ["growth by training"]
    assert {row["verdict"] for row in drawn.numbers["rows"]} == {"", "not decidable"}  # two images


def test_images_are_recorded_once_with_the_objects_that_are_known(cache):
    heard = [Heard(), Heard()]
    for events in heard:
        drawn = draw_claims("shapes", "atmnet_nano.shapes", limit=9, size=64, workers=0, layers="2_1", events=events)
        assert drawn.numbers["labels"] == "objects of shapes"
    assert any("using the cached recording" in text for text in heard[1].messages)
    assert not any("using the cached recording" in text for text in heard[0].messages)


def test_400_scenes_are_drawn_where_no_images_are_named(monkeypatch, labeled_scenes):
    asked = []

    def record(request, images, folder, events):
        asked.append((images.title, len(images), request.running.labels, request.running.keep))
        return atmviz.open_recording(labeled_scenes)

    monkeypatch.setattr("atmviz.views.recordings.RecordedSource._record", record)
    atmviz.claims(layers="2_1")
    assert asked == [("shapes", 400, "auto", ("moments",))]


def test_labels_of_a_recording_are_fixed(labeled_scenes):
    with pytest.raises(SettingsError, match=r"got labels for the recording .*, which was made with its own"):
        draw_claims(labeled_scenes, labels="auto")


def test_a_seed_decides_the_intervals_alone(labeled_scenes):
    first, again, other = (draw_claims(labeled_scenes, layers="2_1", seed=seed).numbers["rows"] for seed in (0, 0, 1))
    rows = [find(each, "mirror_gap") for each in (first, again, other)]
    assert rows[0] == rows[1]
    assert rows[0]["estimate"] == rows[2]["estimate"]
    assert rows[0]["low"] != rows[2]["low"]


def test_settings_are_keywords_of_the_signature():
    known = inspect.signature(atmviz.claims).parameters
    assert {"layers", "against", "baseline", "labels", "seed", "width"} <= set(known)
    assert not {"query", "shard", "keep", "checkpoint"} & set(known)
    with pytest.raises(TypeError, match="unexpected keyword argument 'keeps'"):
        atmviz.claims(keeps="x")


def test_a_small_number_has_no_minus_zero():
    row = {
        **{
            "measure": "elasticity",
            "layer": "1_1",
            "axis": "horizontal",
            "estimate": -1e-5,
        },
        **{"effect": -1e-5, "effect_low": -0.01, "effect_high": 0.01, "n_images": 9},
        **{"null": -1e-9, "p_corrected": 0.5, "verdict": "not decidable"},
    }
    (printed,) = printed_claims([row]).to_dict("records")
    assert (printed["estimate"], printed["null"], printed["effect"]) == ("0.00", "0.00", "0.00 [-0.01, 0.01]")
