"""Parts of offsets as drawn: heights of bars, intervals, channels in order, and what can be read."""

import numpy as np
import pytest
from matplotlib.text import Text

from atmviz.figures import adaptivity
from atmviz.figures.adaptivity import draw_shares
from atmviz.figures.settings import WIDTHS, FigureStyle
from atmviz.statistics.adaptivity import PARTS, VarianceShares
from atmviz.statistics.intervals import Interval

SHARES = {"constant": (0.5, 0.4), "position": (0.05, -0.02), "image": (0.1, 0.12), "content": (0.35, 0.5)}


def parts(shares=None, channels=(0.9, 0.1, -0.2, 0.5)):
    """The same shares in each layer, content with an interval of 0.1 to either side; its channels have these shares."""
    estimates = shares or SHARES
    intervals = [[Interval(value, value - 0.1, value + 0.1) for value in estimates[part]] for part in PARTS]
    content = np.array(channels)
    components = np.stack([1 - content, 0 * content, 0 * content, content])
    return VarianceShares(np.repeat(components[:, None], 2, axis=1), intervals, 20)


def draw(layers, trained=True, **style):
    said = {"title": "nano on shapes", "note": "20 images", "trained": trained}
    return draw_shares(layers, **said, style=FigureStyle(**style))


def bars(panel):
    """[(part, left, bottom, height)] of the bars."""
    return [(p.get_gid(), *(round(float(v), 9) for v in (p.get_x(), p.get_y(), p.get_height()))) for p in panel.patches]


def test_bars_stack_the_parts_from_content_up_and_a_negative_part_has_no_height():
    above, _ = draw({"2_1": parts(), "3_1": parts()}).axes
    horizontal, vertical = bars(above)[:4], bars(above)[4:8]
    assert [(part, bottom, height) for part, _, bottom, height in horizontal] == [
        ("content", 0, 35),
        ("image", 35, 10),
        ("position", 45, 5),
        ("constant", 50, 50),
    ]
    assert [(bottom, height) for _, _, bottom, height in vertical] == [(0, 50), (50, 12), (62, 0), (62, 40)]
    assert len({left for _, left, *_ in bars(above)}) == 4, "two layers, two axes"


def test_the_interval_of_content_stands_at_its_bar():
    above, _ = draw({"2_1": parts()}).axes
    lines = [line for line in above.collections if line.get_gid() == "interval"]
    ends = [line.get_segments()[0] for line in lines]
    assert [end[:, 1].tolist() for end in ends] == [[pytest.approx(25), pytest.approx(45)], [40, 60]]
    middles = [patch.get_x() + patch.get_width() / 2 for patch in above.patches[::4]]
    assert [end[0, 0] for end in ends] == pytest.approx(middles)


def test_channels_are_sorted_by_content_share_below_their_bar_and_still_ones_are_left_out():
    above, below = draw({"2_1": parts(channels=(0.9, 0.1, np.nan, -0.2, 0.5))}).axes
    first, second = below.patches
    assert first.get_data().values.tolist() == pytest.approx([90, 50, 10, 0])
    bar = above.patches[0]
    assert first.get_data().edges[[0, -1]] == pytest.approx([bar.get_x(), bar.get_x() + bar.get_width()])
    assert (first.get_gid(), second.get_gid()) == ("horizontal", "vertical")


def test_one_axis_may_be_drawn_alone():
    above, below = draw({"2_1": parts()}, axis="vertical").axes
    assert [height for *_, height in bars(above)] == [50, 12, 0, 40]
    assert [patch.get_gid() for patch in below.patches] == ["vertical"]


def test_where_nothing_can_be_told_there_is_a_dash_and_no_bar():
    nothing = {part: (np.nan, np.nan) for part in PARTS}
    above, below = draw({"2_1": parts(nothing, channels=(np.nan,) * 4)}).axes
    assert (bars(above), [text.get_text() for text in above.texts]) == ([], ["–", "–"])
    assert all(patch.get_data().values.size == 0 for patch in below.patches)


def test_many_layers_take_several_rows_and_columns_may_be_set():
    layers = {f"3_{k}": parts() for k in range(1, 14)}
    names = [[text.get_text() for text in panel.get_xticklabels()] for panel in draw(layers, width="column").axes[1::2]]
    assert [len(row) for row in names] == [5, 5, 3]
    assert [name for row in names for name in row] == list(layers)
    assert len(draw(layers, columns=2).axes) == 14


@pytest.mark.parametrize("layers", [1, 6])
@pytest.mark.parametrize("width", [None, *WIDTHS])
def test_figures_of_any_width_can_be_read_in_print(unreadable, width, layers):
    figure = draw({f"3_{k}\nof 3_13": parts() for k in range(18, 18 + layers)}, trained=False, width=width)
    assert unreadable(figure) == []
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


def test_parts_are_told_apart_in_grey_too():
    colors = [int(color[1:], 16).to_bytes(3, "big") for color in adaptivity._COLORS.values()]
    grey = [np.dot(tuple(color), (0.299, 0.587, 0.114)) / 255 for color in colors]
    assert np.abs(np.diff(sorted(grey))).min() > 0.12
    assert np.abs(np.diff(grey)).min() > 0.15, "neighbors in a bar"
