"""`atmviz.histogram` from a notebook: from a recording or images to a figure with the numbers of the table."""

import csv
import inspect
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import atmviz
from atmviz.errors import DatasetError, LayerNotFoundError, SettingsError
from atmviz.events import Events
from atmviz.views import draw_histogram

TITLES = ["layer_2_1 (also 2_2)", "layer_3_1 (also 3_2 to 3_6)", "layer_3_18 (offsets of 3_13)"]


class Heard(Events):
    """Keeps messages and progress."""

    def __init__(self):
        self.messages, self.progress = [], []

    def message(self, text):
        self.messages.append(text)

    def images(self, done, total):
        self.progress.append((done, total))


def titles(figure):
    return [axes.get_title().replace("\n", " ") for axes in figure.axes if axes.get_title()]


def heights(figure):
    return [[bar.get_height() for bar in axes.patches] for axes in figure.axes]


def test_an_opened_recording_and_its_folder_give_the_same_figure(recorded, capsys):
    by_path, opened = atmviz.histogram(recorded), atmviz.histogram(atmviz.open_recording(recorded))
    assert isinstance(by_path, Figure)
    assert titles(by_path) == titles(opened) == TITLES
    assert heights(by_path) == heights(opened)
    assert capsys.readouterr() == ("", "")


def test_layers_and_tokens_are_chosen(recorded):
    figure = atmviz.histogram(recorded, layers="4_*", tokens="all")
    assert [title.split()[0] for title in titles(figure)] == ["layer_4_1", "layer_4_2"]
    assert "all tokens" in figure.get_suptitle()


def test_bars_are_the_shares_of_the_table(recorded):
    recording = atmviz.open_recording(recorded)
    figure, table = atmviz.histogram(recording, layers="3_18"), atmviz.histogram_table(recording, "3_18")
    bins = table[table["offset"].map(lambda offset: isinstance(offset, int))]
    for axes, axis in zip(figure.axes, ("horizontal", "vertical"), strict=True):
        shares = bins[bins["axis"] == axis]["share"]
        assert [bar.get_height() for bar in axes.patches] == pytest.approx([100 * share for share in shares])


def test_the_csv_beside_a_figure_is_the_table(recorded, tmp_path):
    drawn = draw_histogram(recorded, layers=["2_1", "3_18"])
    png, table = drawn.save(tmp_path / "figures")
    assert (png.suffix, table.suffix, png.stem) == (".png", ".csv", table.stem)
    text = table.read_bytes().decode()
    assert "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    expected = atmviz.histogram_table(atmviz.open_recording(recorded), ["2_1", "3_18"])
    assert list(rows[0]) == list(expected)
    assert rows == [{name: str(value) for name, value in row.items()} for row in expected.to_dict("records")]


def test_images_are_recorded_once_into_the_cache(photos, cache):
    first, second = Heard(), Heard()
    figures = [atmviz.histogram(photos, "atmnet_nano", size=64, workers=0, events=events) for events in (first, second)]
    assert heights(figures[0]) == heights(figures[1])
    assert first.progress[-1] == (2, 2)
    assert second.progress == []
    assert "using the cached recording" in second.messages[-1]
    assert len(list((cache / "recordings").iterdir())) == 1


def test_a_network_in_memory_is_recorded_anew_and_leaves_nothing(photos, nano, cache, tmp_path):
    figure = atmviz.histogram([photos / "a.png"], nano, size=64, workers=0)
    assert re.fullmatch(r"ATMNet-\w{6} on a, 64×64 px: offsets of the center token", figure.get_suptitle())
    assert not (cache / "recordings").exists()
    assert set(tmp_path.iterdir()) <= {cache}  # of compiled operators


def test_a_recording_is_drawn_without_torch(recorded):
    code = f"import atmviz, sys; atmviz.histogram({str(recorded)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_a_histogram_of_offsets_takes_the_name_of_an_axis(recorded, axis):
    recording = atmviz.open_recording(recorded)
    histogram = atmviz.offset_histogram(recording, "3_18", axis=axis)
    offsets = recording.offsets("3_18")[:, ("horizontal", "vertical").index(axis)]
    inside = (np.rint(offsets) >= histogram.first) & (np.rint(offsets) <= histogram.last)
    assert histogram.counts.sum() == inside.sum()


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"size": 64}, SettingsError, "got size for the recording .*, which was made with its own"),
        ({"network": "atmnet_nano"}, SettingsError, "got checkpoint for the recording .*, which was made with its own"),
        ({"layers": "5_1"}, LayerNotFoundError, "no layer '5_1'"),
        ({"figure": 4}, SettingsError, "got figure 4, expected 3, 6 or 7"),
        ({"tokens": "some"}, ValueError, "got tokens: 'some', expected center or all"),
        ({"batch_size": 0}, SettingsError, "got batch_size: 0, expected 1 or more"),
        ({"layers": 3}, LayerNotFoundError, "got 3 as a layer, expected a name or pattern"),
        ({"layers": [3.18]}, LayerNotFoundError, "got 3.18 as a layer"),
        ({"layers": None}, LayerNotFoundError, "got None as a layer"),
    ],
)
def test_wrong_settings_are_refused(recorded, settings, error, text):
    with pytest.raises(error, match=text):
        atmviz.histogram(recorded, **settings)


@pytest.mark.parametrize(
    ("source", "settings", "text"),
    [
        ("photos", {"dataset": "coco"}, "expected one of the two"),
        ("photos", {"data_dir": "x"}, "data folder without a dataset"),
        ("photos", {"fit": "whole"}, "expected crop or squash"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(photos, source, settings, text):
    with pytest.raises(SettingsError, match=text):
        atmviz.histogram(photos, **settings)


def test_a_text_may_name_a_dataset():
    with pytest.raises(DatasetError, match=r"no coco val images .* expected coco/\{val2017,train2017\}"):
        atmviz.histogram("coco", limit=1)


def test_the_signature_shows_every_setting():
    shown = inspect.signature(atmviz.histogram).parameters
    assert list(shown)[:2] == ["source", "network"]
    assert {"layers", "tokens", "figure", "limit", "size", "device", "workers"} <= set(shown)
    assert "settings" not in shown


def test_scenes_are_said_to_be_drawn_at_the_input_size_and_not_cropped(tmp_path, monkeypatch):
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path))
    figure = atmviz.histogram("shapes", size=64, limit=2, layers="3_18", workers=0, device="cpu")
    note = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "scenes are drawn at this size" in note
    assert "crop" not in note
