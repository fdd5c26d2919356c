"""The confusion matrix of a classifier or segmenter."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from atmviz.figures.saving import save_figure
from atmviz.figures.style import drawable, figure_style, wrap_title

_MAX_NAMED = 40  # classes; of more, the most confused are listed in place of names and numbers
_NAME_LENGTH = 32  # characters of a class name
_WIDEST = 6.5  # inches: the text of a page
_TYPE = 6.0  # points: the smallest type that can be read in print
_CHARACTER = 0.051  # inches, of a name in that type
_SIDE = 5.6  # inches of a matrix without names
_CELL = 0.13  # inches: "99" in that type, or "100", which has only zeros beside it
_MARGIN = 0.5  # inches beside names and cells
_MAX_LISTED, _LISTED_LENGTH = 20, 20  # pairs of classes, and characters of each name
_NOTHING = "0.85"  # grey of a row without samples


def draw_confusion(counts: np.ndarray, classes: Sequence[str], path: Path, *, title: str = "") -> Path:
    """Draw a confusion matrix as percentages of each row, atomically, and return the path.

    The row of a class without samples is grey and empty. Of more than 40 classes, the pairs that are confused most are
    listed below the matrix.

    Args:
        counts: Number of samples or pixels by true class (row) and predicted class (column), [classes, classes].
        classes: Names of the classes.
        path: A .png, .pdf or .svg file.
        title: Text above the matrix.

    Raises:
        ValueError: the counts do not fit the classes.
    """
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(
            f"got counts {list(counts.shape)} for {len(classes)} classes, expected one row and column each"
        )
    samples = counts.sum(1, keepdims=True)
    percent = np.where(samples > 0, 100 * counts / np.maximum(samples, 1), np.nan)
    named = len(classes) <= _MAX_NAMED
    listed = [] if named else _most_confused(percent, classes)
    room = int((_WIDEST - _MARGIN - _CELL * len(classes)) / _CHARACTER)
    longest = min(max(map(len, classes)), _NAME_LENGTH, room) if named else 0
    names_width = _CHARACTER * longest
    most = _WIDEST - _MARGIN - names_width
    cells = max(2.2, min(0.45 * len(classes), max(4.5, _CELL * len(classes)), most)) if named else _SIDE
    width, height = cells + names_width + _MARGIN, cells + names_width + 0.8
    with figure_style(), mpl.rc_context({"font.size": 8, "axes.labelsize": 8, "axes.titlesize": 9}):
        text, above = wrap_title(title, width, 9)
        below = 0.12 * -(-len(listed) // 2) + 0.3 if listed else 0.0
        figure = Figure(figsize=(width, height + above + below), layout="constrained")
        rows = figure.subplots(2, 1, height_ratios=(height, below)) if listed else [figure.subplots()]
        axes = rows[0]
        names = [drawable(name, longest) for name in classes] if named else False
        sns.heatmap(
            percent,
            ax=axes,
            vmin=0,
            vmax=100,
            cmap="mako_r",
            square=True,
            annot=named,
            fmt=".0f",
            annot_kws={"size": _TYPE},
            xticklabels=names,
            yticklabels=names,
            cbar_kws={"label": "% of the true class", "location": "bottom", "aspect": 40, "shrink": 0.8, "pad": 0.02},
        )
        (darkest,) = axes.collections[0].to_rgba(np.array([100]))
        for cell in axes.texts:
            cell.set_in_layout(False)  # which would measure each several times, and gain nothing: cells have their size
        for full in (text for text in axes.texts if text.get_text() == "100"):  # which may be wider than its cell
            full.set_bbox({"facecolor": darkest, "edgecolor": "none", "pad": 0.3})
        axes.set_facecolor(_NOTHING)
        axes.tick_params(axis="both", labelsize=_TYPE)
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(axis="y", rotation=0)
        grey = " (grey: no samples)" if np.isnan(percent).any() else ""
        axes.set(xlabel="predicted class", ylabel=f"true class{grey}", title=text)
        for axis in rows[1:]:
            axis.set(xticks=[], yticks=[], frame_on=False)
            half = -(-len(listed) // 2)
            for x, lines in ((0.0, listed[:half]), (0.52, listed[half:])):
                axis.text(x, 1, "\n".join(lines), fontsize=_TYPE, va="top", transform=axis.transAxes)
            axis.set_title("confused most: true class taken for", fontsize=8, loc="left")
        for _ in range(2):  # the layout beside a square settles after several passes
            figure.draw_without_rendering()
        (written,) = save_figure(figure, [path])
    return written


def _most_confused(percent: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Return the pairs of classes of which the largest parts are confused, as lines: `34 %  wall, for door`."""
    wrong = np.nan_to_num(percent)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_LISTED]
    pairs = ((*divmod(int(k), len(classes)), wrong.flat[k]) for k in order if wrong.flat[k] > 0)
    names = [drawable(name, _LISTED_LENGTH) for name in classes]
    return [f"{share:.0f} %  {names[true]}, for {names[predicted]}" for true, predicted, share in pairs]
