"""Overlays: dots of known offsets at pixels worked out by hand, on the figure and in the written PNG."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from PIL import Image

from atmviz.errors import QueryError
from atmviz.figures import draw_overlay, overlay_panels, save_figure
from atmviz.figures.overlay import OverlayPanel
from atmviz.figures.style import COLORS
from atmviz.geometry import Preprocessing, map_size
from atmviz.models import create_model
from atmviz.models.token_mixer import OffsetLayer
from atmviz.observe import find_sites, observe_image
from atmviz.observe.image import ObservedImage
from atmviz.recording.query import Query
from atmviz.statistics import sampling_map

HORIZONTAL, VERTICAL = COLORS["horizontal"], COLORS["vertical"]
LAYER = "3_18"  # 64 channels, 16 offsets, those of 3_13; a token is 16 input pixels
CENTER = Query("center")
WHOLE, CROP = Preprocessing((64, 64), "whole"), Preprocessing((64, 96), "crop", 1.0)


@pytest.fixture
def looking(site):
    """Panels of a network whose channels, everywhere, have these offsets in turn; no network is run."""

    def make(horizontal, vertical, size, fit=WHOLE, queries=(CENTER,), anchor="cell", layers=(LAYER,)):
        placement = fit.place(*size)
        infos = [
            site(layer, "3_13" if layer == LAYER else layer, map_size(placement.size, 2 ** (int(layer[0]) + 1)))
            for layer in layers
        ]
        offsets = np.stack([np.resize(values, 16) for values in (horizontal, vertical)])
        kept = {info.name: np.broadcast_to(offsets, (*info.grid, 2, 16)) for info in infos}
        return overlay_panels(ObservedImage(placement, infos, kept), queries, anchor)

    return make


def draw(size, panels, columns=1, trained=True):
    photo = np.full((*size, 3), 128, np.uint8)
    return draw_overlay(photo, panels, columns=columns, title="nano", note="one dot per token", trained=trained)


def dots(panel):
    """{(x, y)} of the blue and of the orange dots."""
    horizontal, vertical = panel.collections
    return tuple({tuple(xy) for xy in np.round(one.get_offsets(), 3).tolist()} for one in (horizontal, vertical))


def marker(panel):
    """(x, y) of the mark of the query."""
    (line,) = (line for line in panel.lines if line.get_gid() == "query")
    return tuple(np.round(line.get_xydata()[0], 3).tolist())


def outside_marks(panel):
    """(share, where on the border, outward direction, colour) of what is said about samples outside."""
    return [
        (text.get_text().strip(), text.xy, tuple(np.sign(text.xyann).tolist()), text.get_color())
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
    (panel,) = draw(size, overlay_panels(observed, [CENTER], anchor)).axes
    horizontal, vertical = dots(panel)
    assert marker(panel) == query
    assert horizontal == {(x, query[1]) for x in xs}
    assert vertical == {(query[0], y) for y in ys}


@pytest.mark.parametrize("anchor", ["cell", "rf"])
@pytest.mark.parametrize("size", [(96, 192), (192, 96), (100, 130)])
@pytest.mark.parametrize("query", [CENTER, Query("token", 1, 2), Query("image", 0.9, 0.2)], ids=str)
def test_zero_offsets_land_exactly_on_the_query(looking, anchor, size, query):
    panels = looking([0], [0], size, queries=[query], anchor=anchor, layers=["1_1", "3_18"])
    for panel in draw(size, panels, columns=2).axes:
        horizontal, vertical = panel.collections
        at = next(line for line in panel.lines if line.get_gid() == "query").get_xydata().tolist()
        assert horizontal.get_offsets().tolist() == at
        assert vertical.get_offsets().tolist() == at


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_horizontal_offsets_stay_in_the_row_and_vertical_ones_in_the_column(looking, stage):
    size, layers = (256, 512), [f"{stage}_1"]
    cell = 2 ** (stage + 1) * 4  # original pixels: the photograph is shrunk to a quarter
    (panel,) = draw(size, looking([-1, 1], [0], size, layers=layers)).axes
    x, y = marker(panel)
    assert dots(panel) == ({(x - cell, y), (x + cell, y)}, {(x, y)})
    (panel,) = draw(size, looking([0], [-1], size, layers=layers)).axes
    assert dots(panel) == ({(x, y)}, {(x, y - cell)})


@pytest.mark.parametrize(("offset", "column"), [(0.5, 4), (0.51, 5), (1.5, 6), (-0.5, 4), (-1.2, 3)])
def test_a_sample_is_drawn_at_the_token_nearest_to_it(looking, offset, column):
    (panel,) = draw((128, 256), looking([offset], [0], (128, 256))).axes
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
    (panel,) = draw(size, looking([0], [0], size, queries=[query])).axes
    assert marker(panel) == (32 * token[1] + 15.5, 32 * token[0] + 15.5)


def test_queries_outside_the_photograph_are_refused(looking):
    with pytest.raises(QueryError, match="100,200 is outside the image: expected x 0-255, y 0-127"):
        looking([0], [0], (128, 256), queries=[Query("px", 100, 200)])


def test_opacity_grows_with_the_number_of_channels_and_the_faintest_dot_is_seen(looking):
    panels = looking([1] * 11 + [2] * 4 + [3], [0], (128, 256))
    assert panels[0].samples.along("horizontal").tolist() == [0, 0, 0, 0, 0, 44, 16, 4]
    (panel,) = draw((128, 256), panels).axes
    horizontal, vertical = panel.collections
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
    (panel,) = draw((100, 200), looking(horizontal, vertical, (100, 200), CROP)).axes
    assert outside_marks(panel) == [mark]
    drawn = dots(panel)
    assert all(24.5 < x < 174.5 and -0.5 < y < 99.5 for x, y in drawn[0] | drawn[1])  # none at the border instead


def test_a_layer_that_looks_only_outside_has_ticks_and_no_dots(looking):
    (panel,) = draw((100, 200), looking([-9, 9], [-1e6, 1e6], (100, 200), CROP)).axes
    assert dots(panel) == (set(), set())
    assert [share for share, *_ in outside_marks(panel)] == ["50.0 %"] * 4


def test_a_map_that_holds_all_samples_has_no_ticks(looking):
    (panel,) = draw((100, 200), looking([1], [1], (100, 200), CROP)).axes
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
    figure = draw(size, overlay_panels(observed, [CENTER]))
    (panel,) = figure.axes
    (points,) = panel.collections
    assert points.get_offsets().tolist() == [[143.5 + 64, 79.5 + 32]]
    assert to_hex(points.get_facecolors()[0]) == COLORS["point"]
    assert outside_marks(panel) == [("50.0 %", (143.5, -0.5), (0, 1), COLORS["point"])]
    assert legend_of(figure)[1] == "sampled at 2-D points: by few … most channels of a panel"
    assert len(legend_of(figure)) == 3


def test_the_legend_explains_rows_and_columns(looking):
    shown = legend_of(draw((96, 128), looking([0], [0], (96, 128))))
    assert [text.split(":")[0] for text in shown] == [
        "query token",
        "sampled horizontally",
        "sampled vertically",
        "outside the map",
    ]


def test_the_panel_shows_what_the_network_saw(looking):
    (panel,) = draw((100, 200), looking([0], [0], (100, 200), CROP)).axes
    assert panel.get_xlim() == (24.5, 174.5)
    assert panel.get_ylim() == (99.5, -0.5)
    assert panel.images[0].get_extent() == [-0.5, 199.5, 99.5, -0.5]  # pixel centres are whole numbers


@pytest.mark.parametrize("size", [(100, 200), (200, 100), (90, 900), (900, 90)])
def test_pixels_are_drawn_square(looking, size):
    figure = draw(size, looking([0], [0], size))
    FigureCanvasAgg(figure).draw()
    (panel,) = figure.axes
    (x0, y0), (x1, y1) = panel.transData.transform([(0, 0), (10, 10)])
    assert x1 - x0 == pytest.approx(y0 - y1, rel=0.01)


def test_a_large_photograph_is_drawn_small_and_keeps_its_pixel_positions(looking):
    size = (2448, 3264)  # 8 megapixels; the network sees 64 x 85 of int(85.33): 4 x 6 tokens, query (2, 3)
    (panel,) = draw(size, looking([-2], [-1], size)).axes
    assert max(panel.images[0].get_array().shape) <= 1600
    assert panel.images[0].get_extent() == [-0.5, 3263.5, 2447.5, -0.5]
    x, y = round(56 * 3264 / 85 - 0.5, 3), 40 * 2448 / 64 - 0.5
    assert marker(panel) == (x, y)
    assert dots(panel) == ({(round(24 * 3264 / 85 - 0.5, 3), y)}, {(x, 24 * 2448 / 64 - 0.5)})


def test_panels_are_queries_by_layers_in_reading_order(looking):
    size, queries = (96, 128), [Query("token", 0, 1), Query("token", 2, 3), CENTER]
    panels = looking([0], [0], size, Preprocessing((96, 96), "whole"), queries, layers=["2_1", LAYER])
    figure = draw(size, panels, columns=2)
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


def test_unfilled_places_in_the_last_row_are_empty(looking):
    queries = [Query("token", 0, column) for column in range(3)]
    figure = draw((96, 128), looking([0], [0], (96, 128), queries=queries), columns=2)
    assert sum(panel.get_visible() for panel in figure.axes) == 3


@pytest.mark.parametrize("trained", [True, False])
def test_untrained_weights_are_named_and_trained_ones_not(looking, trained):
    figure = draw((96, 128), looking([0], [0], (96, 128)), trained=trained)
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
    panels = looking([2], [1], (128, 256), queries=[Query("token", 1, 2)], anchor=anchor)
    figure = draw_overlay(photo, panels, columns=1, title="nano", note="", trained=True)
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


@pytest.mark.parametrize(
    ("size", "queries", "columns"),
    [
        ((480, 640), 1, 1),
        ((480, 640), 2, 2),
        ((640, 480), 4, 4),
        ((900, 300), 1, 1),
        ((900, 300), 4, 4),
        ((300, 900), 1, 1),
        ((300, 900), 5, 4),
    ],
)
def test_all_text_can_be_read(site, unreadable, size, queries, columns):
    placement = Preprocessing((224, 224), "whole").place(*size)
    grid = map_size(placement.size, 16)
    layer = site("3_18", "3_13", grid)
    offsets = np.repeat([[-100, 100, 0, 1]], 2, axis=0)  # on every side, a quarter of the channels is outside
    samples = sampling_map(offsets, layer.query, grid)
    panels = [OverlayPanel(layer, CENTER, samples, placement)] * queries
    figure = draw_overlay(
        np.zeros((*size, 3), np.uint8),
        panels,
        columns=columns,
        title=f"atmnet_large on photographer.jpg, input {placement.size[0]}×{placement.size[1]} px",
        note="one dot per sampled token (the nearest), at the centre of its receptive field",
        trained=False,
    )
    assert unreadable(figure) == []


@pytest.mark.parametrize("name", ["a long name of a photograph " * 5, "without_a_place_to_break_" * 5])
def test_a_long_title_can_be_read(looking, unreadable, name):
    title = f"atmnet_nano on {name}.jpg, input 224×298 px"
    photo, panels = np.zeros((128, 256, 3), np.uint8), looking([0], [0], (128, 256))
    figure = draw_overlay(photo, panels, columns=1, title=title, note="", trained=False)
    assert unreadable(figure) == []
