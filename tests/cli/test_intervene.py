"""`atmviz intervene`: options reach the library; table, JSON, CSV and figure show what it found."""

import csv
import json

import pytest

from atmviz.checkpoints.origin import Origin
from atmviz.training import intervene as module
from atmviz.training.intervene import InterventionResult


def row(name, layer, change, low=None):
    low, nan = change - 2 if low is None else low, float("nan")
    return {
        "intervention": name, "layer": layer, "metric": "top1", "value": 96 + change, "baseline": 96.0,
        "change": change, "low": low, "high": change + 2 if low == low else nan, "p": 0.01, "p_corrected": 0.02,
        "n_images": 12, "definition": "intervention/1",
    }  # fmt: skip


@pytest.fixture
def calls(monkeypatch):
    """What each call asks for, instead of evaluating."""
    made = []

    def measure(checkpoint, asked, settings, *, events):
        made.append((checkpoint, asked, settings))
        setup = {
            "checkpoint": checkpoint, "model": "atmnet_nano", "weights": "ema", "dataset": "shapes", "split": "val",
            "images": 12, "size": 128, "calibration": None,
        }  # fmt: skip
        rows = [row(name, layer, -5.0) for name in asked.do for layer in (("1_1", "2_1") if asked.by else ("all",))]
        return InterventionResult(Origin("atmnet_nano", {}, "8cf39f", "timm"), setup, rows)

    monkeypatch.setattr(module, "measure_interventions", measure)
    return made


def test_options_reach_the_library(succeed, calls):
    layers = ("--by", "layer", "--layer", "1_1,2_1", "--calibration", "9")
    data = ("--limit", "12", "--size", "64", "--seed", "2", "-b", "3", "-j", "0", "--device", "cpu")
    succeed("intervene", "--do", "zero,clamp:1,2", "--do", "swap", *layers, *data)
    ((checkpoint, asked, settings),) = calls
    assert checkpoint == "atmnet_nano.shapes"
    assert (asked.do, asked.by, asked.layers, asked.calibration) == (
        ("zero", "clamp:1", "clamp:2", "swap"), "layer", ("1_1,2_1",), 9,
    )  # fmt: skip
    assert (settings.limit, settings.size, settings.seed, settings.batch_size) == (12, 64, 2, 3)


def test_a_table_shows_changes_with_their_intervals(succeed, calls, folder):
    result = succeed("intervene", "--do", "zero,round", "--out", "a.png")
    lines = [line.replace("│", " ").split() for line in result.stdout.splitlines()]
    assert ["zero", "91.0", "-5.0", "-7.0", "to", "-3.0", "0.02"] in lines
    assert "atmnet_nano on shapes val, 12 images: top-1 96.0 % with learned offsets" in result.stdout
    assert "not retrained: networks trained without offsets are trained by `atmviz ablate`" in result.stdout
    assert "layer" not in result.stdout
    assert "\na.png" in result.stdout
    with (folder / "a.csv").open() as file:
        assert [found["intervention"] for found in csv.DictReader(file)] == ["zero", "round"]
    by_layer = succeed("intervene", "--do", "zero", "--by", "layer").stdout
    assert ["zero", "2_1", "91.0"] in [line.replace("│", " ").split()[:3] for line in by_layer.splitlines()]


def test_json_has_the_rows_and_null_for_what_there_is_not(succeed, monkeypatch, calls):
    measure = module.measure_interventions

    def few(*args, **options):
        result = measure(*args, **options)
        result.rows[:] = [row("zero", "all", -5.0, low=float("nan"))]
        return result

    monkeypatch.setattr(module, "measure_interventions", few)
    said = json.loads(succeed("intervene", "--do", "zero", "--json").stdout)
    assert (said["model"], said["dataset"], said["images"], said["retrained"]) == ("atmnet_nano", "shapes", 12, False)
    (found,) = said["rows"]
    assert (found["low"], found["high"], found["change"]) == (None, None, -5)
    assert [name.split(".")[-1] for name in said["files"]] == ["png", "csv"]
    assert "–" in succeed("intervene", "--do", "zero").stdout


def test_a_checkpoint_is_really_evaluated(succeed):
    asked = ("--limit", "8", "--size", "64", "--device", "cpu", "-j", "0", "--json")
    (found,) = json.loads(succeed("intervene", "--do", "zero", *asked).stdout)["rows"]
    for offsets, value in (("learned", found["baseline"]), ("zero", found["value"])):
        (evaluated,) = json.loads(succeed("eval", "--offsets", offsets, *asked).stdout)
        assert evaluated["top1"] == value


@pytest.mark.parametrize(
    ("code", "says", "options"),
    [
        (2, "got intervention 'mirr', expected zero,", ["--do", "zero,mirr"]),
        (2, "got intervention 'clamp:-1', expected clamp:R: R, a number of tokens, 0 or more", ["--do", "clamp:-1"]),
        (2, "got intervention 'clamp:nan', expected clamp:R", ["--do", "clamp:nan"]),
        (2, "got intervention 'scale:', expected scale:F: F, a factor", ["--do", "scale:"]),
        (2, "no layer '3_19'", ["--layer", "3_19"]),
        (2, "got --by layers, expected layer or stage", ["--by", "layers"]),
        (2, "got 1 image to evaluate on, expected 2", ["--do", "other", "--limit", "1", "-j", "0", "--device", "cpu"]),
        (1, "no checkpoint file nowhere.pth", ["nowhere.pth"]),
        (2, "no dataset 'cifar'", ["--dataset", "cifar"]),
        (2, "got out a.jpg, expected a folder", ["--do", "zero", "--out", "a.jpg"]),
        (2, "mine.png exists and is no figure of atmviz", ["--do", "zero", "--out", "mine.png"]),
        (1, "mine.png is no folder", ["--do", "zero", "--out", "mine.png/figures"]),
    ],
)
def test_wrong_wishes_are_one_error_and_leave_no_file(refuse, monkeypatch, folder, code, says, options):
    (folder / "mine.png").touch()
    monkeypatch.setattr(module, "evaluate_network", None)  # before any image is looked at
    refuse(code, says, "intervene", *options)
