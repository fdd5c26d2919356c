"""Recording equals a brute force of everything, whatever interrupts, splits or speeds it up; bad images and networks.

The recording under test has 130 small images, the 71st unreadable; see conftest.py.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import atmviz
from atmviz.checkpoints import load_model
from atmviz.errors import (
    AtmvizError,
    CheckpointError,
    DatasetError,
    LayerNotFoundError,
    QueryError,
    RecordingFormatError,
)
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId
from atmviz.recording import batches, run
from atmviz.recording.array_files import is_recording
from atmviz.recording.merge import merge_recordings
from atmviz.recording.store import open_recording
from atmviz.sources import open_source
from atmviz.sources.files import ImageFiles, find_images

# Of nano at 64x96 px: every layer's map, and the layer whose offsets it uses (six blocks share, Sec. A1).
MAPS = {1: (16, 24), 2: (8, 12), 3: (4, 6), 4: (2, 3)}
SOURCES = {"1_1": "1_1", "1_2": "1_1", "2_1": "2_1", "2_2": "2_1", "4_1": "4_1", "4_2": "4_1"}
SOURCES |= {f"3_{j}": f"3_{(j - 1) // 6 * 6 + 1}" for j in range(1, 19)}
GENERATORS = sorted(set(SOURCES.values()))


def subset(images, *indices):
    return replace(images, names=tuple(images.names[index] for index in indices))


def refusal(kind, call, *arguments, **options):
    """The message of what must be refused; it is one line."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Against brute force.


@pytest.mark.parametrize("layer", SOURCES)
def test_offsets_are_those_of_the_middle_token(layer, recording, naive):
    height, width = MAPS[int(layer[0])]
    offsets = naive[0][SOURCES[layer]][:, height // 2, width // 2]  # [N, 2, O]
    channels = {"1": 24, "2": 48, "3": 64, "4": 96}[layer[0]]
    share = channels // offsets.shape[2]
    assert recording.offsets(layer).shape == (129, 2, channels)
    for k in (0, 1, channels // 2, channels - 1):
        assert np.array_equal(recording.offsets(layer)[:, :, k], offsets[:, :, k // share])
    assert np.array_equal(recording.distinct_offsets(layer), offsets)


@pytest.mark.parametrize("layer", GENERATORS)
def test_counts_are_of_all_tokens_of_all_images(layer, recording, naive):
    height, width = MAPS[int(layer[0])]
    offsets = naive[0][layer]
    assert offsets.shape[1:4] == (height, width, 2)
    for axis, size in ((0, width), (1, height)):
        nearest = np.clip(np.rint(offsets[..., axis, :]), -size, size)
        expected = [np.count_nonzero(nearest == value) for value in range(-size, size + 1)]
        assert recording.counts(layer)[axis].tolist() == expected
    if layer == "4_1":
        assert np.abs(offsets[..., 1, :]).max() > height + 1, "the last bins hold what lies beyond"


@pytest.mark.parametrize("layer", GENERATORS)
def test_mean_abs_offset_is_over_all_tokens(layer, recording, naive):
    expected = np.abs(naive[0][layer].astype(np.float64)).mean((1, 2, 4))
    np.testing.assert_allclose(recording.mean_abs_offset(layer), expected, rtol=1e-5)
    assert np.array_equal(recording.mean_abs_offset("3_18"), recording.mean_abs_offset("3_13"))


@pytest.mark.parametrize("layer", GENERATORS)
def test_outside_share_counts_samples_whose_nearest_token_is_not_on_the_map(layer, recording, naive):
    height, width = MAPS[int(layer[0])]
    offsets = naive[0][layer]
    outside = np.zeros((len(offsets), 2))
    for i in range(height):
        for j in range(width):
            column = j + np.rint(offsets[:, i, j, 0])
            row = i + np.rint(offsets[:, i, j, 1])
            outside[:, 0] += ((column < 0) | (column >= width)).sum(1)
            outside[:, 1] += ((row < 0) | (row >= height)).sum(1)
    share = recording.outside_share(layer)
    np.testing.assert_allclose(share, outside / (height * width * offsets.shape[-1]), rtol=1e-12)
    assert 0 < share.mean() < 1


@pytest.mark.parametrize("layer", ["1_1", "3_12", "4_2"])
def test_fusion_is_the_mean_over_channels(layer, recording, naive):
    fusion = recording.fusion(layer)
    np.testing.assert_allclose(fusion, naive[1][layer].mean(1), rtol=1e-5)
    np.testing.assert_allclose(fusion.sum(1), 1, rtol=1e-5)
    assert recording.site(layer).branches == ("width", "height", "identity")


def test_other_queries_keep_other_tokens(record, images, naive, tmp_path):
    few = subset(images, *range(8))
    # Of 96x64 px: x = 24 px, y = 57.6 px; stage 3 has cells of 16 px, stage 4 of 32 px.
    recording = record(few, tmp_path / "fractions", query="0.25,0.9").recording
    assert np.array_equal(recording.distinct_offsets("3_9"), naive[0]["3_7"][:8, 3, 1])
    assert np.array_equal(recording.distinct_offsets("4_2"), naive[0]["4_1"][:8, 1, 0])
    assert recording.site("3_9").query == (3, 1)
    recording = record(few, tmp_path / "token", query="1:2").recording
    assert np.array_equal(recording.distinct_offsets("1_1"), naive[0]["1_1"][:8, 1, 2])
    assert recording.attrs["query"] == "1:2"


@pytest.mark.parametrize("query", ["2:0", "0:3", "120,80", "grid:2x2", "nowhere"])  # stage 4 has 2x3 tokens
def test_queries_that_are_not_one_token_of_every_map_are_errors(query, record, images, tmp_path):
    refusal(QueryError, record, images, tmp_path / "out", query=query)
    assert not (tmp_path / "out").exists()


def test_some_layers_are_recorded_as_among_all(record, images, recording, tmp_path):
    few = record(subset(images, *range(8)), tmp_path / "out", layers=["4_2", LayerId(3, 2)]).recording
    assert [site.name for site in few.sites] == ["3_2", "4_2"]
    for layer in ("3_2", "4_2"):
        for read in ("offsets", "mean_abs_offset", "outside_share", "fusion"):
            assert np.array_equal(getattr(few, read)(layer), getattr(recording, read)(layer)[:8])
    assert len(few.counts("3_2")[0]) == 2 * 6 + 1
    refusal(LayerNotFoundError, few.offsets, "3_1")


def test_batches_do_not_matter_but_for_rounding(record, images, tmp_path):
    few = subset(images, *range(9))
    one, all_ = (record(few, tmp_path / str(size), batch_size=size).recording for size in (1, 100))
    for layer in GENERATORS:
        np.testing.assert_allclose(one.offsets(layer), all_.offsets(layer), rtol=1e-3, atol=1e-3)


# What it says of itself.


def test_recording_says_what_it_is(recording, network, images):
    attrs = recording.attrs
    assert attrs["schema_version"] == 2
    assert attrs["model"] == recording.model == "atmnet_nano"
    assert attrs["model_config"] == {"num_classes": 1000}
    assert attrs["checkpoint"] == {
        "sha256": network.origin.sha256,
        "layout": "random",
        "weights": None,
        "trained": False,
        "seed": 0,
    }
    assert attrs["preprocessing"] == {
        "size": [64, 96],
        "fit": "crop",
        "crop_pct": 0.875,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert attrs["images"] == list(images.names)
    assert attrs["image_root"] == str(images.root)
    assert attrs["dataset"] == images.title
    assert attrs["query"] == "center"
    assert attrs["batch_size"] == 8
    assert attrs["axes"] == ["horizontal", "vertical"]
    assert set(attrs["versions"]) >= {"atmviz", "torch", "timm", "numpy", "pillow", "numcodecs", "python"}
    assert attrs["versions"]["numpy"] == np.__version__
    assert {site.name: site.source for site in recording.sites} == SOURCES
    assert not recording.trained


def test_sample_is_recorded_with_its_seed(record, images, tmp_path):
    recording = record(images.sample(5, seed=7), tmp_path / "out").recording
    assert recording.attrs["sampling"] == {"limit": 5, "seed": 7, "of": 130}
    assert recording.attrs["images"] == list(images.sample(5, seed=7).names)


@pytest.mark.parametrize("kind", [Path, str, lambda path: [path], lambda path: open_source(path)])
def test_networks_and_images_may_be_named(kind, folder, tmp_path, capsys):
    image = kind(folder / "003.png")
    recording = atmviz.record(image, "atmnet_nano", out=tmp_path / "out", size=64, workers=0)
    assert recording.images == ["003.png"]
    assert recording.trained is False
    assert capsys.readouterr() == ("", "")


# Images and networks that are no good.


def test_unreadable_image_is_skipped_counted_and_named(result, recording, images):
    assert list(result.skipped) == ["070.png"]
    assert str(images.path(70)) in result.skipped["070.png"]
    assert recording.skipped == ["070.png"]
    assert recording.complete
    assert len(recording) == 129
    assert recording.images == [name for name in images.names if name != "070.png"]


def test_unreadable_image_stops_a_strict_run(record, images, tmp_path):
    some = subset(images, *range(66, 73))
    assert str(images.path(70)) in refusal(DatasetError, record, some, tmp_path / "out", strict=True)
    assert not open_recording(tmp_path / "out").complete
    record(some, tmp_path / "out")
    assert "070.png" in refusal(DatasetError, record, some, tmp_path / "out", strict=True)
    assert record(subset(images, 0, 1), tmp_path / "fine", strict=True).skipped == {}


def test_skipped_images_are_named_again_when_nothing_is_left_to_do(record, images, tmp_path):
    some = subset(images, 69, 70, 71)
    first = record(some, tmp_path / "out")
    assert list(record(some, tmp_path / "out").skipped) == list(first.skipped) == ["070.png"]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_only_unreadable_images_are_an_error(batch_size, record, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"no picture")
    images = find_images([tmp_path])
    for _ in range(2):
        message = refusal(DatasetError, record, images, tmp_path / "out", batch_size=batch_size)
        assert "none of 3 images" in message


@pytest.mark.parametrize("name", ["stem.bias", "stages.2.blocks.6.offset.linear.weight", "stages.3.peg.proj.weight"])
def test_network_that_gives_nan_is_an_error(name, record, images, network, tmp_path):
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.get_parameter(name).fill_(torch.nan)
    message = refusal(AtmvizError, record, subset(images, 0, 1), tmp_path / "out", network=broken)
    assert "NaN" in message
    assert not open_recording(tmp_path / "out").complete


def test_network_without_offsets_is_an_error(record, images, tmp_path):
    refusal(CheckpointError, record, images, tmp_path / "out", network=nn.Linear(2, 2))


def test_network_in_training_mode_is_an_error(record, images, tmp_path, network):
    trained = copy.deepcopy(network).train()
    assert "eval()" in refusal(AtmvizError, record, images, tmp_path / "out", network=trained)
    assert not (tmp_path / "out").exists()


def test_half_precision_network_is_recorded(record, images, tmp_path, network):
    half = copy.deepcopy(network).to(torch.bfloat16)
    recording = record(subset(images, 0, 1), tmp_path / "out", network=half).recording
    exact = record(subset(images, 0, 1), tmp_path / "exact", network=network).recording
    np.testing.assert_allclose(recording.offsets("1_1"), exact.offsets("1_1"), atol=0.2)


def test_no_images_are_an_error(record, images, tmp_path):
    refusal(DatasetError, record, subset(images), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_images_are_an_error(record, images, tmp_path):
    for settings in ({"preprocessing": Preprocessing((64, 96), "whole")}, {"fit": "whole"}):
        assert "expected crop or squash" in refusal(ValueError, record, images, tmp_path / "out", **settings)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "", None])
def test_impossible_shards_are_errors(shard, record, images, tmp_path):
    assert "K from 1 to N" in refusal(ValueError, record, images, tmp_path / "out", shard=shard)


# Interrupted, split, sped up.


@pytest.fixture(scope="module")
def killed(folder, tmp_path_factory):
    """Recordings whose processes were killed after so many images, by SIGKILL, which nothing can catch."""
    root = tmp_path_factory.mktemp("killed")
    done = (8, 64, 120, 128)
    script = textwrap.dedent("""
        import os, signal, sys
        import torch
        from atmviz.checkpoints import load_model
        from atmviz.events import Events
        from atmviz.geometry import Preprocessing
        from atmviz.recording.run import run_recording
        from atmviz.recording.settings import RecordingSettings
        from atmviz.sources import open_source

        torch.set_num_threads(1)
        folder, root, *counts = sys.argv[1:]
        network = load_model("atmnet_nano", device="cpu")
        for count in counts:
            if child := os.fork():
                assert os.waitpid(child, 0)[1] == signal.SIGKILL
                continue

            def kill(done, total):
                if done >= int(count):
                    os.kill(os.getpid(), signal.SIGKILL)

            events = Events()
            events.images = kill
            settings, preprocessing = RecordingSettings(workers=0, batch_size=8), Preprocessing((64, 96))
            images, out = open_source(folder), f"{root}/{count}"
            run_recording(images, network, out, settings, preprocessing=preprocessing, events=events)
    """)
    subprocess.run([sys.executable, "-c", script, folder, root, *map(str, done)], check=True)
    return {count: root / str(count) for count in done}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked and killed")
@pytest.mark.parametrize(("count", "finished"), [(8, 0), (64, 64), (120, 64), (128, 127)])
def test_killed_run_continues_to_the_same_bits(count, finished, killed, record, images, recording, arrays):
    partial = open_recording(killed[count])
    assert not partial.complete
    assert len(partial) == finished
    progress = []
    resumed = record(images, killed[count], on_images=lambda *numbers: progress.append(numbers))
    assert resumed.recording.complete
    assert arrays(killed[count]) == arrays(recording.path)
    assert progress[0] == (64 * (count >= 64), 130)  # the second chunk holds the unreadable image: it is tried again
    assert list(resumed.skipped) == ["070.png"]


@pytest.mark.parametrize("count", [0, 64, 72])
def test_interrupted_run_leaves_a_valid_recording(count, record, images, naive, tmp_path):
    def interrupt(done, total):
        if done >= count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(images, tmp_path / "out", on_images=interrupt)
    partial = open_recording(tmp_path / "out")
    finished = count // 64 * 64
    assert not partial.complete
    assert partial.images == list(images.names[:finished])
    assert "incomplete" in repr(partial)
    assert np.array_equal(partial.distinct_offsets("3_18"), naive[0]["3_13"][:finished, 2, 3])
    assert partial.counts("3_18")[0].sum() == finished * 4 * 6 * 16
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def interrupt_at(move, monkeypatch):
    """Let the file of that number, and all after it, be interrupted when it is moved into the recording."""
    moves = iter(range(1000))
    plain = os.replace

    def replace(*paths):
        if next(moves) >= move:
            raise KeyboardInterrupt
        plain(*paths)

    monkeypatch.setattr(os, "replace", replace)


CREATION = 12 + 2 * 4 + 1  # files: metadata of arrays, metadata and values of coordinates, attributes


@pytest.mark.parametrize("move", [0, 7, 13, CREATION - 1])
def test_a_recording_that_was_half_created_is_created_again(move, record, images, recording, tmp_path):
    few = subset(images, *range(8))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(move, patch)
        with pytest.raises(KeyboardInterrupt):
            record(few, tmp_path / "out")
    assert not is_recording(tmp_path / "out")
    resumed = record(few, tmp_path / "out").recording
    assert all(np.array_equal(resumed.offsets(layer), recording.offsets(layer)[:8]) for layer in GENERATORS)


# A chunk is 12 files: six arrays of offsets, two of statistics, fusion, status, counts; done comes last.
@pytest.mark.parametrize("move", range(CREATION, CREATION + 12))
def test_half_written_chunk_is_recorded_again(move, record, images, recording, tmp_path):
    few = subset(images, *range(8))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(move, patch)
        with pytest.raises(KeyboardInterrupt):
            record(few, tmp_path / "out")
    assert not open_recording(tmp_path / "out").complete
    assert record(few, tmp_path / "out").recording.complete
    resumed = open_recording(tmp_path / "out")
    assert all(np.array_equal(resumed.offsets(layer), recording.offsets(layer)[:8]) for layer in GENERATORS)
    assert resumed.counts("1_1")[0].sum() == 8 * 16 * 24 * 12


@pytest.mark.parametrize("move", [CREATION + move for move in (3, 9, 10, 11)])
def test_half_written_chunk_does_not_count(move, record, images, tmp_path, monkeypatch):
    interrupt_at(move, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        record(subset(images, *range(8)), tmp_path / "out")
    partial = open_recording(tmp_path / "out")
    assert len(partial) == 0
    assert partial.counts("1_1")[0].sum() == 0


def test_progress_counts_every_image_once(record, images, tmp_path):
    progress = []
    record(subset(images, *range(20)), tmp_path / "out", on_images=lambda *numbers: progress.append(numbers))
    assert progress == [(0, 20), (8, 20), (16, 20), (20, 20)]
    progress.clear()
    record(subset(images, *range(20)), tmp_path / "out", on_images=lambda *numbers: progress.append(numbers))
    assert progress == [(20, 20)]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_shards_fill_one_recording(order, record, images, recording, arrays, tmp_path):
    totals = []
    for k in order:
        result = record(images, tmp_path / "out", shard=f"{k}/2", on_images=lambda done, total: totals.append(total))
        assert result.recording.complete == (k == order[-1])
    assert arrays(tmp_path / "out") == arrays(recording.path)
    assert set(totals) == {66, 64}  # chunks 1 and 3, chunk 2


def test_shards_may_outnumber_the_chunks(record, images, tmp_path):
    few, messages = subset(images, 0, 1), []
    assert not record(few, tmp_path / "out", shard="2/5", message=messages.append).recording.complete
    assert messages == [
        "shard 2/5 has no images: shards are made of whole blocks of 64 images, of which 2 images make 1"
    ]
    assert len(record(few, tmp_path / "out", shard="1/5", message=messages.append).recording) == 2
    assert len(messages) == 1


def record_by_torchrun(source, out, *options):
    """Two processes of `atmviz record`, as they ended."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "localhost:0", "-m", "atmviz_cli", "record", "--checkpoint", "atmnet_nano"]
    settings = ["--size", "64x96", "--device", "cpu", "--workers", "0", "--out", out, source]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, *settings, *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)


def test_two_processes_of_torchrun_give_the_arrays_of_one(folder, images, recording, arrays, tmp_path):
    done = record_by_torchrun(folder, tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert arrays(tmp_path / "out") == arrays(recording.path)
    said = json.loads(done.stdout)  # once, by the first process
    assert (said["images"], said["complete"], said["skipped"]) == (129, True, ["070.png"])
    assert done.stderr.count("holds 129 images, ") == 1
    assert str(images.path(70)) in done.stderr  # whichever process met it


def test_a_process_that_ends_for_another_s_error_says_so_in_one_line(folder, tmp_path):
    (tmp_path / "file").write_text("")
    done = record_by_torchrun(folder, tmp_path / "file")  # the first process makes the folder, the second waits
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "[rank1]" not in done.stderr  # what Python's traceback begins with there


def test_time_is_told_apart_and_counted_once(record, images, recording, tmp_path, monkeypatch):
    start = time.perf_counter()
    result = record(subset(images, *range(70)), tmp_path / "out")
    taken = time.perf_counter() - start
    assert result.images == 70
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert sum(result.seconds.values()) < taken
    assert result.bound == max(result.seconds, key=result.seconds.get)
    assert record(subset(images, *range(70)), tmp_path / "out").images == 0

    def read_slowly(images, index):
        time.sleep(0.05)
        return read(images, index)

    read = ImageFiles.read
    monkeypatch.setattr(ImageFiles, "read", read_slowly)
    assert record(subset(images, *range(16)), tmp_path / "slow").bound == "input"


def test_each_chunk_is_written_when_it_is_finished(record, images, tmp_path, monkeypatch):
    events = []
    plain = run.RecordingWriter.write_chunk

    def write(self, chunk, rows):
        events.append(f"chunk {chunk}")
        plain(self, chunk, rows)

    monkeypatch.setattr(run.RecordingWriter, "write_chunk", write)
    record(images, tmp_path / "out", on_images=lambda done, total: events.append(done))
    assert [event for event in events if event in ("chunk 0", 64, "chunk 1", 128, "chunk 2")] == (
        ["chunk 0", 64, "chunk 1", 128, "chunk 2"]
    )


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_change_nothing(record, images, recording, arrays, tmp_path):
    result = record(images, tmp_path / "out", workers=2)
    assert arrays(tmp_path / "out") == arrays(recording.path)
    assert list(result.skipped) == ["070.png"]


@pytest.mark.gpu
def test_recording_on_cuda_equals_the_cpus(record, images, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = load_model("atmnet_nano", device="cuda")
    cuda = record(images, tmp_path / "out", network=network).recording
    assert cuda.attrs["device"].startswith("cuda")
    assert cuda.images == recording.images
    for layer in GENERATORS:
        np.testing.assert_allclose(cuda.offsets(layer), recording.offsets(layer), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(cuda.mean_abs_offset(layer), recording.mean_abs_offset(layer), rtol=1e-4)
        np.testing.assert_allclose(cuda.outside_share(layer), recording.outside_share(layer), atol=2e-3)
        np.testing.assert_allclose(cuda.fusion(layer), recording.fusion(layer), rtol=1e-3)
        for ours, theirs in zip(cuda.counts(layer), recording.counts(layer), strict=True):
            assert ours.sum() == theirs.sum()
            assert np.abs(ours - theirs).sum() < 1e-3 * theirs.sum()


def test_unknown_layers_are_an_error(record, images, tmp_path):
    refusal(LayerNotFoundError, record, images, tmp_path / "out", layers=["9_1"])


def test_a_replaced_image_is_tried_again(record, images, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        shutil.copy(images.path(index), folder / f"{index}.png")
    whole = record([folder], tmp_path / "whole").recording
    (folder / "1.png").write_bytes(b"cut")
    assert list(record([folder], tmp_path / "out").skipped) == ["1.png"]
    shutil.copy(images.path(1), folder / "1.png")
    again = record([folder], tmp_path / "out")
    assert not again.skipped
    assert np.array_equal(again.recording.offsets("3_18"), whole.offsets("3_18"))


def test_a_merged_recording_is_not_continued(record, images, tmp_path):
    broken, whole = subset(images, 70, 0), subset(images, 1, 2)  # the first of these is unreadable
    for name, part in (("a", broken), ("b", whole)):
        record(part, tmp_path / name)
    merged = merge_recordings([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    everything = replace(subset(images, 70, 0, 1, 2), title=merged.attrs["dataset"])
    assert "merged" in refusal(RecordingFormatError, record, everything, tmp_path / "both")


def test_no_more_processes_load_images_than_there_are_batches(record, images, tmp_path, monkeypatch):
    started, real = [], batches.open_loader
    monkeypatch.setattr(
        batches,
        "open_loader",
        lambda inputs, workers, *rest, **options: (started.append(workers), real(inputs, 0, *rest, **options))[1],
    )
    record(replace(images, names=images.names[:20]), tmp_path / "out", workers=3000)
    assert started == [3]
