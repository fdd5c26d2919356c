"""Heat over photographs and bars: positions, one scale, and text that can be read."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from atmviz.figures import OverlayPanel, Photo, TokenMap, draw_overlay
from atmviz.figures.maps import heat_scale
from atmviz.figures.settings import WIDTHS, FigureStyle
from atmviz.geometry import Preprocessing, map_size
from atmviz.statistics.fusion import BranchWeights

UNIT = "samples per token and channel (1 on average)"


def panels(site, layers, shown, size=(480, 640)):
    placement = Preprocessing((224, 224), "whole").place(*size)
    photo = Photo(np.full((*size, 3), 90, np.uint8), placement, "photo.jpg")
    infos = [site(layer, "3_13", map_size(placement.size, 2 ** (int(layer[0]) + 1))) for layer in layers]
    return [OverlayPanel(photo, info, part) for info in infos for part in shown(info)]


def maps(info):
    return [
        TokenMap(axis, np.arange(info.grid[0] * info.grid[1]).reshape(info.grid), UNIT)
        for axis in ("horizontal", "vertical")
    ]


def bars(info):
    return [BranchWeights(info.branches, np.array([0.2, 0.3, 0.5]), np.array([0.1, 0.2, 0.4]), np.array([0.9, 1, 1]))]


def draw(drawn, row=1, **style):
    return draw_overlay(drawn, row=row, title="nano", note="a note", trained=False, style=FigureStyle(**style))


def test_a_map_covers_the_cells_of_its_tokens_on_a_grey_photograph(site):
    figure = draw(panels(site, ["3_18"], maps, (448, 448)), row=2)
    photo, heat = figure.axes[0].images
    assert heat.get_extent() == pytest.approx([-0.5, 447.5, 447.5, -0.5])  # 14 tokens of 32 original pixels
    assert np.ptp(photo.get_array(), axis=2).max() == 0
    assert heat.get_array().shape == (14, 14)
    assert figure.axes[0].get_title() == "horizontal"


def test_a_photograph_stays_recognizable_below_heat(site):
    size = (448, 448)
    (left, right) = (panels(site, ["3_18"], lambda info: [TokenMap("x", np.ones(info.grid), UNIT)], size) * 2)[:2]
    striped = np.zeros((*size, 3), np.uint8)
    striped[:, 224:] = 255
    figure = draw([replace(left, photo=replace(right.photo, pixels=striped))])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.axes[0].get_window_extent()
    row = np.asarray(canvas.buffer_rgba())[int(figure.bbox.height - (box.y0 + box.y1) / 2), :, :3].astype(float)
    dark, light = row[int(box.x0 + 0.25 * box.width)], row[int(box.x0 + 0.75 * box.width)]
    assert np.mean(light - dark) > 0.25 * 255


def test_all_maps_of_a_figure_have_one_scale_and_it_begins_at_zero(site):
    figure = draw(panels(site, ["2_1", "3_18"], maps), row=2)
    limits = {panel.images[1].get_clim() for panel in figure.axes[:4]}
    assert limits == {(0, 28 * 37 - 1)}
    scale = figure.axes[4]
    assert scale.get_xlabel() == UNIT
    assert scale.get_xlim() == (0, 28 * 37 - 1)


@pytest.mark.parametrize(
    ("values", "limits"), [((0.1, 0.4), (0, 0.4)), ((0.3, 0.36), (0.3, 0.36)), ((0.5, 0.5), (0, 0.5))]
)
def test_the_scale_begins_at_the_smallest_value_where_none_is_near_zero(values, limits):
    scale = heat_scale([TokenMap("width", np.full((1, 2), value), "") for value in values])
    assert (scale.vmin, scale.vmax) == limits


@pytest.mark.parametrize("width", [*WIDTHS, None])
@pytest.mark.parametrize("shown", [maps, bars])
@pytest.mark.parametrize("layers", [["3_18"], ["2_1", "3_1", "3_18"]])
def test_all_text_can_be_read(site, unreadable, width, shown, layers):
    drawn = panels(site, layers, shown)
    figure = draw(
        drawn, row=len(drawn) // len(layers) if shown is maps else len(layers), **({"width": width} if width else {})
    )
    assert unreadable(figure) == []
    texts = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label, *axis.get_xticklabels())]
    assert min(text.get_fontsize() for text in texts if text.get_text()) >= 6


def test_bars_are_means_with_a_line_over_the_channels(site):
    (axis,) = draw(panels(site, ["3_18"], bars)).axes
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([0.2, 0.3, 0.5])
    (lines,) = axis.collections
    assert [segment[:, 1].tolist() for segment in lines.get_segments()] == [[0.1, 0.9], [0.2, 1], [0.4, 1]]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["width\n0.20", "height\n0.30", "identity\n0.50"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["0", "0.5", "1"]
    assert axis.get_ylabel() == "weight"
