"""`atmviz.depth` from a recording or images to a figure of reach against depth."""

import inspect

import pytest
from matplotlib.figure import Figure

import atmviz
from atmviz.errors import RecordingFormatError
from atmviz.views import draw_depth

LAYERS = ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]


def test_lines_are_the_medians_of_the_table(labeled_scenes):
    drawn = draw_depth(labeled_scenes, unit="px")
    assert drawn.table.equals(atmviz.depth_table(labeled_scenes, unit="px"))
    for panel in drawn.figure.axes:
        of_axis = drawn.table[drawn.table["axis"] == panel.get_title()]
        assert list(panel.lines[0].get_ydata()) == of_axis["median"].tolist()
        assert [label.get_text() for label in panel.get_xticklabels()] == LAYERS
        assert panel.get_ylabel() in ("|offset| (px)", "")
    assert (drawn.numbers["images"], drawn.numbers["model"]) == (64, "atmnet_nano")
    assert drawn.numbers["rows"] == drawn.table.to_dict("records")


def test_layers_are_chosen_and_a_figure_is_returned(labeled_scenes):
    figure = atmviz.depth(labeled_scenes, layers="3_*")
    assert isinstance(figure, Figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["3_1", "3_7", "3_13"]


def test_a_recording_of_itself_as_baseline_lies_on_the_median(labeled_scenes):
    table = draw_depth(labeled_scenes, baseline=labeled_scenes).table
    assert table["untrained_median"].tolist() == pytest.approx(table["median"].tolist())


def test_a_recording_without_moments_is_refused(recorded):
    with pytest.raises(RecordingFormatError, match="keep moments"):
        draw_depth(recorded)


def test_images_are_recorded_with_moments(photos):
    drawn = draw_depth(photos, "atmnet_nano", size=64, workers=0, unit="percent")
    assert drawn.numbers["images"] == 2
    assert "untrained weights" in [text.get_text() for text in drawn.figure.texts]


def test_settings_are_keywords_of_the_signature():
    known = set(inspect.signature(atmviz.depth).parameters)
    assert {"layers", "unit", "baseline", "seed", "width"} <= known
    assert not {"query", "shard", "keep", "labels", "checkpoint"} & known
