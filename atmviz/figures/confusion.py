"""The confusion matrix of a classifier or segmenter."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from atmviz.figures.saving import save_figure
from atmviz.figures.style import drawable, figure_style, wrap_title

_MAX_NAMED = 40  # classes; of more, neither names nor numbers are shown
_NAME_LENGTH = 32  # characters of a class name


def draw_confusion(counts: np.ndarray, classes: Sequence[str], path: Path, *, title: str = "") -> Path:
    """Draw a confusion matrix as percentages of each row, atomically, and return the path.

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
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = len(classes) <= _MAX_NAMED
    names = [drawable(name, _NAME_LENGTH) for name in classes] if named else False
    side = 2.5 + 0.45 * len(classes) if named else 9.0
    with figure_style():
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        sns.heatmap(
            percent,
            ax=axes,
            vmin=0,
            vmax=100,
            cmap="mako_r",
            square=True,
            annot=named,
            fmt=".0f",
            annot_kws={"size": 8},
            xticklabels=names,
            yticklabels=names,
            cbar_kws={"label": "% of the true class", "shrink": 0.8},
        )
        axes.tick_params(axis="y", rotation=0)
        axes.set(xlabel="predicted class", ylabel="true class", title=wrap_title(title, side)[0])
        (written,) = save_figure(figure, [path])
    return written
