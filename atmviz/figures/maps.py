"""Values of tokens as heat over a photograph, and weights of branches as bars."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from atmviz.figures.page import Margins
from atmviz.figures.panels import OverlayPanel, TokenMap
from atmviz.figures.style import Look
from atmviz.statistics.fusion import BranchWeights
from atmviz.statistics.sampling import Direction

_COLORMAP = "magma"
_OPACITY = 0.5  # of heat over the photograph, which stays recognizable
BARS_SHAPE = 0.55  # height of a panel of bars, in its widths
_BRANCHES: dict[str, Direction] = {"width": "horizontal", "height": "vertical", "joint": "point"}


def heat_scale(maps: Sequence[TokenMap]) -> Normalize:
    """Return the one scale of all maps: from 0 to the largest value; from the smallest where none is near 0."""
    least, most = min(float(shown.values.min()) for shown in maps), max(float(shown.values.max()) for shown in maps)
    return Normalize(least if 0.5 * most < least < 0.95 * most else 0, most or 1.0)


def draw_map(axis: Axes, panel: OverlayPanel, shown: TokenMap, scale: Normalize) -> None:
    """Draw a map over the photograph, without its colors."""
    (photo,) = axis.images
    grey = np.asarray(photo.get_array()).mean(2, keepdims=True)
    dark, light = np.percentile(grey, (2, 98))  # of a dark photograph too, shapes are to be seen
    grey = 80 + 175 * np.clip((grey - dark) / max(light - dark, 1), 0, 1)  # light, as behind the color bar
    photo.set_data(np.repeat(grey.astype(np.uint8), 3, axis=2))
    height, width = shown.values.shape
    (top, left), (bottom, right) = panel.position_px(-0.5, -0.5), panel.position_px(height - 0.5, width - 0.5)
    axis.imshow(
        shown.values,
        extent=(left, right, bottom, top),
        cmap=_COLORMAP,
        norm=scale,
        alpha=_OPACITY,
        interpolation="nearest",
        aspect="auto",
        gid="heat",
    )


def bar_room(look: Look) -> Margins:
    """Return the room beside bars, for their names and scale."""
    room = 3.8 * look.small / 72, 0, 0, 2.8 * look.small / 72
    return Margins(room, room)


def draw_bars(axis: Axes, shown: BranchWeights, look: Look) -> None:
    """Draw the mean weight of each branch, with a line from the 10th to the 90th percentile of the channels."""
    positions = range(len(shown.branches))
    colors = [look.colors[_BRANCHES.get(branch, "query")] for branch in shown.branches]
    axis.bar(positions, shown.mean, 0.7, color=colors)
    axis.vlines(positions, shown.low, shown.high, color="black", lw=1)
    names = [f"{branch}\n{mean:.2f}" for branch, mean in zip(shown.branches, shown.mean, strict=True)]
    axis.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, 1))
    axis.set_xticks(positions, names, fontsize=look.small)
    axis.set_yticks((0, 0.5, 1), ("0", "0.5", "1"), fontsize=look.small)
    axis.set_ylabel("weight", fontsize=look.small, labelpad=2)
    axis.tick_params(length=2, pad=2)
    axis.spines[["top", "right"]].set_visible(False)


def colorbar_height(look: Look) -> float:
    """Return the height of a color bar with its text, inches."""
    return 0.14 + 2.9 * look.small / 72


def add_colorbar(figure: Figure, scale: Normalize, unit: str, look: Look, bottom: float) -> None:
    """Draw the color bar of all maps, `bottom` inches above the foot of the figure."""
    width, height = figure.get_size_inches()
    length = min(0.7 * width, 4.0)
    box = ((width - length) / 2 / width, (bottom + 2.7 * look.small / 72) / height, length / width, 0.09 / height)
    bar = figure.colorbar(
        ScalarMappable(scale, _COLORMAP),
        cax=figure.add_axes(box, label="scale"),
        orientation="horizontal",
        alpha=_OPACITY,
        ticks=MaxNLocator(5),
    )
    bar.set_label(unit, fontsize=look.small, labelpad=1)
    bar.ax.tick_params(labelsize=look.small, length=2, pad=1)
