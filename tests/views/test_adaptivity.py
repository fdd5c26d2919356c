"""`atmviz.adaptivity` from a notebook: from a recording or images to a figure, its table and its numbers."""

import json
import math

import pandas as pd
import pytest
from matplotlib.figure import Figure

import atmviz
from atmviz.checkpoints import load_model
from atmviz.errors import LayerNotFoundError, SettingsError
from atmviz.events import Events
from atmviz.recording.run import record
from atmviz.statistics.adaptivity import PARTS, recorded_shares, share_rows
from atmviz.views import adaptivity as view
from atmviz.views import draw_adaptivity


class Heard(Events):
    """Keeps messages."""

    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture(scope="module")
def network():
    return load_model("atmnet_nano.shapes", device="cpu")


@pytest.fixture(scope="module")
def scenes(network, tmp_path_factory):
    """A recording of 20 scenes."""
    out = tmp_path_factory.mktemp("scenes") / "out"
    return record("shapes", network, out=out, limit=20, size=64, keep="positions", workers=0)


def test_the_table_has_a_row_for_each_generating_layer_and_axis(scenes):
    drawn = draw_adaptivity(scenes)
    layers = ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]
    expected = share_rows({layer: recorded_shares(scenes, layer) for layer in layers})
    pd.testing.assert_frame_equal(drawn.table, pd.DataFrame(expected))
    pd.testing.assert_frame_equal(atmviz.adaptivity_table(scenes.path), drawn.table)
    assert atmviz.adaptivity_table(scenes, "3_last")["layer"].tolist() == ["3_18", "3_18"]
    assert drawn.numbers["rows"] == expected
    assert [drawn.numbers[key] for key in ("model", "dataset", "images")] == ["atmnet_nano", "shapes", 20]
    assert {channel["layer"] for channel in drawn.numbers["channels"]} == set(layers)
    assert "_adaptivity_6-layers_" in drawn.name
    json.dumps({**drawn.numbers, **drawn.about}, allow_nan=False)


def test_the_figure_shows_the_layers_asked_for_and_whose_offsets_they_use(scenes):
    figure = atmviz.adaptivity(scenes, layers="2_1,3_18")
    assert isinstance(figure, Figure)
    above, below = figure.axes
    assert [label.get_text() for label in below.get_xticklabels()] == ["2_1", "3_18\nof 3_13"]
    share = recorded_shares(scenes, "3_13").shares[PARTS.index("content")][1].estimate
    assert above.patches[12].get_height() == pytest.approx(100 * share)
    assert figure.get_suptitle().startswith("atmnet_nano-8cf39f on shapes, 64×64 px")


def test_shares_are_printed_in_percent_with_the_interval_of_content_where_there_is_one():
    row = {"layer": "2_1", "axis": "vertical", "constant": 0.5, "position": -0.001, "image": 0.101, "content": 0.4}
    rows = [
        {**row, "content_low": 0.35, "content_high": 0.4567, "rms": 1.234},
        {**row, "content_low": math.nan, "content_high": math.nan, "rms": 1.0},
        {**row, **dict.fromkeys([*PARTS, "content_low", "content_high"], math.nan), "rms": 0.0},
    ]
    table = view.printed_shares(rows)
    assert [*table] == ["layer", "axis", *PARTS, "rms"]
    assert table.to_numpy()[:, 2:].tolist() == [
        ["50.0", "-0.1", "10.1", "40.0 [35.0, 45.7]", "1.23"],
        ["50.0", "-0.1", "10.1", "40.0", "1.00"],
        ["–", "–", "–", "–", "0.00"],
    ]


def test_of_a_recording_of_layers_that_reuse_offsets_these_are_drawn(network, tmp_path):
    reusing = record("shapes", network, out=tmp_path / "out", limit=2, size=64, keep="positions", layers="3_17,3_18")
    rows = draw_adaptivity(reusing).numbers["rows"]
    assert [(row["layer"], row["axis"]) for row in rows] == [("3_17", "horizontal"), ("3_17", "vertical")]


def test_a_network_is_recorded_on_the_way_and_images_by_the_cache(network, photos, cache):
    texts = [text.get_text() for text in atmviz.adaptivity(photos, network, size=64, workers=0).texts]
    assert any("2 images, all tokens; too few images for intervals" in text.replace("\n", " ") for text in texts)
    heard = Heard()
    for _ in range(2):
        atmviz.adaptivity(photos, size=64, workers=0, layers="4_1", events=heard)
    assert any("using the cached recording" in message for message in heard.messages)
    assert len([*cache.joinpath("recordings").iterdir()]) == 1


def test_without_a_source_400_scenes_are_recorded(monkeypatch):
    asked = []

    def stop(source, events):
        asked.append(source)
        raise KeyboardInterrupt

    monkeypatch.setattr(view.RecordedSource, "recording", stop)
    for settings, expected in (({}, 400), ({"limit": 30}, 30), ({"dataset": "digits"}, None)):
        with pytest.raises(KeyboardInterrupt):
            draw_adaptivity(**settings)
        assert (asked[-1].data.dataset, asked[-1].data.limit) == (settings.get("dataset", "shapes"), expected)
        assert asked[-1].running.keep == ("positions",)


def test_what_cannot_be_drawn_says_why(scenes, recorded):
    with pytest.raises(SettingsError, match="keep positions"):
        atmviz.adaptivity(recorded)
    with pytest.raises(LayerNotFoundError, match="9_9"):
        atmviz.adaptivity(scenes, layers="9_9")
    with pytest.raises(SettingsError, match="got limit for the recording"):
        atmviz.adaptivity(scenes, limit=3)
