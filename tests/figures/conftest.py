"""What the figure tests share: layers to draw, and a look at the drawn text."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from atmviz.figures.style import figure_style
from atmviz.recording.sites import RecordedSite


@pytest.fixture
def figure():
    """A small figure with a title."""
    with figure_style():
        figure = Figure(figsize=(2, 1))
        figure.subplots().set_title("Offsets 3_18")
    return figure


@pytest.fixture
def site():
    """`site("3_18", "3_13", (28, 64))` has 64 channels on that map of stage 3, its query in the center."""

    def make(name, source, grid, channels_per_offset=4):
        stride = 4 * 2 ** (int(name[0]) - 1)
        return RecordedSite(
            name=name,
            source=source,
            module=f"path.of.{name}",
            kind="axis",
            channels=64,
            num_offsets=64 // channels_per_offset,
            channels_per_offset=channels_per_offset,
            stride_px=(stride, stride),
            branches=("width", "height", "identity"),
            grid=grid,
            query=(grid[0] // 2, grid[1] // 2),
        )

    return make


def _undrawn(figure):
    """Texts that exist and are not drawn: of hidden panels, and of ticks beyond the limits."""
    hidden = [panel for panel in figure.axes if not panel.get_visible()]
    undrawn = [text for panel in hidden for text in panel.findobj(Text)]
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            beyond = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
            undrawn += [label for tick in beyond for label in (tick.label1, tick.label2)]
    return undrawn


@pytest.fixture
def unreadable():
    """A list of the texts of a drawn figure that leave it or lie on one another; empty if all can be read."""

    def look(figure, tolerance=3):  # pixels; texts may carry a blank at either end
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        undrawn = set(_undrawn(figure))
        boxes = [
            (text.get_text(), text.get_window_extent(canvas.get_renderer()))
            for text in figure.findobj(Text)
            if text.get_text().strip() and text.get_visible() and text not in undrawn
        ]
        found = [
            f"{text!r} leaves the figure"
            for text, box in boxes
            if min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) < -tolerance
        ]
        ends = np.array([box.extents for _, box in boxes]).reshape(-1, 4)  # x0, y0, x1, y1
        low, high = ends[:, :2], ends[:, 2:]
        shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)  # across and down, of each two
        on = np.argwhere(np.triu(shared.min(-1) > tolerance, 1))
        return found + [f"{boxes[first][0]!r} lies on {boxes[second][0]!r}" for first, second in on]

    return look
