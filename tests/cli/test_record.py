"""`atmviz record` and `atmviz merge`: recordings made, continued, interrupted, in parts, joined."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from atmviz.errors import RecordingFormatError
from atmviz.recording.store import CHUNK_IMAGES, open_recording

SMALL = ("--size", "64")


@pytest.fixture
def many(images):
    """`many(n)` is a folder of n images; a recording holds 64 to a chunk."""

    def fill(count):
        for index in range(count - 3):
            shutil.copy(images / f"{'abc'[index % 3]}.png", images / f"{index:03}.png")
        return images

    return fill


def test_images_become_a_recording_that_says_what_it_is(succeed, folder, images):
    result = succeed("record", images, *SMALL, "--out", "here", "--layer", "2_*,3_18", "--json")
    recording = open_recording(folder / "here")
    assert json.loads(result.stdout) == {
        "recording": "here",
        "model": "atmnet_nano",
        "trained": True,
        "dataset": "noise",
        "images": 3,
        "skipped": [],
        "complete": True,
        "layers": ["2_1", "2_2", "3_18"],
    }
    assert recording.offsets("3_18").shape == (3, 2, 64)
    assert recording.site("2_1").grid == (8, 8)
    assert "here holds 3 images" in result.stderr


def test_what_was_left_out_is_said_once(succeed, images):
    (images / "@eaDir").mkdir()
    shutil.copy(images / "a.png", images / "@eaDir/a.png")
    (images / "notes.txt").touch()
    result = succeed("record", images, *SMALL)
    said = "left out of noise: files of other kinds: 1 (notes.txt); hidden or of a tool: 1 (@eaDir/)"
    assert result.stderr.count(said) == 1
    assert "holds 3 images" in result.stderr
    assert said in succeed("overlay", images, *SMALL).stderr


def test_without_json_nothing_is_said_on_stdout(succeed, images):
    assert succeed("record", images, *SMALL).stdout == ""


def test_a_finished_recording_is_left_as_it_is(succeed, folder, images):
    succeed("record", images, *SMALL)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert "nothing was left to do" in succeed("record", images, *SMALL).stderr
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()} == before


def test_another_run_is_not_mixed_into_a_recording(succeed, refuse, images):
    succeed("record", images, *SMALL)
    refuse(1, "preprocessing size is 64 there and 96 here", "record", images, "--size", "96")


@pytest.mark.parametrize(("query", "token"), [("center", (2, 2)), ("0.9,0.3", (1, 3)), ("1:0", (1, 0))])
def test_the_query_token_is_chosen_once_for_all_images(succeed, folder, images, query, token):
    succeed("record", images, *SMALL, "--query", query, "--layer", "3_*")
    assert open_recording(folder / "recording").site("3_1").query == token


def test_shards_fill_one_recording_that_can_be_drawn_before_it_is_full(succeed, many):
    command = ("record", many(CHUNK_IMAGES + 2), *SMALL, "--layer", "1_1", "--batch-size", "32", "--json")
    first = succeed(*command, "--shard", "1/2")
    assert (json.loads(first.stdout)["images"], json.loads(first.stdout)["complete"]) == (CHUNK_IMAGES, False)
    assert "other parts are missing" in first.stderr
    drawn = succeed("histogram", "recording", "--layer", "1_1")
    assert "recording is incomplete: drawing 64 finished images" in drawn.stderr
    second = succeed(*command, "--shard", "2/2")
    assert (json.loads(second.stdout)["images"], json.loads(second.stdout)["complete"]) == (CHUNK_IMAGES + 2, True)
    assert "missing" not in second.stderr


def test_an_interrupt_keeps_finished_images_and_the_same_command_continues(succeed, folder, many):
    command = ("record", many(2 * CHUNK_IMAGES + 3), *SMALL, "--layer", "2_1", "-b", "4", "-j", "0", "--out", "out")
    script = """
import signal, time
from atmviz_cli.app import main
from atmviz.recording import run
forward = run.forward_to_sites
run.forward_to_sites = lambda *inputs: time.sleep(0.1) or forward(*inputs)  # or it would finish before the interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts without
main()
"""
    process = subprocess.Popen([sys.executable, "-c", script, *command], stderr=subprocess.PIPE, text=True)

    def finished():
        try:
            return len(open_recording(folder / "out"))
        except RecordingFormatError:
            return 0

    while process.poll() is None and not finished():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: finished images are kept in out; the same command resumes"
    assert "Traceback" not in said
    recording = open_recording(folder / "out")
    assert not recording.complete
    assert len(recording) in (CHUNK_IMAGES, 2 * CHUNK_IMAGES)
    assert [path.name for path in folder.iterdir()] == ["out"]
    kept = recording.offsets("2_1")

    succeed(*command)
    recording = open_recording(folder / "out")
    assert (recording.complete, len(recording)) == (True, 2 * CHUNK_IMAGES + 3)
    np.testing.assert_array_equal(recording.offsets("2_1")[: len(kept)], kept)


def test_corrupt_images_among_good_ones_are_left_out_and_named(succeed, damaged_images):
    result = succeed("record", damaged_images, *SMALL, "--json")
    said = json.loads(result.stdout)
    assert (said["images"], said["skipped"], said["complete"]) == (3, ["broken.png"], True)
    assert "skipped 1 unreadable image: broken.png" in result.stderr
    again = succeed("record", damaged_images, *SMALL)
    assert "broken.png" in again.stderr


def test_the_reason_is_told_of_images_that_are_too_small(succeed, images):
    Image.new("RGB", (40, 1)).save(images / "line.png")
    said = succeed("record", images, *SMALL).stderr
    assert "skipped 1 unreadable image: line.png" in said
    assert "line.png is 40x1 px, expected 32 px a side or more: leave it out" in said


def test_strict_stops_at_a_corrupt_image(run, damaged_images):
    result = run("record", damaged_images, *SMALL, "--strict")
    assert result.exit_code == 1
    assert "broken.png" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("weights", [(), ("--weights", "ema"), ("--weights", "model")])
def test_averaged_weights_are_taken_where_there_are_some(succeed, folder, images, checkpoint, weights):
    result = succeed("record", images, *SMALL, "-c", checkpoint, *weights)
    chosen = weights[-1] if weights else "ema"
    assert ("model weights" if chosen == "model" else "EMA weights") in result.stderr
    assert open_recording(folder / "recording").attrs["checkpoint"]["weights"] == chosen
    assert open_recording(folder / "recording").trained


def test_recordings_of_parts_are_merged_in_the_order_given(succeed, folder, images):
    for name in "ba":
        succeed("record", images / f"{name}.png", images / f"{name}.png", *SMALL, "--layer", "2_1", "--out", name)
    result = succeed("merge", "b", "a", "--out", "both", "--json")
    said = json.loads(result.stdout)
    assert (said["images"], said["complete"], said["recording"]) == (2, True, "both")
    both = open_recording(folder / "both")
    assert both.images == ["b.png", "a.png"]
    assert both.attrs["dataset"] == "b+a"
    parts = [open_recording(folder / name).offsets("2_1") for name in "ba"]
    np.testing.assert_array_equal(both.offsets("2_1"), np.concatenate(parts))


def test_recordings_that_differ_are_not_merged(succeed, refuse, images):
    succeed("record", images, *SMALL, "--out", "one", "--layer", "2_1")
    succeed("record", images, "--size", "96", "--out", "other", "--layer", "2_1")
    refuse(1, "differs from one in preprocessing", "merge", "one", "other", "--out", "both")
    refuse(1, "exists", "merge", "one", "one", "--out", "other")


def test_the_current_folder_can_hold_the_recording(succeed, images, folder, monkeypatch):
    empty = folder / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    succeed("record", images, *SMALL, "--layer", "2_1", "--out", ".")
    assert len(open_recording(empty)) == 3


def test_a_part_states_its_own_rate(succeed, images):
    succeed("record", images, *SMALL, "--layer", "2_1", "--out", "whole")
    again = succeed("record", images, *SMALL, "--layer", "2_1", "--out", "whole")
    assert "nothing was left to do" in again.stderr
