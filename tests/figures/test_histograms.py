"""Histograms as drawn: bars, limits, titles, and what is said about samples outside."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from atmviz.figures.histograms import draw_histograms
from atmviz.figures.settings import WIDTHS, FigureStyle
from atmviz.figures.style import format_fraction
from atmviz.layers import describe_layers
from atmviz.observe.site import AXES
from atmviz.statistics import OffsetHistogram


def histogram(layer, axis, counts=None, tokens="center", outside=0.123, images=5):
    size = layer.grid[::-1][axis]
    return OffsetHistogram(
        site=layer,
        axis=AXES[axis],
        first=-(size // 2),
        counts=np.arange(size) if counts is None else np.asarray(counts),
        below=0,
        above=0,
        outside_share=outside,
        mean_abs=1.0,
        images=images,
        tokens=tokens,
    )


def draw(*pairs, title="atmnet_large on imagenet", note="5,000 images", trained=True, **style):
    return draw_histograms(pairs, title=title, note=note, trained=trained, style=FigureStyle(**style))


def bars(panel):
    """{position of the middle: height} of the bars that are there."""
    return {p.get_x() + p.get_width() / 2: p.get_height() for p in panel.patches if p.get_height()}


def texts(artist):
    return [text.get_text() for text in artist.findobj(Text) if text.get_text()]


def shown(figure):
    return [panel for panel in figure.axes if panel.get_visible()]


def test_bars_stand_at_the_offsets_and_their_heights_are_shares_in_percent(site):
    layer = site("3_13", "3_13", (4, 8))
    horizontal = [6, 0, 0, 2, 4, 0, 0, 8]
    vertical = [1, 0, 3, 4]
    below = OffsetHistogram(layer, "vertical", -2, np.array(vertical), 5, 7, 0.6, 1.0, 5, "center")
    above, under = draw((histogram(layer, 0, horizontal), below)).axes
    assert bars(above) == pytest.approx({-4: 30, -1: 10, 0: 20, 3: 40})
    assert bars(under) == pytest.approx({-2: 5, 0: 15, 1: 20})  # of all 20 samples, those beyond included
    assert {patch.get_width() for patch in above.patches} == {1}


@pytest.mark.parametrize(("size", "first", "last"), [(64, -32, 31), (100, -50, 49), (28, -14, 13)])
def test_the_x_axis_is_the_whole_range_even_where_all_samples_are_near_zero(site, size, first, last):
    layer = site("3_13", "3_13", (20, size))
    counts = np.zeros(size)
    counts[size // 2] = 7
    panel, other = draw((histogram(layer, 0, counts), histogram(layer, 1))).axes
    assert panel.get_xlim() == (first - 0.5, last + 0.5)
    ticks = [tick for tick in panel.get_xticks() if first <= tick <= last]
    assert 0 in ticks
    assert len(set(np.diff(ticks))) == 1
    assert 3 <= len(ticks) <= 7
    assert [text.get_text() for text in panel.get_xticklabels()] == [
        f"{tick:.0f}".replace("-", "\N{MINUS SIGN}") for tick in panel.get_xticks()
    ]
    assert other.get_xlim() == (-10.5, 9.5)


def test_one_panel_is_horizontal_and_the_one_below_vertical(site):
    layer = site("3_18", "3_13", (4, 8))
    figure = draw((histogram(layer, 0), histogram(layer, 1)), title="nano on photos", note="6 images")
    FigureCanvasAgg(figure).draw()
    horizontal, vertical = figure.axes
    assert horizontal.get_position().y0 > vertical.get_position().y1
    assert (horizontal.get_xlabel(), vertical.get_xlabel()) == (
        "horizontal offset (tokens)",
        "vertical offset (tokens)",
    )
    assert horizontal.get_title() == "layer_3_18 (offsets of 3_13)"
    assert horizontal.get_ylabel() == vertical.get_ylabel() == "samples (%)"
    assert horizontal.patches[0].get_facecolor() != vertical.patches[0].get_facecolor()
    assert {"nano on photos", "6 images"} <= set(texts(figure))


def test_a_layer_with_offsets_of_its_own_names_no_other(site):
    layer = site("3_13", "3_13", (4, 8))
    assert draw((histogram(layer, 0), histogram(layer, 1))).axes[0].get_title() == "layer_3_13"


def test_a_source_names_the_layers_that_use_its_offsets(site):
    layer = site("3_13", "3_13", (4, 8))
    pair = [replace(histogram(layer, axis), reused_by=("3_14", "3_15")) for axis in (0, 1)]
    assert draw(pair).axes[0].get_title().replace("\n", " ") == f"layer_3_13 (also {describe_layers(['3_14', '3_15'])})"


def test_each_panel_says_its_share_outside_and_the_mean_distance(site):
    layer = site("3_18", "3_13", (4, 8))
    horizontal, vertical = draw((histogram(layer, 0, outside=0.25), histogram(layer, 1, outside=0.0004))).axes
    assert "mean |offset| 1.0\noutside the map 25.0 %" in texts(horizontal)
    assert "mean |offset| 1.0\noutside the map <0.1 %" in texts(vertical)


@pytest.mark.parametrize("trained", [True, False])
def test_untrained_weights_are_named_and_trained_ones_not(site, trained):
    layer = site("3_13", "3_13", (4, 8))
    figure = draw((histogram(layer, 0), histogram(layer, 1)), trained=trained)
    assert ("untrained weights" in texts(figure)) == (not trained)


@pytest.mark.parametrize(("layers", "columns"), [(1, 1), (4, 4), (5, 3), (6, 3), (7, 4), (8, 4)])
def test_layers_fill_rows_evenly(site, layers, columns):
    names = [f"3_{index}" for index in range(1, layers + 1)]
    figure = draw(
        *((histogram(site(name, "3_1", (4, 8)), 0), histogram(site(name, "3_1", (4, 8)), 1)) for name in names)
    )
    FigureCanvasAgg(figure).draw()
    at = {panel.get_title().split()[0]: panel.get_position() for panel in shown(figure) if panel.get_title()}
    assert list(at) == [f"layer_{name}" for name in names]
    rows = [round(box.y0, 3) for box in at.values()]
    assert [rows.count(row) for row in dict.fromkeys(rows)] == [columns, layers - columns][: 1 + (layers > columns)]
    assert rows == sorted(rows, reverse=True)
    assert len(shown(figure)) == 2 * layers


@pytest.mark.parametrize(
    ("layers", "axis", "columns"), [(3, "both", 2), (5, "both", 2), (4, "both", 2), (3, "vertical", 1)]
)
def test_layers_in_a_column_of_print_leave_no_hole(site, layers, axis, columns):
    names = [f"3_{index}" for index in range(1, layers + 1)]
    pairs = [[histogram(site(name, name, (4, 8)), axis) for axis in (0, 1)] for name in names]
    figure = draw(*pairs, width="column", axis=axis)
    FigureCanvasAgg(figure).draw()
    lefts = [round(panel.get_position().x0, 3) for panel in shown(figure)]
    assert [lefts.count(left) for left in dict.fromkeys(lefts)] == [len(shown(figure)) // columns] * columns
    assert len(shown(figure)) == layers * (2 if axis == "both" else 1)
    labels = {panel.get_xlabel().split()[0] for panel in shown(figure)}
    assert labels == ({"horizontal", "vertical"} if axis == "both" else {axis})


def test_no_line_of_a_styles_grid_runs_through_the_text_of_a_panel(site):
    layer = site("3_13", "3_13", (8, 8))
    figure = draw((histogram(layer, 0), histogram(layer, 1)), style="ggplot")
    for panel in figure.axes:
        (text,) = (text for text in panel.texts if "outside" in text.get_text())
        assert text.get_bbox_patch().get_facecolor() == panel.get_facecolor()
        (grid,) = {line.get_visible() for line in panel.get_xgridlines()}
        assert grid
        assert text.get_zorder() > max(panel.xaxis.get_zorder(), *(bar.get_zorder() for bar in panel.patches))


def test_panels_have_one_scale_unless_asked_otherwise(site):
    layer = site("3_13", "3_13", (8, 8))
    peaked, flat = np.eye(8)[4], np.ones(8)
    pairs = [(histogram(layer, 0, peaked), histogram(layer, 1, flat)), (histogram(layer, 0, flat), histogram(layer, 1))]
    shared = [panel.get_ylim() for panel in draw(*pairs).axes]
    assert len(set(shared)) == 1
    assert shared[0][1] > 100
    free = [panel.get_ylim()[1] for panel in draw(*pairs, share_y=False).axes]
    assert free[0] == pytest.approx(shared[0][1])
    assert max(free[1:]) < 60


@pytest.mark.parametrize("axis", AXES)
def test_one_axis_alone_is_drawn_in_half_the_panels(site, axis):
    layer = site("3_13", "3_13", (4, 8))
    figure = draw((histogram(layer, 0), histogram(layer, 1)), axis=axis)
    (panel,) = figure.axes
    assert panel.get_xlabel() == f"{axis} offset (tokens)"
    assert panel.get_title() == "layer_3_13"


def test_many_layers_become_a_heat_map_of_each_axis(site):
    grids = {1: (16, 32), 2: (8, 16), 3: (4, 8)}
    layers = [
        site(f"{stage}_{index}", f"{stage}_{index}", grid) for stage, grid in grids.items() for index in (1, 2, 3)
    ]
    horizontal, vertical, *scales = draw(*((histogram(layer, 0), histogram(layer, 1)) for layer in layers)).axes
    assert len(scales) == 2
    (image,) = horizontal.images
    values = image.get_array()
    assert values.shape == (9, 32)  # offsets -16 to 15
    assert image.get_extent() == [-16.5, 15.5, 8.5, -0.5]
    expected = 100 * np.arange(8) / np.arange(8).sum()
    assert np.allclose(values[8, 12:20], expected)
    assert values.mask[8, :12].all()
    assert values.mask[8, 20:].all()
    assert [text.get_text() for text in horizontal.get_yticklabels()] == [layer.name for layer in layers]
    assert vertical.get_xlabel() == "vertical offset (tokens)"
    assert texts(horizontal).count("12.3 %") == 9


def reading(figure, unreadable, width):
    """What cannot be read at the printed width: texts that overlap or leave the figure, or are too small."""
    assert figure.get_figwidth() == pytest.approx(width)
    assert figure.get_figheight() < 11
    small = {text.get_text() for text in figure.findobj(Text) if text.get_text().strip() and text.get_fontsize() < 6}
    return unreadable(figure) + sorted(small)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 6, 27])
@pytest.mark.parametrize(("name", "width"), WIDTHS.items())
def test_all_text_can_be_read_at_the_printed_width(site, unreadable, layers, name, width):
    infos = [site(f"3_{index}", f"3_{index}", (64, 64)) for index in range(1, layers + 1)]
    pairs = [[replace(histogram(info, axis), reused_by=("3_29", "3_30")) for axis in (0, 1)] for info in infos]
    title, note = "atmnet_large on imagenet, 224×224 px: offsets of the center token", "50,000 images; " * 4
    assert reading(draw(*pairs, title=title, note=note, trained=False, width=name), unreadable, width) == []


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("tokens", ["center", "all"])
def test_all_text_can_be_read(site, unreadable, layers, tokens):
    infos = [site(f"3_{14 + index}", "3_13", (64, 64)) for index in range(layers)]
    pairs = [tuple(histogram(info, axis, tokens=tokens, images=50_000) for axis in (0, 1)) for info in infos]
    which = "all tokens" if tokens == "all" else "center token"
    figure = draw(
        *pairs,
        title=f"atmnet_large on imagenet, 224×224 px: offsets of the {which}",
        note="50,000 images; one bar per token, from the nearest token of each sample",
        trained=False,
    )
    assert unreadable(figure) == []


def test_a_long_title_can_be_read(site, unreadable):
    layer = site("3_13", "3_13", (4, 64))
    title = f"atmnet_large on {'a_folder_of_a_long_name_' * 5}, 224×224 px: offsets of the center token"
    assert unreadable(draw((histogram(layer, 0), histogram(layer, 1)), title=title)) == []


@pytest.mark.parametrize("place", [0, -1, slice(None)])
def test_no_bar_covers_the_text_in_its_panel(site, place):
    layer = site("3_13", "3_13", (4, 64))
    counts = np.zeros(64)
    counts[place] = 1
    figure = draw((histogram(layer, 0, counts), histogram(layer, 1)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    panel = figure.axes[0]
    (text,) = panel.texts
    top = max(bar.get_window_extent(canvas.get_renderer()).y1 for bar in panel.patches)
    assert text.get_window_extent(canvas.get_renderer()).y0 > top


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0 %"), (1e-9, "<0.1 %"), (0.000999, "<0.1 %"), (0.001, "0.1 %"), (0.1234, "12.3 %"), (1, "100.0 %")],
)
def test_nothing_that_is_there_reads_as_zero(fraction, text):
    assert format_fraction(fraction) == text
