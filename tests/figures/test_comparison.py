"""Two recordings in one figure: outlines, distances, images and depth, and that all of it can be read."""

import numpy as np
import pytest
from matplotlib.text import Text

from atmviz.figures.comparison import draw_comparison, shown_layers
from atmviz.figures.settings import FigureStyle
from atmviz.statistics.comparison import compare_recordings

LAYERS = ("1_1", "2_1", "3_1", "3_7", "3_13", "4_1")


@pytest.fixture(scope="module")
def compare(write_recording, tmp_path_factory):
    """`compare(layers)` compares recordings of so many layers; B reaches twice as far as A."""

    def run(layers=LAYERS, names=None, baseline="init"):
        random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("recordings")
        fields = {name: random.normal(size=(9, 8, 12, 2, 1)) * (k + 1) / 3 for k, name in enumerate(layers)}
        a = write_recording(folder / "a", fields)
        b = write_recording(folder / "b", {name: 2 * field for name, field in fields.items()}, names=names)
        return compare_recordings(a, b, baseline=baseline)

    return run


@pytest.fixture(scope="module")
def comparison(compare):
    return compare()


def draw(comparison, **style):
    note = "9 images; histograms of 4 of 6 layers; " + "; ".join(comparison.left_out)
    return draw_comparison(
        comparison, title="A: atmnet_nano, B: atmnet_tiny", note=note, trained=True, style=FigureStyle(**style)
    )


def panels(figure, label):
    return [panel for panel in figure.axes if label in panel.get_xlabel()]


def test_outlines_are_the_shares_of_both_histograms_on_one_scale(comparison):
    figure = draw(comparison, width="text")
    drawn = panels(figure, "horizontal offset (tokens)")
    assert [panel.get_title().split("\n")[0] for panel in drawn] == ["layer_1_1", "layer_3_1", "layer_3_7", "layer_4_1"]
    of_first = comparison.layers[0]
    _, *outlines = drawn[0].patches  # the area of A stands below
    for outline, counts in zip(outlines, of_first.counts, strict=True):
        assert outline.get_data().values == pytest.approx(100 * counts / counts.sum())
        assert outline.get_data().edges.tolist() == (np.arange(len(counts) + 1) - len(counts) // 2 - 0.5).tolist()
    limits = {panel.get_ylim() for panel in drawn + panels(figure, "vertical offset (tokens)")}
    assert len(limits) == 1
    apart = panels(draw(comparison, width="text", share_y=False), "horizontal offset (tokens)")
    assert len({panel.get_ylim() for panel in apart}) == 4


def test_the_distance_stands_above_each_panel(comparison):
    drawn = panels(draw(comparison, width="text"), "horizontal offset (tokens)")
    expected = [f"W₁ {row['w1']:.2f}" for row in comparison.rows if row["axis"] == "horizontal"]
    assert [panel.get_title().split("\n")[-1] for panel in drawn] == [expected[k] for k in (0, 2, 3, 5)]


def test_dots_are_images_and_the_line_is_where_both_are_equal(comparison):
    for panel, name in zip(
        panels(draw(comparison, width="text"), "reach in A"), ("1_1", "3_1", "3_7", "4_1"), strict=True
    ):
        horizontal, vertical, line = panel.lines
        for dots, layer in zip(
            (horizontal, vertical), (each for each in comparison.layers if each.sites[0].name == name), strict=True
        ):
            assert dots.get_xdata().tolist() == layer.reach[0].tolist()
            assert dots.get_ydata() == pytest.approx(2 * dots.get_xdata(), rel=1e-6)
        assert horizontal.get_marker() != vertical.get_marker()
        assert line.get_slope() == 1
        assert panel.get_xlim() == panel.get_ylim()


def test_without_pairs_no_images_are_drawn(compare):
    figure = draw(compare(names=[f"other {n}" for n in range(9)]), width="text")
    assert panels(figure, "reach in A") == []
    assert len(panels(figure, "layer, ")) == 2


def test_reach_of_all_layers_is_drawn_with_bands_and_baseline(comparison):
    panel, _ = panels(draw(comparison, width="text"), "layer, ")
    rows = [row for row in comparison.rows if row["axis"] == "horizontal"]
    a, b, baseline = panel.lines
    for line, name in ((a, "reach_a"), (b, "reach_b"), (baseline, "baseline_a")):
        assert line.get_ydata() == pytest.approx([row[name] for row in rows])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["A", "B", "baseline"]
    layers = [layer for layer in comparison.layers if layer.axis == "horizontal"]
    for band, index in zip(panel.collections, (0, 1), strict=True):
        expected = [np.percentile(layer.reach[index], (10, 90)) for layer in layers]
        path = band.get_paths()[0].vertices
        for place, ends in enumerate(expected):
            assert {*path[path[:, 0] == place, 1]} >= {*ends}
    assert panel.get_ylim()[0] == 0


@pytest.mark.parametrize("width", [None, "column", "text", "slide"])
@pytest.mark.parametrize("axis", ["both", "vertical"])
def test_all_text_can_be_read(comparison, unreadable, width, axis):
    figure = draw(comparison, width=width, axis=axis)
    assert unreadable(figure) == []
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


def test_many_layers_are_named_as_far_as_there_is_room(compare, unreadable):
    names = [f"3_{k}" for k in range(1, 31)]
    for width in ("column", "slide"):
        figure = draw(compare(names), width=width)
        assert unreadable(figure) == []
        labels = [text.get_text() for text in panels(figure, "layer, ")[0].get_xticklabels()]
        assert (labels[0], labels[-1]) == ("3_1", "3_30")
        assert 3 <= len(labels) < 30


@pytest.mark.parametrize(
    ("style", "shown"),
    [
        ({}, ["1_1", "3_1", "3_7", "4_1"]),
        ({"width": "column"}, ["1_1", "4_1"]),
        ({"columns": 6}, list(LAYERS)),
        ({"columns": 1}, ["1_1"]),
    ],
)
def test_the_layers_that_have_panels_are_spread_over_the_depth(comparison, style, shown):
    assert shown_layers(comparison, FigureStyle(**style)) == shown


def test_a_slide_is_no_higher_than_a_slide(comparison):
    width, height = draw(comparison, width="slide").get_size_inches()
    assert height <= 0.75 * width
