"""Circles on photographs: seen on any background, at the size of a cell, none hidden by another mark."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb

from atmviz.figures import OverlayPanel, Photo, QuerySamples, draw_overlay
from atmviz.figures.contrast import contrast
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import COLORS
from atmviz.geometry import Preprocessing, map_size
from atmviz.recording.query import Query
from atmviz.sources import bundled_photos
from atmviz.statistics import sampling_map

BACKGROUNDS = {
    "red": "#c8102e",
    "orange": "#de8f05",
    "blue": "#0173b2",
    "skin": "#e0ac89",
    "coffee": "#6f4e37",
    "black": "#000000",
    "white": "#ffffff",
    "grey": "#808080",
}


TOKEN = Query("token", 4, 4)


@pytest.fixture
def panel(site):
    """A panel of stage 3, whose offsets are those of the channels."""

    def make(offsets, pixels=None, size=(256, 256), layer="3_1", query=TOKEN, input_size=None):
        placement = Preprocessing(input_size or size, "squash").place(*size)
        info = site(layer, layer, map_size(placement.size, 2 ** (int(layer[0]) + 1)))
        samples = sampling_map(np.array(offsets), query.token(placement, info.grid, info.stride_px), info.grid)
        pixels = np.full((*size, 3), 128, np.uint8) if pixels is None else pixels
        return OverlayPanel(Photo(pixels, placement), info, (QuerySamples(query, samples),))

    return make


def draw(panel, **style):
    return draw_overlay([panel], title="", note="", trained=True, style=FigureStyle(**style))


def circles(axis, gid):
    (drawn,) = (marks for marks in axis.collections if marks.get_gid() == gid)
    return drawn


def diameters(axis, gid):
    return 2 * np.sqrt(circles(axis, gid).get_sizes())


def rendered(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def around(image, figure, at, radius):
    """The colors of the pixels up to `radius` points around a position of the photograph, (x, y)."""
    x, y = figure.axes[0].transData.transform(at)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(columns + 0.5 - x, image.shape[0] - rows - 0.5 - y)
    return image[distance <= radius * figure.dpi / 72]


@pytest.mark.parametrize("gid", ["horizontal", "vertical", "query"])
def test_a_fill_contrasts_with_the_line_around_it_and_one_line_with_any_photograph(panel, gid):
    (axis,) = draw(panel([[1, 2], [1, 2]])).axes
    fill = circles(axis, gid).get_facecolors()[0, :3]
    inner, outer = (circles(axis, name).get_edgecolors()[0, :3] for name in (gid, f"{gid} rim"))
    assert contrast(fill, inner) > 4.5
    photos = bundled_photos()
    for index in range(len(photos)):
        blocks = photos.read(index)[::16, ::16].reshape(-1, 3) / 255
        assert min(max(contrast(block, inner), contrast(block, outer)) for block in blocks) > 4.5


@pytest.mark.parametrize("background", BACKGROUNDS.values(), ids=BACKGROUNDS)
def test_the_faintest_circle_is_seen_on_any_background(panel, background):
    color = np.array([int(background[start : start + 2], 16) for start in (1, 3, 5)], np.uint8)
    photo = np.tile(color, (256, 256, 1))
    figure = draw(panel([[0] * 62 + [3, 3], [0] * 61 + [3, 3, 3]], photo), dpi=200)
    figure.set_dpi(200)
    image = rendered(figure)
    for gid in ("horizontal", "vertical"):
        marks = circles(figure.axes[0], gid)
        faint = marks.get_facecolors()[:, 3].argmin()
        seen = around(image, figure, marks.get_offsets()[faint], diameters(figure.axes[0], gid)[faint] / 2 + 1)
        contrasts = [contrast(pixel, background) for pixel in np.unique(seen.round(2), axis=0)]
        assert max(contrasts) > 4


def test_the_two_axes_and_the_query_differ_without_color(panel):
    (axis,) = draw(panel([[1, 2], [1, 2]])).axes
    colors = {gid: circles(axis, gid).get_facecolors()[0, :3] for gid in ("horizontal", "vertical", "query")}
    assert contrast(colors["horizontal"], colors["vertical"]) > 1.8
    inner = {gid: to_hex(circles(axis, gid).get_edgecolors()[0]) for gid in ("horizontal", "vertical")}
    assert set(inner.values()) == {"#ffffff", "#000000"}
    assert len({to_hex(color) for color in colors.values()}) == 3


@pytest.mark.parametrize("width", ["column", "text", "slide", None])
@pytest.mark.parametrize("layer", ["2_1", "3_1"])
def test_a_circle_is_about_as_large_as_a_cell(panel, width, layer):
    figure = draw(panel([[1], [1]], layer=layer, size=(512, 512)), **({"width": width} if width else {}))
    (axis,) = figure.axes
    cells = map_size((512, 512), {"2_1": 8, "3_1": 16}[layer])[1]
    cell = 72 * axis.get_position().width * figure.get_figwidth() / cells
    assert 0.85 * cell < diameters(axis, "horizontal rim")[0] < 1.05 * cell or cell < 2.8


def test_at_the_query_both_axes_and_the_query_are_seen(panel):
    figure = draw(panel([[0], [0]]))
    (axis,) = figure.axes
    at = circles(axis, "query").get_offsets()[0]
    assert circles(axis, "horizontal").get_offsets().tolist() == circles(axis, "vertical").get_offsets().tolist()
    seen = {to_hex(color) for color in around(rendered(figure), figure, at, diameters(axis, "horizontal")[0] / 2)}
    assert {COLORS["horizontal"], COLORS["vertical"], COLORS["query"]} <= seen


def test_the_disk_of_a_query_is_seen_among_samples_of_tiny_cells(panel):
    figure = draw(panel([[-1, 0, 1], [-1, 0, 1]], layer="3_1", size=(512, 512)), width=1.6, dpi=95, legend=False)
    figure.dpi = 95
    (axis,) = figure.axes
    seen = around(rendered(figure), figure, circles(axis, "query").get_offsets()[0], 1)
    assert np.abs(seen - to_rgb(COLORS["query"])).max(1).min() < 0.1


def test_a_query_that_only_one_axis_samples_has_a_whole_circle(panel):
    figure = draw(panel([[0], [2]]))
    (axis,) = figure.axes
    (outline,) = circles(axis, "horizontal").get_paths()
    assert outline.get_extents().size == pytest.approx([2, 2], rel=0.01)


@pytest.mark.parametrize("input_size", [(256, 256), (224, 232)])  # of the second, the last column is half outside
def test_the_tick_of_samples_outside_hides_no_sample_in_the_last_column(panel, input_size):
    offsets = [[0] * 10 + [9] * 6, [0] * 16]
    columns = map_size(input_size, 16)[1]
    figure = draw(panel(offsets, size=(256, 256), input_size=input_size, query=Query("token", 4, columns - 1)))
    (axis,) = figure.axes
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (text,) = (text for text in axis.texts if text.get_gid() == "right")
    tick = text.arrow_patch.get_window_extent(canvas.get_renderer())
    x, _ = axis.transData.transform(circles(axis, "horizontal").get_offsets()[0])
    right = x + diameters(axis, "horizontal rim").max() / 2 * figure.dpi / 72
    assert tick.x0 > right - 0.5
    assert right < figure.bbox.x1


@pytest.mark.parametrize(("layer", "size", "has_inset"), [("1_1", (224, 224), True), ("3_1", (224, 224), False)])
@pytest.mark.parametrize("query", [Query("center"), Query("image", 0.02, 0.98), Query("image", 0.9, 0.4)], ids=str)
def test_where_circles_are_dots_an_inset_shows_them_and_its_frame_is_in_the_panel(panel, layer, size, has_inset, query):
    offsets = [0, 1, -1, 20, -20]
    figure = draw(panel([offsets, offsets], layer=layer, size=size, query=query), width="column")
    (axis,) = figure.axes
    frames = [patch for patch in axis.patches if patch.get_gid() == "zoom"]
    assert bool(axis.child_axes) == bool(frames) == has_inset
    if has_inset:
        (inset,) = axis.child_axes
        FigureCanvasAgg(figure).draw()
        (left, right), (bottom, top) = inset.get_xlim(), inset.get_ylim()
        assert (left, top) == frames[0].get_xy()
        assert -0.51 <= left < right <= size[1] - 0.49
        x, y = circles(axis, "query").get_offsets()[0]
        assert left < x < right
        assert top < y < bottom
        assert diameters(inset, "horizontal")[0] > 1.8 * diameters(axis, "horizontal")[0]
        assert not inset.get_window_extent().overlaps(frames[0].get_window_extent())
        for gid in ("horizontal", "vertical"):
            seen = axis.transData.transform(circles(axis, gid).get_offsets())
            assert not [tuple(at) for at in seen if inset.get_window_extent().contains(*at)]
        assert circles(inset, "horizontal").get_offsets().tolist() == circles(axis, "horizontal").get_offsets().tolist()


def test_opacity_means_the_same_in_all_panels_of_a_figure(panel):
    strong, weak = panel([[1] * 16, [1] * 16]), panel([[1] * 4 + [99] * 12, [1] * 4 + [99] * 12])
    weak = replace(weak, photo=strong.photo)
    figure = draw_overlay([strong, weak], title="", note="", trained=True)
    first, second = (circles(axis, "horizontal").get_facecolors()[0, 3] for axis in figure.axes)
    assert first == 1
    assert 0.3 < second < 0.8


def test_in_one_color_for_each_query_the_axes_differ_by_shape(panel):
    one, other = panel([[1], [1]]), panel([[1], [1]], query=Query("token", 9, 9))
    together = replace(one, shown=one.queries + other.queries)
    (axis,) = draw(together).axes
    drawn = [marks for marks in axis.collections if marks.get_gid() in ("horizontal", "vertical")]
    colors = [to_hex(marks.get_facecolors()[0]) for marks in drawn]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    corners = {marks.get_gid(): len(marks.get_paths()[0].vertices) for marks in drawn}
    assert corners["vertical"] == 5 < corners["horizontal"]
