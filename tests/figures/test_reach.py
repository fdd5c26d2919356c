"""Reach against depth as drawn: lines at medians, bands between quantiles, the untrained network beside."""

import numpy as np
import pytest
from matplotlib.text import Text

from atmviz.figures.reach import ReachProfile, draw_reach
from atmviz.figures.settings import WIDTHS, FigureStyle

QUANTILES = np.array([[0.1, 0.5, 1, 2, 4], [0.2, 1, 2, 3, 5], [0.3, 1.5, 2.5, 4, 6.0]])
LAYERS = ["1_1", "2_1", "3_13"]


def draw(layers=LAYERS, quantiles=QUANTILES, **style):
    profiles = [
        ReachProfile(axis, layers, factor * quantiles, np.linspace(0.1, 0.2, len(layers)))
        for axis, factor in (("horizontal", 1), ("vertical", 2))
    ]
    return draw_reach(profiles, "tokens", title="nano", note="5 images", trained=True, style=FigureStyle(**style))


def test_lines_go_through_the_medians_and_the_untrained_ones():
    for panel, factor in zip(draw().axes, (1, 2), strict=True):
        median, untrained = panel.lines
        assert list(median.get_ydata()) == (factor * QUANTILES[:, 2]).tolist()
        assert list(untrained.get_ydata()) == pytest.approx([0.1, 0.15, 0.2])
        assert [label.get_text() for label in panel.get_xticklabels()] == LAYERS


def test_bands_hold_half_and_nearly_all_of_the_samples():
    outer, inner = draw().axes[0].collections
    for band, low, high in ((outer, 0, 4), (inner, 1, 3)):
        corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
        expected = {(k, value) for k in range(3) for value in QUANTILES[k, [low, high]].tolist()}
        assert expected <= corners


def test_one_axis_is_shown_alone():
    (panel,) = draw(axis="vertical").axes
    assert panel.get_title() == "vertical"
    assert panel.get_ylabel() == "|offset| (tokens)"


@pytest.mark.parametrize("layers", [3, 23])
@pytest.mark.parametrize("width", [*WIDTHS, None])
def test_texts_can_be_read_at_every_width(width, layers, unreadable):
    names = [f"3_{k + 1}" for k in range(layers)]
    figure = draw(names, np.repeat(QUANTILES[:1], layers, 0), width=width)
    assert unreadable(figure) == []
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6
