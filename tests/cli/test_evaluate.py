"""`atmviz eval`: options reach the library; table, JSON, CSV and figure show what it found."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from atmviz.training import evaluate as module
from atmviz.training.evaluate import EvaluationResult

SETUP = {
    "checkpoint": "a.pth", "model": "atmnet_tiny", "weights": "ema", "dataset": "digits", "split": "val", "images": 4,
    "size": 224, "crop_pct": 0.875, "offsets": "learned",
}  # fmt: skip
METRICS = {"top1": 75.0, "top5": 100.0, "loss": 0.5}


@pytest.fixture(autouse=True)
def file(folder):
    """A checkpoint that is there, whatever it holds."""
    (folder / "a.pth").write_bytes(b"\x80\x02.")  # an old pickle, which is not opened


@pytest.fixture
def calls(monkeypatch):
    """The keyword arguments of each call, instead of evaluating."""
    made = []

    def evaluate(checkpoint, **options):
        made.append({"checkpoint": checkpoint, **options})
        confusion = np.diag([3, 1]) if options["confusion"] else None
        setup = {**SETUP, "weights": options["weights"] or "ema"}
        return EvaluationResult(METRICS, setup["images"], confusion, setup=setup, classes=("a", "b"))

    monkeypatch.setattr(module, "evaluate", evaluate)
    return made


def test_options_reach_the_library(succeed, calls, tmp_path):
    (tmp_path / "train").mkdir()
    succeed("eval", "a.pth", "--dataset", "imagenet", "--data-dir", tmp_path, "--size", "384", "--offsets", "shuffle",
            "--limit", "9", "-b", "3", "-j", "0", "--device", "cpu", "--seed", "2", "--split", "train")  # fmt: skip
    (call,) = calls
    expected = {"checkpoint": "a.pth", "dataset": "imagenet", "data_dir": str(tmp_path), "size": 384,
                "offsets": "shuffle", "limit": 9, "batch_size": 3, "workers": 0, "device": "cpu", "seed": 2,
                "split": "train", "weights": None, "confusion": False}  # fmt: skip
    assert {name: value for name, value in call.items() if name not in ("events", "on_prediction")} == expected


def test_a_table_shows_the_accuracies(succeed, calls):
    text = succeed("eval", "a.pth").stdout
    assert "atmnet_tiny on digits val, 4 images" in text
    assert "75.0" in text
    assert "75.000" not in text


def test_what_the_paper_prints_stands_beside(succeed, monkeypatch):
    printed = {"Table 1 of the paper": {"top1": "82.0"}, "the authors' README": {"top1": "81.990", "top5": "95.930"}}
    setup = {**SETUP, "dataset": "imagenet"}
    row = setup | METRICS
    answers = [
        EvaluationResult(METRICS, 4, setup=setup, classes=(), paper=paper) for paper in (printed, printed, {}, {})
    ]
    monkeypatch.setattr(module, "evaluate", lambda *args, **options: answers.pop(0))
    table = succeed("eval", "a.pth").stdout
    (heading,) = (line for line in table.splitlines() if "weights" in line)
    cells = {
        line.split("│")[1].strip(): line.replace("│", " ").split()[-2:] for line in table.splitlines() if "│" in line
    }
    assert heading.index("Table 1 of the paper") < heading.index("the authors' README")
    assert cells["top-1 (%)"] == ["82.0", "81.990"]
    assert cells["top-5 (%)"] == ["100.0", "95.930"]
    assert "as printed by the paper and its authors, for all validation images of imagenet" in table
    assert json.loads(succeed("eval", "a.pth", "--json").stdout) == [{**row, "paper": printed}]
    assert "paper" not in succeed("eval", "a.pth").stdout
    assert json.loads(succeed("eval", "a.pth", "--json").stdout) == [{**row, "paper": {}}]


def test_both_weights_are_evaluated_one_after_the_other(succeed, calls, folder):
    rows = json.loads(succeed("eval", "a.pth", "--weights", "both", "--json", "--confusion", "m.png").stdout)
    assert [row["weights"] for row in rows] == [call["weights"] for call in calls] == ["ema", "model"]
    assert sorted(path.name for path in folder.glob("*.png")) == ["m-ema.png", "m-model.png"]


def test_results_are_written_as_csv_and_the_confusion_matrix_drawn(succeed, calls, folder):
    succeed("eval", "a.pth", "--out", "results.csv", "--confusion", "matrix.png")
    with (folder / "results.csv").open() as file:
        assert list(csv.DictReader(file)) == [{name: str(value) for name, value in (SETUP | METRICS).items()}]
    with Image.open(folder / "matrix.png") as image:
        assert image.width > 200


@pytest.fixture
def by_class(monkeypatch):
    """Evaluates a segmenter of three classes, of which one is nowhere, with a value that the paper prints."""
    nan = float("nan")
    values = {"iou": [50.0, 25.125, nan], "acc": [60.0, 30.0, nan]}

    def evaluate(checkpoint, *, per_class=False, weights=None, **options):
        setup = {**SETUP, "weights": weights or "ema"}
        chosen = values if per_class else {}
        about = {
            "setup": setup,
            "classes": ("wall", "door", "sky"),
            "paper": {"Table 2 of the paper": {"miou": "43.0"}},
        }
        return EvaluationResult({"miou": 37.5}, 4, None, chosen, **about)

    monkeypatch.setattr(module, "evaluate", evaluate)
    rows = zip(("wall", "door", "sky"), *values.values(), strict=True)
    return [dict(zip(("class", *values), row, strict=True)) for row in rows]


def test_the_values_of_each_class_are_in_table_json_and_csv(succeed, by_class, folder):
    table = succeed("eval", "a.pth", "--per-class")
    lines = [line.replace("│", " ").split() for line in table.stdout.splitlines()]
    assert ["door", "25.1", "30.0"] in lines
    assert ["sky", "–", "–"] in lines
    assert "IoU (%)" in table.stdout
    both = succeed("eval", "a.pth", "--per-class", "--weights", "both", "--out", "a.csv")
    assert "IoU (%), model" in both.stdout
    with (folder / "a-classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"weights": "ema", "class": "door", "iou": "25.125", "acc": "30.0"}
    assert [row["weights"] for row in rows] == ["ema"] * 3 + ["model"] * 3
    assert "wrote a-classes.csv" in both.stderr
    (found,) = json.loads(succeed("eval", "a.pth", "--per-class", "--json").stdout)
    assert found["per_class"] == [*by_class[:2], {"class": "sky", "iou": None, "acc": None}]
    assert "per_class" not in json.loads(succeed("eval", "a.pth", "--json").stdout)[0]


def test_the_papers_value_is_in_the_csv_too(succeed, by_class, folder):
    succeed("eval", "a.pth", "--out", "a.csv")
    with (folder / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["miou"], row["miou (Table 2 of the paper)"]) == ("37.5", "43.0")


def test_a_folder_of_predictions_is_named_with_the_number_of_its_images(succeed, folder):
    options = ("--limit", "3", "--device", "cpu", "-j", "0", "--size", "64", "--dataset", "shapes")
    few = ("--epochs", "1", "--train-images", "8", "--val-images", "8", "--dim", "16", "--image-size", "64")
    made = succeed("train", "--task", "segment", *few, "--device", "cpu", "--out", "run")
    assert "1 epoch of 4" not in made.stderr  # half an epoch of warm-up fits
    said = succeed("eval", "run", *options, "--show", "seen", "--per-class").stderr
    assert "wrote 3 images into seen" in said
    assert len(list((folder / "seen").rglob("*.png"))) == 3


def test_a_checkpoint_is_really_evaluated(succeed, checkpoint, refuse):
    refuse(1, "does not say what it was trained on: name the dataset", "eval", checkpoint)
    refuse(
        1,
        "got a network of 5 classes for a dataset of 10",
        "eval",
        checkpoint,
        "--dataset",
        "digits",
        "--size",
        "32",
        "-j",
        "0",
    )


@pytest.mark.parametrize(
    ("code", "says", "options"),
    [
        (2, "expected a name ending in .png or .pdf or .svg", ["--confusion", "matrix"]),
        (1, "no checkpoint file nowhere.pth", ["nowhere.pth"]),
        (2, "no dataset 'cifar'", ["--dataset", "cifar"]),
        (1, "no val folder in data", ["--dataset", "imagenet"]),
        (2, "got --size 8, expected a whole number, 32 or more, at most 4096", ["--size", "8"]),
        (2, "got --size 4097, expected a whole number, 32", ["--size", "4097"]),
        (2, "expected a name ending in .csv", ["--out", "results.txt"]),
        (1, "file is no folder", ["--out", "file/results.csv"]),
        (1, "file is no folder", ["--confusion", "file/matrix.png"]),
        (1, "file is no folder", ["--show", "file/seen"]),
        (1, "run is a folder, expected a checkpoint file", ["run"]),
    ],
)
def test_wrong_wishes_are_one_error_and_leave_no_file(refuse, folder, monkeypatch, code, says, options):
    monkeypatch.setattr("atmviz.training.evaluate.evaluate_network", None)  # before any image is looked at
    (folder / "run").mkdir()
    for name in ("run/last.safetensors", "file"):
        (folder / name).touch()
    refuse(code, says, "eval", "--device", "cpu", *options)
