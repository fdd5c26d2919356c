"""`atmviz.compare` from a notebook: recordings, or networks that are recorded first."""

import subprocess
import sys

import pytest
from matplotlib.figure import Figure

import atmviz
from atmviz.errors import SettingsError
from atmviz.events import Events
from atmviz.statistics.comparison import compare_recordings
from atmviz.views import draw_comparison


class Heard(Events):
    """Keeps messages."""

    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture(autouse=True)
def _blank(monkeypatch):
    """Draw nothing in this process."""
    monkeypatch.setattr("atmviz.figures.comparison.draw_comparison", lambda *_, **__: Figure(figsize=(1, 1)))


def test_opened_recordings_and_their_folders_give_the_numbers_of_the_statistic(recorded):
    opened = atmviz.open_recording(recorded)
    by_path, by_recording = (draw_comparison(each, each, baseline="init") for each in (recorded, opened))
    expected = compare_recordings(opened, opened, baseline="init").rows
    assert str(by_path.numbers["rows"]) == str(by_recording.numbers["rows"]) == str(expected)  # with NaN
    assert list(by_path.table) == list(expected[0])
    assert len(by_path.table) == len(expected) == 12
    assert by_path.numbers["model"] == [opened.model] * 2
    assert by_path.numbers["images"] == [2, 2]
    assert by_path.name == by_recording.name


def test_what_is_left_out_is_said_and_kept(recorded):
    events = Heard()
    drawn = draw_comparison(recorded, recorded, events=events)
    assert events.messages == drawn.numbers["left_out"]
    assert events.messages[0] == "no interval of the difference: got 2 images, expected 8 or more"


def test_two_networks_are_recorded_once_on_the_same_images(photos, cache, nano):
    first, second = Heard(), Heard()
    names = ("atmnet_nano", "atmnet_nano.shapes")
    drawn = [draw_comparison(*names, photos, size=64, workers=0, events=events) for events in (first, second)]
    assert drawn[0].numbers["rows"][0]["paired"]
    assert drawn[0].name == drawn[1].name
    assert len(list((cache / "recordings").iterdir())) == 2
    assert len([text for text in second.messages if "using the cached recording" in text]) == 2
    in_memory = draw_comparison("atmnet_nano.shapes", nano, photos, size=64, workers=0)
    assert in_memory.numbers["rows"][0]["reach_a"] == drawn[0].numbers["rows"][0]["reach_b"]
    assert len(list((cache / "recordings").iterdir())) == 2


def test_recordings_are_compared_and_drawn_without_torch(recorded):
    code = (
        f"import atmviz, sys; atmviz.compare({str(recorded)!r}, {str(recorded)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recording_as_baseline_is_named_in_what_the_figure_shows(recorded):
    drawn = draw_comparison(recorded, recorded, baseline=recorded)
    assert drawn.about["baseline"] == drawn.about["a"]
    assert drawn.numbers["rows"][0]["growth_a"] == pytest.approx(1)
    assert drawn.name != draw_comparison(recorded, recorded).name


@pytest.mark.parametrize(
    ("source", "settings", "text"),
    [
        (None, {"baseline": "nothing"}, "got baseline 'nothing', expected init or the folder of a recording"),
        (None, {"size": 64}, r"got size for the recording .*, which was made with its own"),
        ("photos", {}, "got recordings and images, expected two recordings, or two networks and images"),
    ],
)
def test_wrong_settings_are_refused(recorded, source, settings, text):
    with pytest.raises(SettingsError, match=text):
        atmviz.compare(recorded, recorded, source, **settings)


def test_a_recording_and_a_network_are_refused(recorded):
    with pytest.raises(SettingsError, match="got recordings and a network, expected two recordings, or two networks"):
        atmviz.compare(recorded, "atmnet_nano")


def test_the_table_from_python_holds_the_rows(recorded):
    drawn = draw_comparison(recorded, recorded, baseline="init")
    assert atmviz.compare_table(recorded, recorded, baseline="init").equals(drawn.table)
