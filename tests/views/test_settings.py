"""What the settings of figures accept, and how images are fitted for an overlay."""

import pytest

from atmviz.errors import SettingsError
from atmviz.paper import FIGURES
from atmviz.settings import split_settings
from atmviz.views.settings import HistogramSettings, OverlaySettings, is_moving, moving_path


@pytest.mark.parametrize(
    ("dataset", "size", "expected", "crop_pct"),
    [
        (None, None, (224, 224), 0.875),
        ("ade20k", None, (512, 512), 1),
        ("coco", None, (600, 800), 1),
        ("coco", "224", (224, 224), 0.875),
        ("shapes", None, (128, 128), 1),
        (None, (384, 384), (384, 384), 0.875),
        (None, 385, (385, 385), 1),
    ],
)
def test_a_dataset_has_an_input_size_and_the_size_decides_the_crop(dataset, size, expected, crop_pct):
    fitted = OverlaySettings(size=size, fit="crop").preprocessing(dataset, "whole")
    assert (fitted.size, fitted.fit, fitted.crop_pct) == (expected, "crop", crop_pct)


def test_one_text_is_one_layer_or_query():
    assert OverlaySettings(layers="3_18", queries="center") == OverlaySettings(layers=("3_18",), queries=("center",))
    assert HistogramSettings("3_*").layers == ("3_*",)


@pytest.mark.parametrize("figure", [3, 6, 7])
def test_a_figure_of_the_paper_is_a_preset(figure):
    assert HistogramSettings(figure=figure).preset is FIGURES[figure]


def test_fig_5_is_a_preset_of_overlays_that_other_settings_replace():
    preset = OverlaySettings(figure=5).with_preset()
    assert (preset.size, preset.layers, preset.fit, preset.montage) == ((512, 512), ("3_18",), "crop", True)
    own = OverlaySettings(figure=5, layers="2_1", size=224, fit="whole").with_preset()
    assert (own.size, own.layers, own.fit, own.montage) == ((224, 224), ("2_1",), "whole", True)
    for settings, figure in ((OverlaySettings, 3), (HistogramSettings, 5)):
        with pytest.raises(SettingsError, match=f"got figure {figure}, expected"):
            settings(figure=figure)


@pytest.mark.parametrize("values", [{"size": 16}, {"size": "big"}, {"queries": []}], ids=str)
def test_values_that_settings_refuse_are_errors_of_the_caller(values):
    with pytest.raises(SettingsError, match="expected"):
        split_settings(values, OverlaySettings)


@pytest.mark.parametrize("view", ["density", "fusion"])
@pytest.mark.parametrize("values", [{"queries": "0.3,0.4"}, {"together": True}])
def test_views_of_all_tokens_take_no_queries(view, values):
    assert OverlaySettings(view=view).queries == ("center",)
    with pytest.raises(SettingsError, match=f"got queries and view {view}"):
        OverlaySettings(view=view, **values)


@pytest.mark.parametrize(
    ("sources", "out", "queries", "moves"),
    [
        (["photo.jpg"], ".", [], False),
        (["photo.jpg"], "a.png", ["center"], False),
        (["photo.jpg", "b.jpg"], "a.GIF", [], True),
        (["clip.MP4"], ".", [], True),
        (["clip.mov"], "a.png", [], True),  # which is then refused
        (["animated.gif"], ".", [], False),  # an image, as ever
        (["animated.gif"], "a.mp4", [], True),
        ([], ".", [" Path:0,0;1,1"], True),
    ],
)
def test_frames_are_drawn_where_a_clip_a_path_or_the_file_asks_for_them(sources, out, queries, moves):
    assert is_moving(sources, out, queries) is moves


def test_a_folder_named_like_a_clip_is_a_folder(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    assert not is_moving([tmp_path / "a.mp4"], tmp_path / "a.mp4", [])
    assert moving_path(tmp_path / "a.mp4", "name.gif", None) == tmp_path / "a.mp4" / "name.gif"
