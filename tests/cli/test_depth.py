"""`atmviz depth`: figure, CSV and JSON of reach against depth, and one line for what is wrong."""

import csv
import json

import pytest


def test_files_are_figure_and_csv_of_the_rows(succeed, folder, labeled_scenes):
    said = json.loads(succeed("depth", labeled_scenes, "--unit", "px", "--axis", "vertical", "--json").stdout)
    figure, table = (folder / name for name in said["files"])
    assert figure.suffix == ".png"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["median"]) for row in rows] == [row["median"] for row in said["rows"]]
    assert {row["unit"] for row in rows} == {"px"}
    assert [row["layer"] for row in rows[::2]] == ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]


def test_a_named_file_is_printed(succeed, labeled_scenes):
    assert succeed("depth", labeled_scenes, "--out", "depth.pdf").stdout.splitlines() == ["depth.pdf", "depth.csv"]


def test_images_are_recorded_and_kept_in_the_cache(succeed, images):
    options = ("--size", "64", "-c", "atmnet_nano", "--workers", "0")
    succeed("depth", images, *options)
    assert "using the cached recording" in succeed("depth", images, *options, "--unit", "percent").stderr


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--layer", "9_9"), 2, "no layer '9_9'"),
        (("--unit", "cm"), 2, "expected tokens, px or percent"),
        (("--baseline", "nowhere"), 1, "no recording in nowhere"),
        (("--labels", "auto"), 2, "no option --labels"),
    ],
)
def test_what_is_wrong_is_one_line(refuse, labeled_scenes, options, code, says):
    refuse(code, says, "depth", labeled_scenes, *options)


def test_a_recording_without_moments_is_one_line(refuse, recording):
    refuse(1, "holds no distances of offsets: record its images again, and keep moments", "depth", recording)
