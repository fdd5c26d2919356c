"""Overlays: dots of known offsets at pixels worked out by hand, on the figure and in the written PNG."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from atmviz.errors import QueryError, SettingsError
from atmviz.figures import OverlayPanel, Photo, QuerySamples, draw_overlay, save_figure
from atmviz.figures.settings import WIDTHS, FigureStyle
from atmviz.figures.style import COLORS, Look
from atmviz.geometry import Preprocessing, map_size
from atmviz.models import create_model
from atmviz.models.token_mixer import OffsetLayer
from atmviz.observe import find_sites, observe_image
from atmviz.observe.image import ObservedImage
from atmviz.recording.query import Query
from atmviz.statistics import sampling_map
from atmviz.views.panels import photo_of, sample_panels

HORIZONTAL, VERTICAL = COLORS["horizontal"], COLORS["vertical"]
LAYER = "3_18"  # 64 channels, 16 offsets, those of 3_13; a token is 16 input pixels
CENTER = Query("center")
WHOLE, CROP = Preprocessing((64, 64), "whole"), Preprocessing((64, 96), "crop", 1.0)


@pytest.fixture
def looking(site):
    """Panels of a network whose channels, everywhere, have these offsets in turn; no network is run."""

    def make(horizontal, vertical, size, fit=WHOLE, queries=(CENTER,), anchor="cell", layers=(LAYER,), **more):
        placement = fit.place(*size)
        infos = [
            site(layer, "3_13" if layer == LAYER else layer, map_size(placement.size, 2 ** (int(layer[0]) + 1)))
            for layer in layers
        ]
        offsets = np.stack([np.resize(values, 16) for values in (horizontal, vertical)])
        kept = {info.name: np.broadcast_to(offsets, (*info.grid, 2, 16)) for info in infos}
        return panels_of(ObservedImage(placement, infos, kept), queries, anchor=anchor, **more)

    return make


def panels_of(observed, queries=(CENTER,), photo=None, **more):
    grey = np.full((*observed.placement.image, 3), 128, np.uint8)
    return sample_panels(photo_of(grey if photo is None else photo, observed), observed, queries, **more)


def draw(panels, row=1, trained=True, heading="nano", note="one dot per token", **style):
    return draw_overlay(panels, row=row, title=heading, note=note, trained=trained, style=FigureStyle(**style))


def dots(panel):
    """{(x, y)} of the blue and of the orange dots."""
    return tuple({tuple(xy) for xy in marks(panel, direction)} for direction in ("horizontal", "vertical"))


def marks(panel, gid):
    """[x, y] of the circles of that kind."""
    drawn = [one.get_offsets() for one in panel.collections if one.get_gid() == gid]
    return np.round(np.concatenate(drawn), 3).tolist() if drawn else []


def circles(panel, gid):
    (drawn,) = (one for one in panel.collections if one.get_gid() == gid)
    return drawn


def marker(panel):
    """(x, y) of the mark of the query."""
    ((x, y),) = marks(panel, "query")
    return x, y


def outside_marks(panel):
    """(share, where on the border, outward direction, colour) of what is said about samples outside."""
    return [
        (text.get_text(), text.xy, tuple(np.sign(text.xyann).tolist()), to_hex(text.arrow_patch.get_edgecolor()))
        for text in panel.texts
        if "%" in text.get_text()
    ]


# Offsets: horizontal -2 and 2, vertical 1 and -2. Query: the centre token. An input pixel u is the original pixel
# (u + origin + 0.5) * scale - 0.5; a token's cell centre is input pixel 16 * index + 7.5, its "rf" one 16 * index + 1.
MARGIN, SQUASH = Preprocessing((64, 96), "crop", 0.75), Preprocessing((64, 96), "squash")
PLACED = {
    "whole": ((128, 256), WHOLE, "cell", (143.5, 79.5), (79.5, 207.5), (111.5, 15.5)),
    "whole, rf": ((128, 256), WHOLE, "rf", (130.5, 66.5), (66.5, 194.5), (98.5, 2.5)),
    "whole, tall": ((256, 128), WHOLE, "cell", (79.5, 143.5), (15.5,), (175.5, 79.5)),  # of 4 columns, 4 is outside
    "crop": ((100, 200), CROP, "cell", (112, 62), (62, 162), (87, 12)),
    "crop, rf": ((100, 200), CROP, "rf", (101.844, 51.844), (51.844, 151.844), (76.844, 1.844)),
    "crop of a margin": ((160, 160), MARGIN, "cell", (89.5, 89.5), (49.5, 129.5), (109.5, 49.5)),
    "squash": ((256, 128), SQUASH, "cell", (74.167, 159.5), (31.5, 116.833), (223.5, 31.5)),
    "squash, rf": ((256, 128), SQUASH, "rf", (65.5, 133.5), (22.833, 108.167), (197.5, 5.5)),
}


@pytest.mark.parametrize(("size", "preprocessing", "anchor", "query", "xs", "ys"), PLACED.values(), ids=PLACED)
def test_every_dot_lies_at_its_token_in_the_photograph(nano, size, preprocessing, anchor, query, xs, ys):
    for module in nano.modules():
        if isinstance(module, OffsetLayer):
            torch.nn.init.zeros_(module.linear.weight)
            count = module.linear.out_features // 2
            bias = [*np.resize([-2, 2], count), *np.resize([1, -2], count)]
            module.linear.bias.data = torch.tensor(bias, dtype=torch.float32)
    observed = observe_image(nano, np.zeros((*size, 3), np.uint8), preprocessing, find_sites(nano, [LAYER]))
    (panel,) = draw(panels_of(observed, anchor=anchor)).axes
    horizontal, vertical = dots(panel)
    assert marker(panel) == query
    assert horizontal == {(x, query[1]) for x in xs}
    assert vertical == {(query[0], y) for y in ys}


@pytest.mark.parametrize("anchor", ["cell", "rf"])
@pytest.mark.parametrize("size", [(96, 192), (192, 96), (100, 130)])
@pytest.mark.parametrize("query", [CENTER, Query("token", 1, 2), Query("image", 0.9, 0.2)], ids=str)
def test_zero_offsets_land_exactly_on_the_query(looking, anchor, size, query):
    panels = looking([0], [0], size, queries=[query], anchor=anchor, layers=["1_1", "3_18"])
    for panel in draw(panels, row=2).axes:
        at = circles(panel, "query").get_offsets().tolist()
        assert circles(panel, "horizontal").get_offsets().tolist() == at
        assert circles(panel, "vertical").get_offsets().tolist() == at


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_horizontal_offsets_stay_in_the_row_and_vertical_ones_in_the_column(looking, stage):
    size, layers = (256, 512), [f"{stage}_1"]
    cell = 2 ** (stage + 1) * 4  # original pixels: the photograph is shrunk to a quarter
    (panel,) = draw(looking([-1, 1], [0], size, layers=layers)).axes
    x, y = marker(panel)
    assert dots(panel) == ({(x - cell, y), (x + cell, y)}, {(x, y)})
    (panel,) = draw(looking([0], [-1], size, layers=layers)).axes
    assert dots(panel) == ({(x, y)}, {(x, y - cell)})


@pytest.mark.parametrize(("offset", "column"), [(0.5, 4), (0.51, 5), (1.5, 6), (-0.5, 4), (-1.2, 3)])
def test_a_sample_is_drawn_at_the_token_nearest_to_it(looking, offset, column):
    (panel,) = draw(looking([offset], [0], (128, 256))).axes
    assert dots(panel)[0] == {(32 * column + 15.5, 79.5)}


@pytest.mark.parametrize(
    ("query", "token"),
    [
        (Query("px", 223, 15), (0, 6)),  # x, y of the original: column 223 / 32, row 15 / 32
        (Query("px", 15, 111), (3, 0)),
        (Query("px", 31.4, 31.6), (1, 0)),  # just before and after the border between two tokens, at 31.5
        (Query("image", 0.9, 0.3), (1, 7)),
        (Query("token", 3, 6), (3, 6)),
    ],
    ids=str,
)
def test_queries_are_marked_on_the_token_they_name(looking, query, token):
    size = (128, 256)  # 4 x 8 tokens of 32 original pixels
    (panel,) = draw(looking([0], [0], size, queries=[query])).axes
    assert marker(panel) == (32 * token[1] + 15.5, 32 * token[0] + 15.5)


def test_queries_outside_the_photograph_are_refused(looking):
    with pytest.raises(QueryError, match="100,200 is outside the image: expected x 0-255, y 0-127"):
        looking([0], [0], (128, 256), queries=[Query("px", 100, 200)])


def test_opacity_grows_with_the_number_of_channels_and_the_faintest_dot_is_seen(looking):
    panels = looking([1] * 11 + [2] * 4 + [3], [0], (128, 256))
    assert panels[0].queries[0].samples.along("horizontal").tolist() == [0, 0, 0, 0, 0, 44, 16, 4]
    (panel,) = draw(panels).axes
    horizontal, vertical = circles(panel, "horizontal"), circles(panel, "vertical")
    one, two, three = (color[3] for color in horizontal.get_facecolors())
    assert one > two > three > 0.2
    assert vertical.get_facecolors()[0, 3] == 1  # all 64 channels sample the query
    assert to_hex(horizontal.get_facecolors()[0]) == HORIZONTAL
    assert to_hex(vertical.get_facecolors()[0]) == VERTICAL


# Placed as "crop" above: the network saw x from 24.5 to 174.5 and y from -0.5 to 99.5; the query is at (112, 62).
# Outward on the page: y grows upwards there.
OUTSIDE = {
    "left": ([-4, -3, 0, 0], [0], ("25.0 %", (24.5, 62), (-1, 0), HORIZONTAL)),
    "right": ([3, 9, 0, 0], [0], ("50.0 %", (174.5, 62), (1, 0), HORIZONTAL)),
    "top": ([0], [-3, -3, -3, 0], ("75.0 %", (112, -0.5), (0, 1), VERTICAL)),
    "bottom": ([0], [2] * 15 + [0], ("93.8 %", (112, 99.5), (0, -1), VERTICAL)),
}


@pytest.mark.parametrize(("horizontal", "vertical", "mark"), OUTSIDE.values(), ids=OUTSIDE)
def test_samples_outside_are_a_tick_at_the_border_with_their_share(looking, horizontal, vertical, mark):
    (panel,) = draw(looking(horizontal, vertical, (100, 200), CROP)).axes
    assert outside_marks(panel) == [mark]
    drawn = dots(panel)
    assert all(24.5 < x < 174.5 and -0.5 < y < 99.5 for x, y in drawn[0] | drawn[1])  # none at the border instead


def test_a_layer_that_looks_only_outside_has_ticks_and_no_dots(looking):
    (panel,) = draw(looking([-9, 9], [-1e6, 1e6], (100, 200), CROP)).axes
    assert dots(panel) == (set(), set())
    assert [share for share, *_ in outside_marks(panel)] == ["50.0 %"] * 4


def test_a_map_that_holds_all_samples_has_no_ticks(looking):
    (panel,) = draw(looking([1], [1], (100, 200), CROP)).axes
    assert outside_marks(panel) == []


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_network_of_2d_points_has_dots_of_one_color_at_its_points():
    network = create_model("atmnet_nano", offset_mode="joint").eval()
    for module in network.modules():
        if isinstance(module, OffsetLayer):  # half of the channels 2 to the right and 1 down, half beyond the top
            torch.nn.init.zeros_(module.linear.weight)
            count = module.linear.out_features // 2
            bias = [*np.resize([2, 0], count), *np.resize([1, -9], count)]
            module.linear.bias.data = torch.tensor(bias, dtype=torch.float32)
    size = (128, 256)  # 4 x 8 tokens of 32 original pixels, query at (143.5, 79.5)
    observed = observe_image(network, np.zeros((*size, 3), np.uint8), WHOLE, find_sites(network, ["3_1"]))
    figure = draw(panels_of(observed))
    (panel,) = figure.axes
    points = circles(panel, "point")
    assert points.get_offsets().tolist() == [[143.5 + 64, 79.5 + 32]]
    assert to_hex(points.get_facecolors()[0]) == COLORS["point"]
    assert outside_marks(panel) == [("50.0 %", (143.5, -0.5), (0, 1), COLORS["point"])]
    assert legend_of(figure) == [
        "query token",
        "sampled at 2-D points",
        "32 of 64 channels",
        "outside the map (% of the channels)",
    ]


def test_the_legend_explains_colors_and_what_there_is_outside(looking):
    usual = ["query token", "sampled horizontally", "sampled vertically"]
    assert legend_of(draw(looking([0, 1], [0], (96, 128)))) == [*usual, "32 · 64 of 64 channels"]
    outside = "outside the map (% of the channels)"
    assert legend_of(draw(looking([0, 9], [0], (96, 128)))) == [*usual, "32 · 64 of 64 channels", outside]


def test_the_legend_says_how_many_channels_an_opacity_stands_for(looking):
    figure = draw(looking([0] * 8 + [1] * 7 + [2], [-1] * 10 + [1] * 6, (128, 256)))
    assert legend_of(figure)[3] == "4 · 16 · 40 of 64 channels"
    symbols = figure.legends[0].legend_handles[3]
    shades = [to_rgba(line.get_markerfacecolor())[3] for line in figure.legends[0].findobj(Line2D)]
    assert symbols is not None
    drawn = {
        count: color[3]
        for gid, counts in (("horizontal", (32, 28, 4)), ("vertical", (40, 24)))
        for count, color in zip(counts, circles(figure.axes[0], gid).get_facecolors(), strict=True)
    }
    assert {round(shade, 6) for shade in shades} >= {round(drawn[count], 6) for count in (4, 40)}


def test_layers_of_different_channels_have_a_scale_in_percent(looking, site):
    panels = looking([0], [0, 0, 0, 1], (128, 256), layers=["3_1", "3_18"])
    other = replace(panels[1].queries[0].samples, channels=128)
    mixed = [panels[0], replace(panels[1], shown=(replace(panels[1].queries[0], samples=other),))]
    assert legend_of(draw(mixed, row=2))[3] == "6.2 · 25 · 100 % of the channels"


def test_the_panel_shows_what_the_network_saw(looking):
    (panel,) = draw(looking([0], [0], (100, 200), CROP)).axes
    assert panel.get_xlim() == (24.5, 174.5)
    assert panel.get_ylim() == (99.5, -0.5)
    assert panel.images[0].get_extent() == [-0.5, 199.5, 99.5, -0.5]  # pixel centres are whole numbers


@pytest.mark.parametrize("size", [(100, 200), (200, 100), (90, 900), (900, 90)])
def test_pixels_are_drawn_square(looking, size):
    figure = draw(looking([0], [0], size))
    FigureCanvasAgg(figure).draw()
    (panel,) = figure.axes
    (x0, y0), (x1, y1) = panel.transData.transform([(0, 0), (10, 10)])
    assert x1 - x0 == pytest.approx(y0 - y1, rel=0.01)


def test_a_large_photograph_is_drawn_small_and_keeps_its_pixel_positions(looking):
    size = (2448, 3264)  # 8 megapixels; the network sees 64 x 85 of int(85.33): 4 x 6 tokens, query (2, 3)
    (panel,) = draw(looking([-2], [-1], size)).axes
    assert max(panel.images[0].get_array().shape) <= 1600
    assert panel.images[0].get_extent() == [-0.5, 3263.5, 2447.5, -0.5]
    x, y = round(56 * 3264 / 85 - 0.5, 3), 40 * 2448 / 64 - 0.5
    assert marker(panel) == (x, y)
    assert dots(panel) == ({(round(24 * 3264 / 85 - 0.5, 3), y)}, {(x, 24 * 2448 / 64 - 0.5)})


def test_panels_are_queries_by_layers_in_reading_order(looking):
    size, queries = (96, 128), [Query("token", 0, 1), Query("token", 2, 3), CENTER]
    panels = looking([0], [0], size, Preprocessing((96, 96), "whole"), queries, layers=["2_1", LAYER])
    figure = draw(panels, row=2)
    FigureCanvasAgg(figure).draw()
    said = [" ".join(text.get_text() for text in panel.findobj(Text)) for panel in figure.axes]
    expected = [
        (layer, token)
        for of_2_1, of_3_18 in (("0:1", "0:1"), ("2:3", "2:3"), ("6:8", "3:4"))
        for layer, token in (("layer_2_1", of_2_1), ("layer_3_18", of_3_18))
    ]
    for text, (layer, token) in zip(said, expected, strict=True):
        assert layer in text
        assert f"query token {token}" in text
        assert ("offsets of 3_13" in text) == (layer == "layer_3_18")
    first, second, third = (figure.axes[index].get_position() for index in (0, 1, 2))
    assert first.x1 < second.x0
    assert first.y0 > third.y1
    assert third.x0 == pytest.approx(first.x0)


@pytest.mark.parametrize(("count", "columns"), [(3, 1), (4, 2), (6, 2), (9, 3)])
def test_layers_and_photographs_fill_rows_without_a_hole(scattered, count, columns):
    layers = ["1_1", "2_1", "3_1", "3_2", "3_3", "3_4", "3_14", "3_18", "4_2"][:count]
    width = {3: 5.2}.get(columns, 3.25)
    for figure in (
        draw(scattered((480, 640), 1, layers), row=count, width=width),
        draw(scattered((480, 640), count, name="a"), width=width),
    ):
        lefts = [round(axis.get_position().x0, 3) for axis in figure.axes]
        assert len({lefts.count(left) for left in lefts}) == 1, lefts
        assert len(set(lefts)) == columns


def test_a_note_begins_below_the_first_photograph_if_there_is_room(scattered):
    figure = draw(scattered((900, 300), 1), note="one dot per token", width="text")
    (note,) = (text for text in figure.texts if text.get_text() == "one dot per token")
    assert note.get_position()[0] == pytest.approx(figure.axes[0].get_position().x0)
    assert note.get_position()[0] > 0.1


def test_the_symbols_of_a_legend_have_one_edge(looking):
    queries = [Query("token", row, 1) for row in range(3)]
    figure = draw(looking([0, 1], [0], (96, 128), queries=queries, together=True))
    symbols = [line for line in figure.legends[0].findobj(Line2D) if line.get_marker() in ("o", "s")]
    assert len(symbols) > 6
    assert len({to_hex(symbol.get_markeredgecolor()) for symbol in symbols}) == 1


def test_unfilled_places_in_the_last_row_are_empty(looking):
    queries = [Query("token", 0, column) for column in range(3)]
    figure = draw(looking([0], [0], (96, 128), queries=queries), columns=2)
    assert sum(panel.get_visible() for panel in figure.axes) == 3


@pytest.mark.parametrize("trained", [True, False])
def test_untrained_weights_are_named_and_trained_ones_not(looking, trained):
    figure = draw(looking([0], [0], (96, 128)), trained=trained)
    found = [text.get_text() for text in figure.findobj(Text)]
    assert ("untrained weights" in found) == (not trained)
    assert {"nano", "one dot per token"} <= set(found)


def near(pixels, color, tolerance=40):
    """Centre (x, y) of the pixels of about that colour."""
    rows, columns = np.nonzero(np.abs(pixels.astype(int) - np.array(color)).max(axis=2) < tolerance)
    assert len(rows), f"no pixel of {color}"
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("anchor", ["cell", "rf"])
def test_the_written_png_has_each_colour_on_its_token(looking, tmp_path, anchor):
    """Positions are measured in the PNG against two squares in the photograph, not against the drawing's own axes."""
    photo = np.full((128, 256, 3), 128, np.uint8)
    green, magenta = (0, 255, 0), (255, 0, 255)
    photo[8:16, 8:16], photo[112:120, 240:248] = green, magenta  # centres (11.5, 11.5) and (243.5, 115.5)
    panels = looking([2], [1], (128, 256), queries=[Query("token", 1, 2)], anchor=anchor, photo=photo)
    figure = draw(panels, note="")
    (file,) = save_figure(figure, [tmp_path / "overlay.png"])
    png = np.asarray(Image.open(file).convert("RGB"))
    first, second = near(png, green), near(png, magenta)
    top, bottom = int(first[1]), int(second[1])  # the legend, in the same colours, is below

    def in_photo(color):
        found = near(png[top:bottom], tuple(round(255 * part) for part in to_rgb(color)))
        found[1] += top
        return 11.5 + (found - first) / (second - first) * (np.array([243.5, 115.5]) - 11.5)

    shift = 0 if anchor == "cell" else -13  # 6.5 input pixels up and left, doubled
    assert in_photo(HORIZONTAL) == pytest.approx([32 * 4 + 15.5 + shift, 32 * 1 + 15.5 + shift], abs=0.4)
    assert in_photo(VERTICAL) == pytest.approx([32 * 2 + 15.5 + shift, 32 * 2 + 15.5 + shift], abs=0.4)


@pytest.fixture
def scattered(site):
    """Panels whose samples are outside on every side."""

    def make(size, count, layers=(LAYER,), name="", queries=(CENTER,)):
        placement = Preprocessing((224, 224), "whole").place(*size)
        offsets = np.repeat([[-100, 100, 0, 1]], 2, axis=0)
        panels = []
        for number in range(count):
            photo = Photo(np.zeros((*size, 3), np.uint8), placement, name and f"{name}{number}.jpg")
            for layer in layers:
                info = site(layer, "3_13", map_size(placement.size, 2 ** (int(layer[0]) + 1)))
                query = queries[number % len(queries)]
                token = query.token(placement, info.grid, info.stride_px)
                samples = sampling_map(offsets, token, info.grid)
                panels.append(OverlayPanel(photo, info, (QuerySamples(query, samples),)))
        return panels

    return make


SHAPES = [(480, 640), (640, 480), (512, 512), (900, 300), (300, 900)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize(("queries", "columns"), [(1, 1), (2, 2), (4, 4), (5, 4)])
def test_all_text_can_be_read(scattered, unreadable, size, queries, columns):
    figure = draw(scattered(size, queries), heading=TITLE, note=LONG_NOTE, trained=False, columns=columns)
    assert unreadable(figure) == []


TITLE = "atmnet_large on photographer.jpg, input 224×298 px"
LONG_NOTE = "one circle per sampled token (the nearest), at the center of its receptive field; center crop: 67 % of it"


def small(figure):
    return sorted({text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_fontsize() < 6})


@pytest.mark.parametrize("width", [*WIDTHS, "8cm"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", SHAPES)
def test_panels_of_layers_can_be_read_at_the_printed_width(scattered, unreadable, width, count, size):
    layers = ["1_1", "2_1", "3_1", "3_14", "3_18", "4_2"][:count]
    corner = Query("image", 0.02, 0.97)
    figure = draw(
        scattered(size, 1, layers, queries=[corner]),
        row=count,
        heading=TITLE,
        note=LONG_NOTE,
        trained=False,
        width=width,
    )
    assert figure.get_figwidth() == pytest.approx(FigureStyle(width=width).width)
    assert figure.get_figheight() <= 9.01
    assert unreadable(figure) + small(figure) == []
    assert min(panel.get_position().height for panel in figure.axes) * figure.get_figheight() > 0.4


@pytest.mark.parametrize("width", [*WIDTHS, "8cm"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", ["", "a_photograph_with_a_name_"])
def test_panels_of_queries_and_of_images_can_be_read_at_the_printed_width(scattered, unreadable, width, count, name):
    queries = [Query("image", 0.125 + 0.1 * number, 0.875) for number in range(count)]
    panels = scattered((480, 640), count, name=name, queries=queries)
    figure = draw(panels, row=count if name else 1, heading=TITLE, note=LONG_NOTE, trained=False, width=width)
    assert figure.get_figwidth() == pytest.approx(FigureStyle(width=width).width)
    assert unreadable(figure) + small(figure) == []


@pytest.mark.parametrize(
    ("width", "layers", "tallest"),
    [
        (None, ["2_1", "3_1", "3_18"], 24),
        ("text", ["2_1", "3_18"], 9),
        ("column", ["3_18"], 9),
        ("slide", ["3_18"], 6.2),
    ],
)
def test_a_grid_of_queries_gives_smaller_panels_not_a_huge_figure(scattered, unreadable, width, layers, tallest):
    queries = [Query("input", (c + 0.5) / 4, (r + 0.5) / 4) for r in range(4) for c in range(4)]
    panels = scattered((480, 640), 16, layers, queries=queries)
    figure = draw(panels, row=len(layers), **({"width": width} if width else {}))
    assert figure.get_figheight() <= tallest
    assert max(figure.get_size_inches()) * figure_dpi() <= 4800
    assert len(figure.axes) == 16 * len(layers)
    assert unreadable(figure) == []


def figure_dpi():
    return Look.of(FigureStyle()).dpi


def test_panels_too_small_to_be_seen_are_refused(looking):
    queries = [Query("token", 0, 1)] * 150
    with pytest.raises(SettingsError, match=r"got 150 panels, more than can be seen at 1\.5 inches: choose fewer"):
        draw(looking([0], [0], (96, 128), queries=queries), width="1.5in")
    with pytest.raises(SettingsError, match="or a wider figure"):
        draw(looking([0], [0], (96, 128), queries=queries), columns=64, width="column")


def test_images_of_different_shapes_are_equally_high_and_square_in_their_pixels(site):
    grids = {}
    panels = []
    for size in ((480, 640), (640, 480), (300, 900)):
        placement = Preprocessing((224, 224), "whole").place(*size)
        info = site("3_18", "3_13", map_size(placement.size, 16))
        samples = sampling_map(np.zeros((2, 4)), info.query, info.grid)
        panels.append(
            OverlayPanel(
                Photo(np.zeros((*size, 3), np.uint8), placement, str(size)), info, (QuerySamples(CENTER, samples),)
            )
        )
        grids[size] = info.grid
    figure = draw(panels, row=3, width="text")
    boxes = [panel.get_position() for panel in figure.axes]
    width, height = figure.get_size_inches()
    assert len({round(box.height, 6) for box in boxes}) == 1
    shapes = [box.height * height / (box.width * width) for box in boxes]
    assert shapes == pytest.approx([480 / 640, 640 / 480, 300 / 900], rel=0.01)
    assert [panel.get_title() for panel in figure.axes] == [str(size) for size in grids]


@pytest.mark.parametrize(("setting", "gone"), [("title", "nano"), ("legend", "one dot per token")])
def test_title_and_legend_can_be_left_out_and_the_warning_of_untrained_weights_stays(looking, setting, gone):
    panels = looking([0], [0], (96, 128))
    with_it, without = (draw(panels, trained=False, **{setting: value}) for value in (True, False))
    said, left = ([text.get_text() for text in figure.findobj(Text)] for figure in (with_it, without))
    assert gone in said
    assert gone not in left
    assert "untrained weights" in left
    assert bool(without.legends) == (setting == "title")
    assert without.get_figheight() < with_it.get_figheight()


@pytest.mark.parametrize(("axis", "other"), [("horizontal", "vertical"), ("vertical", "horizontal")])
def test_one_axis_alone_is_drawn_and_counted_outside(looking, axis, other):
    figure = draw(looking([1, 99], [1, 99], (96, 128), axis=axis))
    (panel,) = figure.axes
    assert len(marks(panel, axis)) == 1
    assert marks(panel, other) == []
    assert [color for *_, color in outside_marks(panel)] == [COLORS[axis]]
    assert f"sampled {other}ly" not in legend_of(figure)


def test_columns_palette_and_type_are_those_asked_for(looking):
    queries = [Query("token", 0, column) for column in range(4)]
    figure = draw(
        looking([1], [1], (96, 128), queries=queries), columns=4, palette="#ff0000,#00ff00,#0000ff", font_size=11
    )
    FigureCanvasAgg(figure).draw()
    assert len({round(panel.get_position().y0, 4) for panel in figure.axes}) == 1
    colors = [to_hex(circles(figure.axes[0], gid).get_facecolors()[0]) for gid in ("horizontal", "vertical", "query")]
    assert colors == ["#ff0000", "#00ff00", "#0000ff"]
    assert figure.axes[0].title.get_fontsize() == 11


@pytest.mark.parametrize("name", ["a long name of a photograph " * 5, "without_a_place_to_break_" * 5])
def test_a_long_title_can_be_read(looking, unreadable, name):
    title = f"atmnet_nano on {name}.jpg, input 224×298 px"
    panels = looking([0], [0], (128, 256))
    figure = draw(panels, heading=title, note="", trained=False)
    assert unreadable(figure) == []
