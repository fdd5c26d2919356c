"""Forest plots as drawn: where markers, intervals and nulls are, and that texts do not overlap."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from atmviz.figures.forest import MARKERS, draw_forest
from atmviz.figures.settings import WIDTHS, FigureStyle
from atmviz.figures.style import COLORS


def row(layer, axis, estimate, verdict="holds", null=(0.0, None, None)):
    ends = dict(zip(("null", "null_low", "null_high"), null, strict=True))
    return {
        **{"layer": layer, "axis": axis, "estimate": estimate, "low": estimate - 1, "high": estimate + 2},
        **ends,
        "verdict": verdict,
    }


GAP = [
    row("1_1", "horizontal", 3.0, null=(0.5, -0.5, 1.0)),
    row("1_1", "vertical", -2.0, "fails", null=(0.5, -0.5, 1.0)),
    row("3_13", "horizontal", 0.5, "not decidable", null=(0.5, -0.5, 1.0)),
]
SHAPE = [row("3_13", "both", 1.0)]
PANELS = [("mirror gap", "pp", GAP), ("slope", "% per %", SHAPE)]


def draw(panels=PANELS, trained=True, **style):
    return draw_forest(panels, title="nano on shapes", note="5 images", trained=trained, style=FigureStyle(**style))


def markers(panel):
    return {
        (round(float(x), 6), round(float(y), 6)): line
        for line in panel.lines
        if line.get_marker() not in ("", "None", None)
        for x, y in [(np.ravel(line.get_xdata())[0], np.ravel(line.get_ydata())[0])]
    }


def test_markers_stand_at_estimates_in_the_row_of_their_layer_by_axis():
    gap, shape = draw().axes
    assert set(markers(gap)) == {(3.0, -0.2), (-2.0, 0.2), (0.5, 0.8)}
    assert set(markers(shape)) == {(1.0, 1.0)}
    assert gap.get_ylim() == (1.5, -0.5)  # the first layer above
    assert [label.get_text() for label in gap.get_yticklabels()] == ["1_1", "3_13"]


def test_axes_are_told_apart_by_color_and_shape_and_what_is_not_decided_is_open():
    drawn = markers(draw().axes[0])
    found = {at: (line.get_marker(), *map(to_hex, (line.get_color(), line.get_mfc()))) for at, line in drawn.items()}
    blue, orange = COLORS["horizontal"], COLORS["vertical"]
    assert found[3.0, -0.2] == (MARKERS["horizontal"], blue, blue)
    assert found[-2.0, 0.2] == (MARKERS["vertical"], orange, orange)
    assert found[0.5, 0.8] == (MARKERS["horizontal"], blue, "#ffffff")
    assert len(set(MARKERS.values())) == 3


def test_intervals_and_bands_of_nulls_reach_from_end_to_end():
    gap, shape = draw().axes
    ends = [[*map(tuple, (line.get_xdata(), line.get_ydata()))] for panel in (gap, shape) for line in panel.lines]
    assert [(2.0, 5.0), (-0.2, -0.2)] in ends
    assert [(0, 0), (0, 1)] in ends  # the known null, from bottom to top
    assert {(bar.get_x(), bar.get_x() + bar.get_width()) for bar in gap.patches} == {(-0.5, 1.0)}


def test_one_axis_is_shown_alone_and_what_is_of_both_stays():
    gap, shape = draw(axis="vertical").axes
    assert set(markers(gap)) == {(-2.0, 0.2)}
    assert len(markers(shape)) == 1


def test_a_measure_without_numbers_leaves_its_row_empty():
    (panel,) = draw(
        [("gap", "pp", [row("1_1", "horizontal", math.nan, "not decidable"), row("2_1", "vertical", 1.0)])]
    ).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["1_1", "2_1"]


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("width", [*WIDTHS, None])
def test_texts_can_be_read_at_every_width(width, trained, unreadable):
    names = ("samples near the border", "growth by training", "scale elasticity")
    figure = draw([*PANELS, *((name, "× untrained", GAP) for name in names)], trained=trained, width=width)
    assert unreadable(figure) == []
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


def test_the_legend_says_what_is_drawn_and_can_be_left_out():
    (legend,) = draw().legends
    said = [text.get_text() for text in legend.get_texts()]
    nulls = ["null (95 % band)", "null (a number)"]
    assert said == ["horizontal", "vertical", "ratio of both axes", "not decidable", *nulls]
    assert draw(legend=False).legends == []
