"""Histograms as drawn: bars, limits, titles, and what is said about samples outside."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from atmviz.figures.histograms import draw_histograms
from atmviz.figures.style import format_fraction
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


def draw(*pairs, title="atmnet_large on imagenet", note="5,000 images", trained=True):
    return draw_histograms(pairs, title=title, note=note, trained=trained)


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
    assert {first, last} <= set(panel.get_xticks())
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
    assert horizontal.get_ylabel() == vertical.get_ylabel() == "share of samples (%)"
    assert horizontal.patches[0].get_facecolor() != vertical.patches[0].get_facecolor()
    assert {"nano on photos", "6 images"} <= set(texts(figure))


def test_a_layer_with_offsets_of_its_own_names_no_other(site):
    layer = site("3_13", "3_13", (4, 8))
    assert draw((histogram(layer, 0), histogram(layer, 1))).axes[0].get_title() == "layer_3_13"


def test_each_panel_says_its_share_outside_and_how_many_samples(site):
    layer = site("3_18", "3_13", (4, 8))
    pair = histogram(layer, 0, outside=0.25, images=5000), histogram(layer, 1, outside=0.0004, images=5000)
    horizontal, vertical = draw(pair).axes
    assert "5,000 images × 64 channels\noutside the map: 25.0 %" in texts(horizontal)
    assert "5,000 images × 64 channels\noutside the map: <0.1 %" in texts(vertical)


def test_all_tokens_are_said_to_be_counted(site):
    layer = site("3_18", "3_13", (40, 80))
    horizontal, _ = draw((histogram(layer, 0, tokens="all"), histogram(layer, 1, tokens="all"))).axes
    assert any("5 images × 64 channels × 3,200 tokens\n" in text for text in texts(horizontal))


@pytest.mark.parametrize("trained", [True, False])
def test_untrained_weights_are_named_and_trained_ones_not(site, trained):
    layer = site("3_13", "3_13", (4, 8))
    figure = draw((histogram(layer, 0), histogram(layer, 1)), trained=trained)
    assert ("untrained weights" in texts(figure)) == (not trained)


def test_more_than_four_layers_continue_below(site):
    layers = [site(f"3_{index}", "3_1", (4, 8)) for index in range(1, 7)]
    figure = draw(*((histogram(layer, 0), histogram(layer, 1)) for layer in layers))
    FigureCanvasAgg(figure).draw()
    at = {panel.get_title().split()[0]: panel.get_position() for panel in shown(figure) if panel.get_title()}
    assert list(at) == [f"layer_3_{index}" for index in range(1, 7)]
    rows = [round(at[name].y0, 3) for name in at]
    assert len(set(rows[:4])) == len(set(rows[4:])) == 1
    assert rows[0] > rows[4]
    assert at["layer_3_5"].x0 == pytest.approx(at["layer_3_1"].x0)
    assert at["layer_3_6"].x0 == pytest.approx(at["layer_3_2"].x0)
    assert len(shown(figure)) == 12


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
