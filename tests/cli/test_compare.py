"""`atmviz compare`: two recordings or two checkpoints to a table, a figure and its numbers."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import zarr
from matplotlib.figure import Figure

from atmviz.recording.store import open_recording


@pytest.fixture
def blank(monkeypatch):
    """Draw nothing: for tests of what is printed and written."""
    monkeypatch.setattr("atmviz.figures.comparison.draw_comparison", lambda *_, **__: Figure(figsize=(1, 1)))


@pytest.fixture
def other(recording, tmp_path):
    """The same recording in another folder."""
    return shutil.copytree(recording, tmp_path / "other")


def test_two_recordings_become_a_table_a_figure_and_its_csv(succeed, recording, other):
    result = succeed("compare", recording, other, "--out", "figures", "--format", "png,pdf")
    *table, png, pdf, rows = result.stdout.splitlines()
    assert table[0] == f"A: {recording}, B: {other}"
    assert all(text in result.stdout for text in ("3_13 vertical", "0.00", "Wasserstein-1"))
    assert [Path(file).suffix for file in (png, pdf, rows)] == [".png", ".pdf", ".csv"]
    with Path(rows).open() as file:
        read = list(csv.DictReader(file))
    assert [(row["layer"], row["axis"]) for row in read[:2]] == [("1_1", "horizontal"), ("1_1", "vertical")]
    assert {(row["w1"], row["p"], row["paired"]) for row in read} == {("0.0", "", "True")}


@pytest.mark.usefixtures("blank")
def test_json_has_a_row_for_each_layer_and_axis_and_no_nan(succeed, recording, other):
    result = succeed("compare", recording, other, "--layer", "3_*", "--baseline", "init", "--json")
    said = json.loads(result.stdout)
    assert (said["model"], said["images"]) == (["atmnet_nano"] * 2, [3, 3])
    assert said["dataset"] == [open_recording(recording).attrs["dataset"]] * 2
    assert len(said["rows"]) == 2 * 18
    row = said["rows"][0]
    assert (row["layer"], row["w1"], row["w1_low"], row["p"], row["definition"]) == (
        "3_1",
        0,
        None,
        None,
        "wasserstein1/1",
    )
    assert row["growth_a"] == row["growth_b"] > 1
    assert said["left_out"] == result.stderr.splitlines()


@pytest.mark.usefixtures("blank")
def test_two_checkpoints_are_recorded_into_the_cache_and_compared(succeed, images, tmp_path):
    command = ("compare", images, "--size", "64", "-j", "0", "-c", "atmnet_nano", "-c", "atmnet_nano.shapes", "--json")
    first, again = json.loads(succeed(*command).stdout), succeed(*command)
    assert first["rows"] == json.loads(again.stdout)["rows"]
    assert again.stderr.count("using the cached recording") == 2
    assert (first["rows"][0]["n_images"], first["rows"][0]["paired"]) == (3, True)
    assert first["a"]["trained"] is False
    assert first["b"]["trained"] is True


def test_a_recording_whose_counts_are_damaged_is_refused(refuse, recording, other):
    group = zarr.open_group(other, mode="r+")
    group["counts"][:] += 1
    refuse(1, "is damaged", "compare", recording, other)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "got 0 sources, expected two recordings, or --checkpoint twice and images"),
        (["{recording}"], "got 1 source, expected two recordings"),
        (["{recording}"] * 3, "got 3 sources, expected two recordings"),
        (["{recording}", "{images}"], "noise, which is no recording, expected two recordings"),
        (["{images}", "-c", "atmnet_nano"], "got 1 checkpoint, expected two recordings, or --checkpoint twice"),
        (["{recording}", "-c", "atmnet_nano", "-c", "atmnet_nano"], "got checkpoint for the recording"),
        (["{recording}", "{recording}", "--layer", "5_1"], "no layer '5_1'"),
        (["{recording}", "{recording}", "--limit", "2"], "got limit for the recording"),
        (["{recording}", "{recording}", "--baseline", "x"], "got baseline 'x', expected init or the folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(refuse, recording, images, args, says):
    refuse(2, says, "compare", *(arg.format(recording=recording, images=images) for arg in args))


def test_a_difference_that_rounds_to_zero_has_no_sign():
    from atmviz_cli.compare import _interval

    row = {"difference": -0.001, "difference_low": -0.012, "difference_high": 0.008}
    assert _interval(row, "difference") == "0.00 [-0.01, 0.01]"
