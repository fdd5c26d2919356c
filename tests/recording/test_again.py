"""A recording repeated with other weights holds the same images, in the same geometry, with the same labels."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import atmviz
from atmviz.errors import DatasetError, SettingsError
from atmviz.recording.again import images_of
from atmviz.recording.store import open_recording
from atmviz.sources import open_source

RUN = {"device": "cpu", "workers": 0}


def test_scenes_are_repeated_with_the_network_as_training_begins(tmp_path):
    first = atmviz.record("shapes", "atmnet_nano", out=tmp_path / "a", limit=9, size=64, query="1:0", labels="auto",
                          keep="positions", seed=3, workers=0)  # fmt: skip
    again = atmviz.record(like=first, network="init:atmnet_nano.shapes", out=tmp_path / "b", seed=7, **RUN)
    for key in ("images", "preprocessing", "query", "labels", "sampling", "input_size"):
        assert again.attrs[key] == first.attrs[key], key
    assert again.quantities == first.quantities
    assert again.attrs["checkpoint"]["seed"] == 7
    assert again.trained is False
    np.testing.assert_array_equal(again.read("objects"), first.read("objects"))
    ratio = again.mean_abs_offset("1_1").mean() / (0.02 * np.sqrt(2 * again.site("1_1").channels / np.pi))
    assert ratio == pytest.approx(1, abs=0.25)  # offsets as at initialization, not spread


def test_a_sample_of_files_is_repeated_in_its_order(record, folder, tmp_path):
    sample = open_source(folder, limit=6, seed=2)
    first = record(sample, tmp_path / "a").recording
    assert images_of(first) == replace(sample, title=first.attrs["dataset"])
    again = atmviz.record(like=tmp_path / "a", network="atmnet_nano", out=tmp_path / "b", **RUN)
    assert again.images == first.images
    assert again.attrs["sampling"] == first.attrs["sampling"]
    np.testing.assert_array_equal(again.offsets("3_18"), first.offsets("3_18"))


def test_masks_of_a_folder_are_repeated(record, folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for k in range(3):
        Image.fromarray(np.full((48, 64), k, np.uint8)).save(masks / f"00{k}.png")
    first = record([folder / f"00{k}.png" for k in range(3)], tmp_path / "a", labels=str(masks)).recording
    again = atmviz.record(like=first, network="atmnet_nano", out=tmp_path / "b", **RUN)
    assert again.attrs["labels"] == first.attrs["labels"]
    np.testing.assert_array_equal(again.read("hits", "2_1"), first.read("hits", "2_1"))


def test_digits_are_repeated(tmp_path):
    first = atmviz.record("digits", "atmnet_nano", out=tmp_path / "a", limit=5, **RUN)
    again = atmviz.record(like=first, network="atmnet_nano", out=tmp_path / "b", **RUN)
    np.testing.assert_array_equal(again.offsets("2_1"), first.offsets("2_1"))


def test_names_longer_than_a_file_system_allows_are_missing_images(recording):
    damaged = open_recording(recording.path)
    damaged.attrs["images"] = ["a/" * 2000 + "b"]
    with pytest.raises(DatasetError, match=r"1 of 1 image of .* are not in "):
        images_of(damaged)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "shapes"}, "got images, or a choice of them, and a recording to repeat"),
        ({"limit": 3}, "got images, or a choice of them, and a recording to repeat"),
        ({"size": 96}, "got size and a recording to repeat, which has fixed it: leave one out"),
        ({"labels": "auto"}, "got labels and a recording to repeat, which has fixed it"),
    ],
)
def test_what_the_recording_has_fixed_is_refused(settings, says, recording, tmp_path):
    with pytest.raises(SettingsError, match=says):
        atmviz.record(like=recording, network="atmnet_nano", out=tmp_path / "out", **settings, **RUN)
    assert not (tmp_path / "out").exists()


def test_images_that_are_gone_are_named(record, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "images")
    names = [tmp_path / "images" / f"00{k}.png" for k in range(3)]
    first = record(names, tmp_path / "a").recording
    names[1].unlink()
    with pytest.raises(DatasetError, match=r"1 of 3 images of .* are not in .* \(001.png\)"):
        images_of(first)


def test_a_recording_cannot_name_images_outside_its_folder(record, folder, tmp_path):
    first = record([folder / "000.png"], tmp_path / "a").recording
    for name in ("../secret.png", "/etc/passwd"):
        first.attrs["images"] = [name]
        with pytest.raises(DatasetError, match="names an image outside its folder"):
            images_of(first)


@pytest.mark.parametrize("names", [["shapes/val/000001"], ["shapes/val/x"], ["shapes/val/000000", "digits/val/0001"]])
def test_names_that_no_dataset_draws_are_refused(names, tmp_path):
    atmviz.record("shapes", "atmnet_nano", out=tmp_path / "a", limit=1, size=64, **RUN)
    first = open_recording(tmp_path / "a")
    first.attrs["images"] = names
    with pytest.raises(DatasetError, match="holds no whole drawn dataset"):
        images_of(first)
