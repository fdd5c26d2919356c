"""Predictions are drawn below one folder, each into a file of its own."""

import os

import numpy as np
import pytest

from atmviz.events import Events
from atmviz.figures.prediction_folder import PredictionFolder
from atmviz.training.evaluators.base import Prediction


@pytest.mark.parametrize("name", ["../../evil", "/abs/evil", "x" * 300, "写" * 100, "\x1b[2J", "\udcff", "a/b", "a"])
def test_predictions_are_drawn_below_the_folder_named_each_into_a_file_of_its_own(tmp_path, monkeypatch, name):
    made, out = [], tmp_path / "seen"
    monkeypatch.setattr(
        "atmviz.figures.predictions.save_figure",
        lambda figure, files: made.extend(files) or files,
    )
    draw = PredictionFolder(out)
    grey = np.full((8, 8, 3), 128, np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    for one in (name, name, "other"):
        draw(Prediction(one, ("background",), *grey))
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


def test_no_more_images_than_the_limit_are_drawn_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("atmviz.figures.prediction_folder.draw_segmentation", lambda *args, **options: args[4])
    messages = []
    events = type("Heard", (Events,), {"message": lambda self, text: messages.append(text)})()
    draw = PredictionFolder(tmp_path, limit=2, events=events)
    for name in "abc":
        draw(Prediction(name, ("one",), np.zeros((8, 8, 3), np.uint8), 0, 0))
    assert [path.name for path in draw.drawn] == ["a.png", "b.png"]
    assert messages == [f"drew the first 2 images into {tmp_path}"]
