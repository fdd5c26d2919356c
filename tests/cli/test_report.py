"""`atmviz report`, end to end, and what it refuses."""

import json


def test_a_recording_becomes_a_page(succeed, recording, folder):
    result = succeed("report", recording, "--json")
    said = json.loads(result.stdout)
    assert said["files"] == ["report.html"]
    assert said["bytes"] == (folder / "report.html").stat().st_size
    assert "intervals and verdicts need 8 images, it holds 3" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_methods_are_printed_and_nothing_is_written(succeed, recording, folder):
    text = succeed("report", recording, "--methods").stdout
    assert "$N = 3$ images" in text
    assert json.loads(succeed("report", recording, "--methods", "--json").stdout)["methods"] == text
    assert list(folder.iterdir()) == []


def test_wrong_input_is_one_line(refuse, recording, folder):
    refuse(1, "no recording in none: expected a folder that atmviz recorded into", "report", "none")
    refuse(2, "expected a file ending in .html", "report", recording, "--out", "x.png")
    (folder / "mine.html").write_text("mine")
    refuse(2, "mine.html exists and is no page of atmviz", "report", recording, "--out", "mine.html")


def test_images_that_failed_are_named(succeed, damaged_images, folder):
    succeed("record", damaged_images, "-c", "atmnet_nano", "--size", "64", "-j", "0", "--out", "out")
    succeed("report", "out")
    page = (folder / "report.html").read_text("utf-8")
    assert '<th scope="row" class="t">images that failed</th><td class="t">1: broken.png</td>' in page
    assert "atmviz record --like out -c atmnet_nano --seed 0 --keep moments --out more" in page
    assert "(1 image could not be read)" in succeed("report", "out", "--methods").stdout
