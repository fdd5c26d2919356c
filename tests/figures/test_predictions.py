"""Predictions beside the truth: which pixels are colored how, which boxes are drawn, into which files."""

import os

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from atmviz.figures import predictions
from atmviz.figures.predictions import PredictionFolder, class_color, draw_detection, draw_segmentation
from atmviz.training.evaluator import Prediction

CLASSES = ["background", "disc", "ring"]


@pytest.fixture
def image():
    return np.full((40, 60, 3), 100, np.uint8)


@pytest.fixture
def drawn(monkeypatch):
    kept = []
    monkeypatch.setattr(predictions, "save_figure", lambda figure, files: kept.append(figure) or files)
    return kept


def test_masks_take_the_colours_of_their_classes_and_ignored_pixels_none(image, drawn, tmp_path):
    truth = np.zeros((40, 60), np.uint8)
    truth[:10], truth[10:20], truth[20:25] = 1, 2, 255
    predicted = np.full_like(truth, 2)
    draw_segmentation(image, truth, predicted, CLASSES, tmp_path / "a.png", title="one")
    panels = [axes.images[0].get_array() for axes in drawn[0].axes]
    assert np.array_equal(panels[0], image)
    base = 0.35 * 100 / 255
    for rows, color in ((slice(0, 10), class_color(1)), (slice(10, 20), class_color(2)), (slice(20, 25), None)):
        expected = 0 if color is None else base + 0.65 * np.array(color)
        assert np.abs(panels[1][rows] - expected).max() < 1e-6
    assert np.ptp(panels[1][30]) < 1e-6, "the background stays grey"
    assert np.abs(panels[2] - (base + 0.65 * np.array(class_color(2)))).max() < 1e-6
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == CLASSES
    assert [axes.get_title() for axes in drawn[0].axes] == ["image", "truth", "prediction"]


def test_boxes_lie_on_the_edges_of_pixels_and_weak_ones_are_left_out(image, drawn, tmp_path):
    truth = {"boxes": np.array([[10.0, 5, 30, 25]]), "labels": np.array([1]), "masks": np.zeros((1, 40, 60), np.uint8)}
    truth["masks"][0, 5:25, 10:30] = 1
    predicted = {"boxes": np.array([[0.0, 0, 60, 40], [1, 1, 2, 2]]), "labels": np.array([2, 1])}
    predicted |= {"scores": np.array([0.9, 0.1]), "masks": np.zeros((2, 40, 60), bool)}
    draw_detection(image, truth, predicted, CLASSES, tmp_path / "a.png")
    left, right = drawn[0].axes
    (box,) = [patch for patch in left.patches if isinstance(patch, Rectangle)]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (9.5, 4.5, 20, 20)
    assert box.get_edgecolor()[:3] == pytest.approx(class_color(1))
    assert len(right.patches) == 1
    assert [text.get_text() for text in left.texts] == ["disc"]
    assert [text.get_text() for text in right.texts] == ["ring 0.90"]
    shown = left.images[0].get_array()
    assert np.abs(shown[5:25, 10:30] - (0.5 * 100 / 255 + 0.5 * np.array(class_color(1)))).max() < 1e-6
    assert np.abs(shown[:5] - 100 / 255).max() < 1e-6
    assert left.get_title() == "truth: 1 object"
    assert right.get_title() == "predicted: 1 object of score 0.3 or more"


@pytest.mark.parametrize("count", [2, 40, 100])
@pytest.mark.parametrize("shape", [(480, 640), (640, 200)])
def test_names_at_boxes_do_not_cover_each_other_and_the_surest_are_named(drawn, tmp_path, unreadable, count, shape):
    rng = np.random.default_rng(count)
    height, width = shape
    corners = rng.random((count, 2)) * (width, height) * 0.8
    boxes = np.concatenate([corners, corners + rng.integers(8, 40, (count, 2))], 1)
    boxes[1] = boxes[0]  # as where two classes are seen in one thing
    names = [f"a long name of class {k}" for k in range(80)]
    objects = {"boxes": boxes, "labels": rng.integers(0, 80, count)}
    scores = np.sort(rng.random(count) * 0.7 + 0.3)[::-1]
    draw_detection(np.zeros((*shape, 3), np.uint8), objects, {**objects, "scores": scores}, names, tmp_path / "a.png")
    (figure,) = drawn
    assert unreadable(figure) == []
    for panel in figure.axes:
        assert len(panel.patches) == count, "every box is drawn"
        assert len(panel.texts) >= min(count, 10)
    assert figure.axes[1].texts[0].get_text().endswith(f" {scores[0]:.2f}")
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


def test_nothing_found_is_drawn_too(image, tmp_path):
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    path = draw_detection(image, nothing, {**nothing, "scores": np.zeros(0)}, CLASSES, tmp_path / "a.png")
    with Image.open(path) as written:
        assert written.width > 1000


def test_names_may_hold_a_dollar(image, tmp_path):
    mask = np.ones((40, 60), np.uint8)
    draw_segmentation(image, mask, mask, ["a", "$x$_$"], tmp_path / "a.png", title="$")


def test_neighbouring_classes_differ_in_colour():
    colors = np.array([class_color(k) for k in range(150)])
    assert np.abs(np.diff(colors, axis=0)).sum(1).min() > 0.3


# A folder of predictions.


@pytest.mark.parametrize("name", ["../../evil", "/abs/evil", "x" * 300, "写" * 100, "\x1b[2J", "\udcff", "a/b", "a"])
def test_predictions_are_drawn_below_the_folder_named_each_into_a_file_of_its_own(tmp_path, monkeypatch, name):
    made, out = [], tmp_path / "seen"
    monkeypatch.setattr(
        "atmviz.figures.predictions.save_figure",
        lambda figure, files: made.extend(files) or files,
    )
    draw = PredictionFolder(out)
    grey = np.full((8, 8, 3), 128, np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    for image_name in (name, name, "other"):
        draw(Prediction(image_name, ("background",), *grey))
    assert len(made) == len({*made}) == 3
    for path in made:
        assert out in path.parents
        assert ".." not in path.parts
        assert len(os.fsencode(path.name)) < 200


def test_images_of_one_stem_are_drawn_into_files_of_their_own(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    draw = PredictionFolder(tmp_path / "seen")
    for name in ("a-2", "a", "a", "a", "b/a"):
        draw(Prediction(name, ("one", "two"), np.zeros((32, 32, 3), np.uint8), mask, mask))
    files = [file for file in (tmp_path / "seen").rglob("*.png")]
    assert len(files) == 5


def test_no_more_images_than_the_limit_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("atmviz.figures.predictions.draw_segmentation", lambda *args, **options: args[4])
    draw = PredictionFolder(tmp_path, limit=2)
    for name in "abc":
        draw(Prediction(name, ("one",), np.zeros((8, 8, 3), np.uint8), 0, 0))
    assert [path.name for path in draw.drawn] == ["a.png", "b.png"]
