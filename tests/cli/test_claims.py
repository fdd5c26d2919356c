"""`atmviz claims`: a table that fits 80 columns, JSON, files, and one line for what is wrong."""

import csv
import json

import pytest


def test_a_table_of_each_measure_fits_80_columns(succeed, labeled_scenes, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = succeed("claims", labeled_scenes)
    *lines, png, table = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line[:1].isalpha()] == [
        "trend of growth (tau)",
        "growth by training (× untrained)",
        "mirror gap (pp)",
        "scale elasticity (% per %)",
        "slope of anisotropy (% per %)",
        "samples near the border (%)",
    ]
    assert sum("2_1 vertical" in line for line in lines) == 4
    assert "holds" in result.stdout
    assert png.removesuffix(".png") == table.removesuffix(".csv")


def test_json_has_all_rows_and_no_nan(succeed, labeled_scenes):
    result = succeed("claims", labeled_scenes, "--layer", "4_1", "--json")
    said = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    assert (said["model"], said["dataset"], said["images"]) == ("atmnet_nano", "shapes", 64)
    rows = {(row["measure"], row["axis"]): row for row in said["rows"]}
    assert rows["elasticity", "vertical"]["estimate"] is None  # no two objects of 4 tokens in one image
    assert rows["elasticity", "vertical"]["verdict"] == "not decidable"
    assert rows["reach", "vertical"]["null_low"] is None
    assert {row["layer"] for row in said["rows"]} == {"4_1"}


def test_files_are_figure_csv_and_latex(succeed, folder, labeled_scenes):
    said = json.loads(succeed("claims", labeled_scenes, "--format", "svg,tex", "--width", "column", "--json").stdout)
    svg, table, tex = (folder / name for name in said["files"])
    assert "mirror gap" in svg.read_text()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == len(said["rows"])
    assert next(row for row in rows if row["measure"] == "growth")["verdict"] == "holds"
    assert "mirror gap (pp) & 2\\_1 & horizontal & " in tex.read_text()


def test_differences_are_printed(succeed, labeled_scenes):
    result = succeed("claims", labeled_scenes, "--against", labeled_scenes, "--layer", "2_1")
    assert "difference" in result.stdout
    assert "0.00 [0.00, 0.00]" in result.stdout


def test_images_without_labels_are_told_how_to_get_them(succeed, images):
    result = succeed("claims", images, "--size", "64", "-c", "atmnet_nano", "--layer", "2_1", "--workers", "0")
    assert "no objects are known: take shapes, ade20k or coco" in result.stderr
    assert "growth by training" in result.stdout
    assert "mirror gap" not in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--layer", "9_9"), 2, "no layer '9_9'"),
        (("--limit", "3"), 2, "got limit for the recording"),
        (("--labels", "auto"), 2, "got labels for the recording"),
        (("--against", "nowhere"), 1, "no recording in nowhere"),
        (("--baseline", "nowhere"), 1, "no recording in nowhere"),
        (("--keep", "moments"), 2, "no option --keep"),
        (("--format", "docx"), 2, "got format 'docx', expected png, pdf, svg or tex"),
    ],
)
def test_what_is_wrong_is_one_line(refuse, labeled_scenes, options, code, says):
    refuse(code, says, "claims", labeled_scenes, *options)


def test_a_recording_of_other_images_is_one_line(refuse, labeled_scenes, recording):
    refuse(2, "hold other images, expected the same", "claims", labeled_scenes, "--against", recording)
