"""The confusion matrix: shares of the true class, names where they fit."""

import numpy as np
import pytest
from PIL import Image

from atmviz.figures import confusion
from atmviz.figures.confusion import draw_confusion

COUNTS = np.array([[8, 2, 0], [1, 1, 2], [0, 0, 0]])


@pytest.fixture
def drawn(monkeypatch):
    kept = []
    monkeypatch.setattr(confusion, "save_figure", lambda figure, files: kept.append(figure) or files)
    return kept


def test_cells_are_shares_of_the_true_class(drawn, tmp_path):
    draw_confusion(COUNTS, ["cat", "dog", "emu"], tmp_path / "a.png", title="nano, val")
    axes = drawn[0].axes[0]
    assert axes.collections[0].get_array().ravel().tolist() == [80, 20, 0, 25, 25, 50, 0, 0, 0]
    assert [text.get_text() for text in axes.texts] == ["80", "20", "0", "25", "25", "50", "0", "0", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "emu"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted class", "true class", "nano, val")


def test_many_classes_are_drawn_without_names(drawn, tmp_path):
    draw_confusion(np.eye(1000), [str(c) for c in range(1000)], tmp_path / "a.png")
    axes = drawn[0].axes[0]
    assert not axes.texts
    assert axes.get_xticklabels() == []


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_file_is_written_under_its_name(tmp_path, suffix):
    path = tmp_path / f"my.matrix.{suffix}"
    assert draw_confusion(COUNTS, ["a", "b", "c"], path) == path
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    if suffix == "png":
        assert np.asarray(Image.open(path).convert("L")).std() > 10


def test_counts_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got counts \[3, 3\] for 2 classes"):
        draw_confusion(COUNTS, ["a", "b"], tmp_path / "a.png")
