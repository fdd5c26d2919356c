"""The confusion matrix: shares of the true class, names where they fit."""

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from atmviz.figures import confusion
from atmviz.figures.confusion import draw_confusion
from atmviz.figures.contrast import contrast

COUNTS = np.array([[8, 2, 0], [1, 1, 2], [0, 0, 0]])


@pytest.fixture
def drawn(monkeypatch):
    kept = []
    monkeypatch.setattr(confusion, "save_figure", lambda figure, files: kept.append(figure) or files)
    return kept


def test_cells_are_shares_of_the_true_class(drawn, tmp_path):
    draw_confusion(COUNTS, ["cat", "dog", "emu"], tmp_path / "a.png", title="nano, val")
    axes = drawn[0].axes[0]
    assert axes.collections[0].get_array().ravel().tolist() == [80, 20, 0, 25, 25, 50, None, None, None]  # masked
    assert [text.get_text() for text in axes.texts] == ["80", "20", "0", "25", "25", "50"], "no emus: an empty row"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "emu"]
    assert (axes.get_xlabel(), axes.get_title()) == ("predicted class", "nano, val")
    assert axes.get_ylabel() == "true class (grey: no samples)"
    draw_confusion(COUNTS + 1, ["cat", "dog", "emu"], tmp_path / "a.png")
    assert drawn[1].axes[0].get_ylabel() == "true class"


def test_many_classes_are_drawn_without_names(drawn, tmp_path):
    draw_confusion(np.eye(1000), [str(c) for c in range(1000)], tmp_path / "a.png")
    axes = drawn[0].axes[0]
    assert not axes.texts
    assert axes.get_xticklabels() == []


def listed(figure):
    return [line for axes in figure.axes[1:2] for text in axes.texts for line in text.get_text().splitlines()]


def test_of_many_classes_the_most_confused_are_listed(drawn, tmp_path):
    names = [f"kind {k}" for k in range(150)]
    counts = np.diag(np.full(150, 50))
    counts[7, 9], counts[100, 3], counts[5, 5] = 150, 50, 0  # 75 and 50 %; nothing of class 5
    draw_confusion(counts, names, tmp_path / "a.png")
    assert listed(drawn[0]) == ["75 %  kind 7, for kind 9", "50 %  kind 100, for kind 3"]
    draw_confusion(np.ones((150, 150)), names, tmp_path / "a.png")
    assert len(listed(drawn[1])) == 20
    draw_confusion(np.eye(150), names, tmp_path / "a.png")
    assert len(drawn[2].axes) == 2, "nothing is confused: matrix and color bar"


@pytest.mark.parametrize(("classes", "length"), [(1, 60), (3, 1), (10, 60), (40, 60), (41, 1), (41, 60), (150, 60)])
def test_a_matrix_of_any_size_can_be_read_in_print(drawn, tmp_path, unreadable, classes, length):
    rng = np.random.default_rng(0)
    names = [f"{k} {'e' * length}"[:60] for k in range(classes)]
    draw_confusion(np.diag(np.full(classes, 99)) + rng.integers(0, 2, (classes,) * 2), names, tmp_path / "a.png")
    (figure,) = drawn
    assert unreadable(figure) == []
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6
    assert figure.get_figwidth() <= 6.5
    assert figure.get_figheight() <= 9


def test_a_full_cell_is_read_where_cells_are_narrower_than_its_number(drawn, tmp_path):
    draw_confusion(np.eye(40), [f"kind {k}" for k in range(40)], tmp_path / "a.png")
    full = [text for text in drawn[0].axes[0].texts if text.get_text() == "100"]
    assert len(full) == 40
    assert all(contrast(text.get_color(), text.get_bbox_patch().get_facecolor()) > 10 for text in full)


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
