"""What two recordings share: layers, images and whole chunks of images."""

from dataclasses import asdict

import numpy as np
import pytest

from atmviz.errors import LayerNotFoundError
from atmviz.geometry import Preprocessing
from atmviz.recording.merge import merge_recordings
from atmviz.statistics.matching import describe_differences, match_images, match_layers

GRID = (8, 12)


@pytest.fixture
def record(write_recording, tmp_path):
    """`record("a", images=3)` writes a recording of zeros, by default of layer 1_1."""

    def write(name, images=3, layers=("1_1",), **settings):
        zeros = np.zeros((images, *GRID, 2, 1))
        return write_recording(tmp_path / name, dict.fromkeys(layers, zeros), **settings)

    return write


def names(recording, rows):
    return [recording.images[row] for row in rows]


def test_images_are_matched_by_name_in_whatever_order(record):
    a, b = record("a", names=["x", "y", "z"]), record("b", names=["z", "x", "y"])
    matched = match_images(a, b)
    assert matched.is_paired
    assert names(a, matched.images[0]) == names(b, matched.images[1]) == ["x", "y", "z"]
    assert matched.left_out == ()


def test_whole_chunks_of_the_same_images_are_pairs_wherever_they_are(record):
    order = [f"{n}" for n in range(192)]
    a, b = record("a", 192, names=order), record("b", 128, names=order[128:] + order[:64])
    matched = match_images(a, b)
    assert [rows.tolist() for rows in matched.chunks] == [[0, 2], [1, 0]]
    assert matched.are_chunks_paired
    assert len(matched.images[0]) == 128
    assert matched.left_out == ("64 images of one recording alone: not compared",)


def test_images_that_are_part_of_a_chunk_leave_all_chunks_counted(record):
    a, b = record("a", 100), record("b", 80)
    matched = match_images(a, b)
    assert matched.is_paired
    assert not matched.are_chunks_paired
    assert [rows.tolist() for rows in matched.chunks] == [[0, 1], [0, 1]]
    assert matched.left_out[0].startswith("20 images of one recording alone: not in reach and difference, but in")


@pytest.mark.parametrize("other", [{"dataset": "another"}, {"names": ["d", "e", "f"]}], ids=str)
def test_other_images_are_no_pairs(record, other):
    matched = match_images(record("a"), record("b", **other))
    assert not matched.is_paired
    assert matched.left_out == ("the recordings share 0 images: all images of both are compared, unpaired",)


def test_a_few_of_many_images_are_no_pairs(record):
    a, b = record("a", 20), record("b", 20, names=[f"{n:03}.png" for n in range(13, 33)])
    matched = match_images(a, b)
    assert not matched.is_paired
    assert matched.left_out == ("the recordings share 7 images: all images of both are compared, unpaired",)


def test_the_only_image_of_a_recording_is_a_pair(record):
    assert match_images(record("a", 20), record("b", 1)).is_paired


@pytest.mark.parametrize(("seed", "are_same"), [(0, True), (1, False)])
def test_drawn_scenes_of_another_seed_are_other_images(record, seed, are_same):
    a = record("a", root="", sampling={"seed": 0, "size": 64})
    b = record("b", root="", sampling={"seed": seed, "size": 128})
    assert match_images(a, b).is_paired == are_same


def test_random_samples_of_files_are_matched_whatever_their_seed(record):
    a, b = record("a", sampling={"seed": 0}), record("b", sampling={"seed": 1})
    assert match_images(a, b).is_paired


def test_merged_recordings_are_matched_by_image_and_not_by_chunk(record, tmp_path):
    order = [f"{n}" for n in range(100)]
    merged = merge_recordings(
        [record("first", 50, names=order[:50]).path, record("second", 50, names=order[50:]).path], tmp_path / "merged"
    )
    whole = record("whole", 100, names=order)
    matched = match_images(merged, whole)
    assert merged.chunk_images is None
    assert (matched.is_paired, matched.are_chunks_paired) == (True, False)
    assert [len(rows) for rows in matched.chunks] == [2, 2]


def test_layers_are_those_that_generate_offsets_in_both(record):
    a, b = record("a", layers=("1_1", "3_1", "3_7")), record("b", layers=("1_1", "3_1", "4_1"))
    assert match_layers(a, b) == (["1_1", "3_1"], ("layers that generate offsets in A alone: 3_7; in B alone: 4_1",))
    assert match_layers(a, b, "3_*") == (["3_1"], ())
    with pytest.raises(LayerNotFoundError, match=r"a and .*b: no layer '4_1'"):
        match_layers(a, b, "4_1")


def test_no_layer_in_common_is_one_line_with_the_layers_of_both(record):
    with pytest.raises(LayerNotFoundError, match=r"got layers 1_1 in .*a and 2_1 in .*b, expected some in common"):
        match_layers(record("a"), record("b", layers=("2_1",)))


def test_what_differs_beside_layers_and_images_is_said(record):
    squash = {"preprocessing": asdict(Preprocessing((32, 48), "squash"))}
    a = record("a")
    assert describe_differences(a, record("b")) == []
    others = record("c", query="0:0", input_size=[64, 96], precision="bf16", **squash)
    assert describe_differences(a, others) == [
        "inputs of 32×48 and 64×96 px: maps differ in size, for which w1_percent allows",
        "images fitted by crop and squash: they show different parts",
        "computed in fp32 and bf16: offsets differ by rounding too",
        "query tokens center and 0:0: not compared; all else is of every token",
    ]
