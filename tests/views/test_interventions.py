"""`atmviz.intervene` from a notebook: a figure with table, numbers and a name of its own."""

import json

import numpy as np
import pytest
from PIL import Image

import atmviz
from atmviz.checkpoints.origin import Origin
from atmviz.errors import SettingsError
from atmviz.training import intervene as module
from atmviz.training.intervene import InterventionResult
from atmviz.views.interventions import draw_result

SETUP = {
    "checkpoint": "/home/me/a.pth", "model": "atmnet_tiny", "weights": "ema", "dataset": "shapes", "split": "val",
    "images": 300, "size": 128, "crop_pct": 1.0, "seed": 0, "calibration": {"split": "train", "images": 64},
}  # fmt: skip
ROW = {
    "intervention": "zero", "layer": "all", "metric": "top1", "value": 29.0, "baseline": 96.0, "change": -67.0,
    "low": -72.0, "high": -61.7, "p": 1e-50, "p_corrected": 1e-50, "n_images": 300, "definition": "intervention/1",
}  # fmt: skip
ORIGIN = Origin("atmnet_tiny", {}, "8cf39f00", "released")


def test_the_demonstration_model_is_measured_by_default(capsys):
    drawn = atmviz.intervene(do=["zero", "clamp:inf"], limit=8, size=64, device="cpu", workers=0, width="column")
    assert drawn.table["intervention"].tolist() == ["zero", "clamp:inf"]
    assert drawn.table["change"].tolist() == [row["change"] for row in drawn.numbers["rows"]]
    assert {name: drawn.numbers[name] for name in ("model", "dataset", "images", "retrained")} == {
        "model": "atmnet_nano", "dataset": "shapes", "images": 8, "retrained": False,
    }  # fmt: skip
    assert drawn.figure.get_figwidth() == 3.25
    assert capsys.readouterr() == ("", "")


def test_a_figure_and_its_table_are_saved_and_say_what_they_show(tmp_path):
    drawn = draw_result(InterventionResult(ORIGIN, SETUP, [ROW]))
    figure, table = drawn.save(tmp_path, command="atmviz intervene")
    assert figure.name.startswith("shapes_atmnet_tiny-8cf39f_interventions_all_")
    assert table.read_text().splitlines()[1].startswith("zero,all,top1,29.0,96.0,-67.0,-72.0,-61.7,")
    with Image.open(figure) as image:
        said = json.loads(image.info["Description"])["shows"]
    assert (said["interventions"], said["layers"], said["data"]["dataset"]) == (["zero"], ["all"], "shapes")
    assert "/home/me" not in json.dumps(said)
    for others in ((SETUP | {"split": "train"}, ROW), (SETUP | {"seed": 1}, ROW), (SETUP, ROW | {"value": 30.0})):
        assert draw_result(InterventionResult(ORIGIN, others[0], [others[1]])).name != drawn.name


def texts(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_the_note_says_that_nothing_was_retrained_and_what_means_are_over():
    said = texts(draw_result(InterventionResult(ORIGIN, SETUP, [ROW])).figure)
    assert "not retrained; 96.0 % with learned offsets" in said
    assert "means over 64 images of train" in said
    few = ROW | {"low": np.nan, "high": np.nan}
    said = texts(draw_result(InterventionResult(ORIGIN, SETUP | {"calibration": None}, [few])).figure)
    assert "too few images for intervals" in said
    assert "means over" not in said


def test_wrong_settings_are_said_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(module, "open_evaluation", None)
    with pytest.raises(SettingsError, match="got intervention 'clamp:-1'"):
        atmviz.intervene(do="clamp:-1")
    with pytest.raises(SettingsError, match=r"got by: 'layers', expected layer or stage; did you mean layer\?"):
        atmviz.intervene(by="layers")
    with pytest.raises(SettingsError, match="got calibration: 0, expected 1 or more"):
        atmviz.intervene(calibration=0)
    with pytest.raises(TypeError, match="did you mean do"):
        atmviz.intervene(doo="zero")
