"""`atmviz.overlay` from a notebook: any kind of image, any kind of network, a figure back and nothing else."""

import inspect
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import atmviz
from atmviz.errors import DatasetError, LayerNotFoundError, QueryError, SettingsError
from atmviz.events import Events
from atmviz.models import create_model
from atmviz.views import draw_overlays
from atmviz.views.overlay_numbers import describe_panel


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


@pytest.fixture
def pixels(photos):
    return np.asarray(Image.open(photos / "a.png"))


def heading(figure):
    """The title without the fingerprint of the weights."""
    return re.sub(r"^(ATMNet)-\w{6}", r"\1", figure.get_suptitle())


def queried(figure):
    """Where the query tokens of the first panel are drawn."""
    return [m.get_offsets().tolist() for m in figure.axes[0].collections if m.get_gid() == "query"]


def test_a_figure_comes_back_and_nothing_is_printed_or_written(photos, nano, tmp_path, cache, capsys):
    figure = atmviz.overlay(photos / "a.png", nano, size=64)
    assert isinstance(figure, Figure)
    assert titles(figure) == ["layer_3_18"]
    assert re.fullmatch(r"ATMNet-\w{6} on a\.png, input 64×96 px", figure.get_suptitle())
    assert capsys.readouterr() == ("", "")
    assert set(tmp_path.iterdir()) <= {cache}  # of compiled operators


def test_a_path_an_array_and_a_pil_image_give_the_same_dots(photos, pixels, nano):
    images = (str(photos / "a.png"), photos / "a.png", pixels, Image.fromarray(pixels))
    drawn = [
        [dots.get_offsets().tolist() for dots in atmviz.overlay(image, nano, size=64).axes[0].collections]
        for image in images
    ]
    assert drawn[0][0]
    assert drawn[1:] == drawn[:1] * 3


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64)), np.zeros((64, 64, 3)), np.zeros((8, 8, 3), np.uint8), 7], ids=str
)
def test_what_is_no_image_is_refused(image, nano):
    with pytest.raises(DatasetError, match="expected"):
        atmviz.overlay(image, nano)


def test_layers_and_queries_are_panels_and_one_of_them_may_be_a_text(pixels, nano):
    figure = atmviz.overlay(pixels, nano, ["2_1", "3_*"], ["center", "0.1,0.1"], size=64)
    assert len(figure.axes) == 2 * (1 + 18)
    figure = atmviz.overlay(pixels, nano, "4_1", ["0.25,0.5", "20,30"], size=64)
    assert titles(figure) == ["0.25,0.5", "20,30"]  # as typed
    assert heading(figure) == "ATMNet, input 64×96 px, layer_4_1"


def test_the_demonstration_model_draws_the_bundled_photograph_by_default(nano):
    heard = []

    class Heard(Events):
        message = staticmethod(heard.append)

    figure = atmviz.overlay(size=64, events=Heard())
    assert figure.get_suptitle() == "atmnet_nano-8cf39f on astronaut.jpg, input 64×64 px"
    assert len(heard) == 1
    assert "trained" in heard[0]


def test_settings_reach_the_figure(pixels, nano):
    cell, field = (atmviz.overlay(pixels, nano, size=64, fit="squash", anchor=anchor) for anchor in ("cell", "rf"))
    assert re.fullmatch(r"ATMNet-\w{6}, input 64×64 px", cell.get_suptitle())
    queries = [
        next(marks for marks in figure.axes[0].collections if marks.get_gid() == "query").get_offsets()[0]
        for figure in (cell, field)
    ]
    assert (queries[0] - queries[1]).tolist() == pytest.approx([6.5 * 72 / 64, 6.5 * 48 / 64])  # input px to px


def test_random_queries_follow_the_seed(pixels, nano):
    def drawn(seed):
        figure = atmviz.overlay(pixels, nano, "1_1", "random:4", size=64, seed=seed)
        return [axes.collections[-1].get_offsets().tolist() for axes in figure.axes]

    assert drawn(0) == drawn(0) != drawn(1)


def test_a_network_of_2d_points_is_drawn_and_described_by_its_points(photos):
    network = create_model("atmnet_nano", offset_mode="joint").eval()
    (drawn,) = draw_overlays(photos / "a.png", network, size=64, layers="3_1")
    (panel,) = drawn.numbers["panels"]
    assert {"horizontal", "vertical"}.isdisjoint(panel)
    assert all(0 <= i < 4 and 0 <= j < 6 for i, j, _ in panel["points"])
    counted, beyond = sum(count for *_, count in panel["points"]), panel["outside"].values()
    assert max(beyond) <= panel["channels"] - counted <= sum(beyond)
    assert {dots.get_gid() for dots in drawn.figure.axes[0].collections} == {"point", "point rim", "query", "query rim"}


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"layers": "3_19"}, LayerNotFoundError, "no layer '3_19'"),
        ({"queries": "middle"}, QueryError, "no query 'middle'"),
        ({"size": 16}, SettingsError, "got size 16, expected 32"),
        ({"fit": "stretch"}, ValueError, "got fit: 'stretch', expected crop, squash or whole"),
        ({"sizes": 64}, TypeError, "got an unexpected keyword argument 'sizes'.*did you mean size?"),
        ({"weights": "ema"}, SettingsError, "expected one of the two"),
        ({"layers": [3]}, LayerNotFoundError, "got 3 as a layer, expected a name or pattern"),
        ({"queries": []}, SettingsError, "got no queries, expected one or more"),
        ({"queries": 0.3}, QueryError, "got query 0.3, expected center"),
    ],
)
def test_wrong_settings_are_refused(pixels, nano, settings, error, text):
    with pytest.raises(error, match=text):
        atmviz.overlay(pixels, nano, **settings)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("nope.jpg", "got no image file nope.jpg, expected the path of one image"),
        (".", "got the folder ., expected the path of one image"),
        (["a.png"], "got no image file a.png, expected the path of one image"),
        ([["a.png"]], "got list as an image, expected a path"),
        (3, "got int as an image"),
    ],
)
def test_a_wrong_image_is_named_with_what_is_expected(nano, image, text):
    with pytest.raises(DatasetError, match=text):
        atmviz.overlay(image, nano)


def test_a_recording_in_place_of_an_image_is_sent_to_the_histogram(nano, recorded):
    for recording in (recorded, str(recorded), atmviz.open_recording(recorded)):
        with pytest.raises(SettingsError, match="got a recording, expected an image: a histogram shows recordings"):
            atmviz.overlay(recording, nano)


@pytest.mark.parametrize("network", [np.zeros(3), 3, ["atmnet_nano"]], ids=["array", "number", "list"])
def test_what_is_no_network_is_refused(pixels, network):
    with pytest.raises(SettingsError, match="as a network, expected an open one"):
        atmviz.overlay(pixels, network)


@pytest.mark.parametrize("queries", [(0.3, 0.6), [(0.3, 0.6)], "0.3,0.6"])
def test_a_pair_of_numbers_is_one_query(pixels, nano, queries):
    asked, expected = (
        queried(atmviz.overlay(pixels, nano, queries=queries, size=64)) for queries in (queries, ["0.3,0.6"])
    )
    assert asked == expected


def test_the_signature_shows_every_setting():
    shown = inspect.signature(atmviz.overlay).parameters
    assert list(shown)[:4] == ["image", "network", "layers", "queries"]
    assert {"anchor", "size", "fit", "seed", "device"} <= set(shown)
    assert "settings" not in shown


def test_drawn_scenes_are_images_like_any_other(nano):
    drawn = list(draw_overlays(None, nano, dataset="shapes", limit=2, size=64))
    assert [figure.numbers["input_size"] for figure in drawn] == [[64, 64]] * 2
    assert [figure.numbers["seen"] for figure in drawn] == [1, 1]
    assert len({figure.name for figure in drawn}) == 2


def test_a_drawn_overlay_is_saved_under_its_name(photos, nano, tmp_path):
    (drawn,) = draw_overlays([photos / "b.png"], nano, size=64, queries="1:2")
    files = drawn.save(tmp_path / "figures", ("png", "svg"))
    assert [file.name for file in files] == [f"{drawn.name}.png", f"{drawn.name}.svg", f"{drawn.name}.csv"]
    assert re.fullmatch(r"b_ATMNet-\w{6}_overlay_3_18_\w{8}", drawn.name)
    assert all(file.is_file() for file in files)


def test_the_numbers_of_a_panel_are_those_drawn(photos, nano, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "atmviz.views.overlay_numbers.describe_panel", lambda panel: kept.append(panel) or describe_panel(panel)
    )
    (drawn,) = draw_overlays([photos / "a.png"], nano, size=64)
    (said,) = drawn.numbers["panels"]
    assert said["horizontal"] == kept[0].queries[0].samples.along("horizontal").tolist()
    assert sum(said["horizontal"]) + said["outside"]["left"] + said["outside"]["right"] == said["channels"] == 64


def test_scenes_are_said_to_be_drawn_at_the_input_size():
    (drawn,) = draw_overlays(None, dataset="shapes", limit=1, size=64, device="cpu")
    note = " ".join(text.get_text() for text in drawn.figure.texts).replace("\n", " ")
    assert "the scene is drawn at this size" in note
    assert "photograph" not in note


def of_kind(panel, gid):
    return [xy for marks in panel.collections if marks.get_gid() == gid for xy in marks.get_offsets().tolist()]


def test_a_list_of_images_is_a_row_of_panels(photos, pixels, nano):
    figure = atmviz.overlay([photos / "a.png", pixels, Image.fromarray(pixels)], nano, "3_18", size=64, width="text")
    assert titles(figure) == ["a.png", "image 2", "image 3"]
    assert heading(figure) == "ATMNet, input 64×96 px, layer_3_18 (offsets of 3_13)"
    assert len({round(axes.get_position().y0, 6) for axes in figure.axes}) == 1
    alone = atmviz.overlay(pixels, nano, "3_18", size=64)
    assert of_kind(figure.axes[1], "horizontal") == of_kind(alone.axes[0], "horizontal") != []
    two_rows = atmviz.overlay([pixels, pixels], nano, ["2_1", "3_18"], size=64)
    assert titles(two_rows) == [
        "image 1, layer_2_1",
        "image 2, layer_2_1",
        "image 1, layer_3_18",
        "image 2, layer_3_18",
    ]
    with pytest.raises(DatasetError, match="an empty list of images"):
        atmviz.overlay([], nano)


def test_figure_5_sets_size_and_layer(pixels, nano):
    assert heading(atmviz.overlay(pixels, nano, figure=5)) == "ATMNet, input 512×512 px"
    figure = atmviz.overlay([pixels, pixels], nano, "4_1", figure=5, size=64)
    assert heading(figure) == "ATMNet, input 64×64 px, layer_4_1"


def test_the_width_of_a_figure_is_the_one_asked_for(pixels, nano):
    assert atmviz.overlay(pixels, nano, size=64, width="column").get_figwidth() == 3.25
    assert atmviz.overlay(pixels, nano, size=64, width="8cm").get_figwidth() == pytest.approx(8 / 2.54)
    with pytest.raises(SettingsError, match="got width 'wide'"):
        atmviz.overlay(pixels, nano, width="wide")
    with pytest.raises(TypeError, match="share_x"):
        atmviz.overlay(pixels, nano, share_x=True)


def test_queries_together_are_on_one_photograph_each_in_a_color(pixels, nano):
    queries = ["0:0", "2:3", "3:5"]
    figure = atmviz.overlay(pixels, nano, "3_18", queries, size=64, together=True)
    (panel,) = figure.axes
    drawn = [marks for marks in panel.collections if marks.get_gid() == "query"]
    assert len({tuple(marks.get_facecolor()[0]) for marks in drawn}) == 3
    apart = atmviz.overlay(pixels, nano, "3_18", queries, size=64)
    for gid in ("horizontal", "vertical", "query"):
        assert of_kind(panel, gid) == [xy for axes in apart.axes for xy in of_kind(axes, gid)]
    assert {f"query {query}" for query in queries} <= {text.get_text() for text in figure.legends[0].get_texts()}
    many = atmviz.overlay(pixels, nano, "3_18", "grid:4x4", size=64, together=True)
    assert len({tuple(m.get_facecolor()[0]) for m in many.axes[0].collections if m.get_gid() == "query"}) == 16


def test_the_density_view_counts_the_samples_of_all_tokens(photos, nano):
    (drawn,) = draw_overlays(photos / "a.png", nano, size=64, layers="2_1", view="density")
    horizontal, vertical, scale = drawn.figure.axes
    assert titles(drawn.figure)[:2] == ["horizontal", "vertical"]
    assert "on average" in scale.get_xlabel()
    assert list(drawn.table) == ["layer", "source", "axis", "i", "j", "samples", "per_channel"]
    for axis, panel in (("horizontal", horizontal), ("vertical", vertical)):
        rows = drawn.table[drawn.table.axis == axis]
        (heat,) = (image for image in panel.images if image.get_gid() == "heat")
        assert heat.get_array().tolist() == rows.per_channel.to_numpy().reshape(8, 12).tolist()
        channels = nano.get_submodule(drawn_module(nano, "2_1")).fc_width.in_features
        assert (rows.samples / channels).tolist() == pytest.approx(rows.per_channel.tolist())
        assert 0 < rows.samples.sum() <= 8 * 12 * channels


def drawn_module(network, layer):
    from atmviz.observe import find_sites

    return find_sites(network, [layer])[0].module


def test_fusion_weights_of_an_image_are_bars_and_those_of_tokens_are_maps(photos, nano):
    (bars,) = draw_overlays(photos / "a.png", nano, size=64, layers=["2_1", "3_18"], view="fusion")
    assert titles(bars.figure) == ["layer_2_1", "layer_3_18"]
    assert list(bars.table) == ["layer", "source", "branch", "weight", "weight_p10", "weight_p90"]
    heights = [[bar.get_height() for bar in axes.patches] for axes in bars.figure.axes]
    assert [sum(of_one) for of_one in heights] == pytest.approx([1, 1])
    assert bars.table.weight.tolist() == pytest.approx([height for of_one in heights for height in of_one])

    network = create_model("atmnet_nano", fusion="token").eval()
    (maps,) = draw_overlays(photos / "a.png", network, size=64, layers="3_1", view="fusion")
    assert titles(maps.figure)[:3] == ["width", "height", "identity"]
    assert list(maps.table) == ["layer", "source", "branch", "i", "j", "weight"]
    per_token = maps.table.groupby(["i", "j"]).weight.sum()
    assert len(per_token) == 4 * 6
    assert per_token.tolist() == pytest.approx([1] * 24)


def test_the_table_of_samples_is_that_of_the_figure(photos, nano):
    (drawn,) = draw_overlays(photos / "a.png", nano, size=64, layers="3_18", queries="1:2")
    table, (said,) = drawn.table, drawn.numbers["panels"]
    assert list(table) == ["layer", "source", "query", "axis", "i", "j", "dy", "dx", "channels", "share"]
    for axis in ("horizontal", "vertical"):
        rows = table[table.axis == axis]
        assert rows.channels.sum() == 64
        assert rows.share.sum() == pytest.approx(1)
        index = "j" if axis == "horizontal" else "i"
        inside = {int(row[index]): row.channels for _, row in rows.iterrows() if str(row[index]).isdigit()}
        assert inside == {token: count for token, count in enumerate(said[axis]) if count}


def test_a_query_that_layers_round_apart_has_a_cross_and_a_note(pixels, nano):
    figure = atmviz.overlay(pixels, nano, ["1_1", "4_1"], "0.3,0.4", size=64)
    crosses = [
        [line.get_xydata()[0].tolist() for line in axes.lines if line.get_gid() == "exact"] for axes in figure.axes
    ]
    assert crosses == [[pytest.approx([0.3 * 72 - 0.5, 0.4 * 48 - 0.5])]] * 2
    assert "the cross is the exact query" in said_of(figure)
    same = atmviz.overlay(pixels, nano, ["3_1", "3_18"], "0.3,0.4", size=64)  # one grid: one token
    assert "cross is" not in said_of(same)
    token = atmviz.overlay(pixels, nano, ["1_1", "4_1"], "1:1", size=64)
    assert not [line for axes in token.axes for line in axes.lines if line.get_gid() == "exact"]


def said_of(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_queries_together_take_the_colors_of_a_list_in_turn(pixels, nano):
    queries = ["0.2,0.5", "0.5,0.5", "0.8,0.5"]
    figure = atmviz.overlay(pixels, nano, queries=queries, together=True, palette="red, blue", size=64)
    marks = [m for m in figure.axes[0].collections if m.get_gid() == "query"]
    assert [tuple(m.get_facecolor()[0][:3]) for m in marks] == [(1, 0, 0), (0, 0, 1), (1, 0, 0)]
