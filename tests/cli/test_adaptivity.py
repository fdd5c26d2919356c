"""`atmviz adaptivity`: from a recording to a figure, a table and JSON."""

import csv
import json
from pathlib import Path

import pytest

from atmviz.statistics.adaptivity import PARTS


@pytest.fixture
def kept(succeed):
    """A recording of 20 scenes that keeps positions."""
    options = ("--limit", "20", "--size", "64", "--keep", "positions", "-j", "0")
    succeed("record", "--dataset", "shapes", *options, "--out", "kept")
    return "kept"


def test_json_holds_shares_that_add_to_one_with_their_intervals_and_the_table_the_same(succeed, kept):
    said = json.loads(succeed("adaptivity", kept, "--layer", "2_1,4_1", "--json", "--out", "figures").stdout)
    assert [(row["layer"], row["axis"]) for row in said["rows"]] == [
        (layer, axis) for layer in ("2_1", "4_1") for axis in ("horizontal", "vertical")
    ]
    for row in said["rows"]:
        assert sum(row[part] for part in PARTS) == pytest.approx(1, abs=1e-12)
        assert row["content_low"] < row["content"] < row["content_high"]
    assert (said["model"], said["dataset"], said["images"]) == ("atmnet_nano", "shapes", 20)
    png, table = map(Path, said["files"])
    assert png.exists()
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [{name: str(value) for name, value in row.items()} for row in said["rows"]] == rows


def test_the_table_is_printed_and_fits_a_terminal_of_80_columns(succeed, kept, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = json.loads(succeed("adaptivity", kept, "--layer", "3_13", "--json").stdout)
    *lines, png, table = succeed("adaptivity", kept, "--layer", "3_13").stdout.splitlines()
    assert [png, table] == said["files"]
    assert max(map(len, lines)) <= 80
    (row,) = (line.replace("│", " ").split() for line in lines if "vertical" in line)
    assert row[:3] == ["3_13", "vertical", f"{100 * said['rows'][1]['constant']:.1f}"]


def test_few_images_are_recorded_on_the_way_and_have_no_interval(succeed, images):
    said = json.loads(succeed("adaptivity", images, "--size", "64", "--layer", "4_1", "--json").stdout)
    assert said["rows"][0]["content"] > 0
    assert said["rows"][0]["content_low"] is None


def test_a_recording_without_positions_is_refused_with_what_to_do(refuse, recording):
    refuse(2, "record the images again and keep positions", "adaptivity", recording)


def test_a_layer_that_was_not_recorded_is_refused_at_once(refuse, recording):
    refuse(2, "9_9", "adaptivity", recording, "--layer", "9_9")
