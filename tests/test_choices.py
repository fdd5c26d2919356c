"""Which network, which images, which input size: what the shared settings mean."""

from typing import get_args

import numpy as np
import pytest

from atmviz.choices import DataChoice, DatasetName, FitChoice, ModelChoice
from atmviz.errors import AtmvizError, DatasetError, LayerNotFoundError, SettingsError
from atmviz.geometry import parse_size
from atmviz.observe import find_sites
from atmviz.recording.settings import RecordingSettings
from atmviz.settings import split_settings
from atmviz.sources import DATASETS


def test_every_dataset_can_be_named():
    assert set(get_args(DatasetName)) == set(DATASETS)


@pytest.mark.parametrize("size", [64, "64", (64, 64), [64, 64], "64x64", "64X64"])
def test_a_size_is_a_number_a_pair_or_a_text(size):
    assert parse_size(size) == (64, 64)


@pytest.mark.parametrize(
    "size",
    [31, "31", "-64", "big", "64x", "64x64x64", (64, 64, 64), (), "64x99999", None, 64.5, (64, 64.5), ("64", "64")],
)
def test_other_sizes_are_refused(size):
    with pytest.raises(SettingsError, match="expected 32 to 65535, or HEIGHTxWIDTH as in 600x800"):
        parse_size(size)


@pytest.mark.parametrize(
    ("dataset", "size", "expected", "crop_pct"),
    [
        (None, None, (224, 224), 0.875),
        ("ade20k", None, (512, 512), 1),
        ("coco", None, (600, 800), 1),
        ("coco", 224, (224, 224), 0.875),
        ("shapes", None, (128, 128), 1),
    ],
)
def test_a_dataset_has_an_input_size_and_the_size_decides_the_crop(dataset, size, expected, crop_pct):
    fitted = FitChoice(size=size).preprocessing(dataset)
    assert (fitted.size, fitted.fit, fitted.crop_pct) == (expected, "crop", crop_pct)
    assert FitChoice(size=size).preprocessing(dataset, "whole").fit == "whole"


def test_recordings_need_one_map_size():
    assert RecordingSettings(fit="squash").preprocessing().fit == "squash"
    assert FitChoice(fit="whole").preprocessing().fit == "whole"
    with pytest.raises(SettingsError, match="got fit: 'whole', expected crop or squash"):
        RecordingSettings(fit="whole")


def test_an_opened_source_may_be_sampled():
    photos = DataChoice().open()
    assert len(photos) > 2
    sampled = DataChoice(limit=2, seed=1).open(photos)
    assert len(sampled) == 2
    assert DataChoice(limit=2, seed=1).open().names == sampled.names


@pytest.mark.parametrize(
    "source", [np.zeros((64, 64, 3), np.uint8), 7, [np.zeros((64, 64, 3), np.uint8)]], ids=["array", "number", "arrays"]
)
def test_what_is_no_source_is_refused(source):
    with pytest.raises(SettingsError, match=r"expected (a path|paths)"):
        DataChoice().open(source)


@pytest.mark.parametrize("paths", [[3], ["a.png", None]])
def test_a_list_holds_only_paths(paths):
    with pytest.raises(SettingsError, match="as an image, expected a path: a file, a folder or a glob"):
        DataChoice().open(paths)


def test_an_empty_list_of_images_is_no_request_for_the_bundled_ones():
    with pytest.raises(DatasetError, match="empty list"):
        DataChoice().open([])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dataset": "cifar"}, "got dataset: 'cifar', expected ade20k, coco, imagenet, shapes or digits"),
        ({"split": "test"}, "got split: 'test', expected val or train"),
        ({"limit": "3"}, "got limit: '3', expected a whole number"),
        ({"limit": 2.5}, "got limit: 2.5, expected a whole number"),
        ({"limit": True}, "got limit: True, expected a whole number"),
        ({"limit": 0}, "got limit: 0, expected 1 or more"),
    ],
)
def test_values_of_another_kind_are_refused(values, says):
    with pytest.raises(SettingsError, match=says):
        split_settings(values, DataChoice)


@pytest.mark.parametrize(
    ("checkpoint", "layers", "says"),
    [
        ("none.pth", (), "no checkpoint file none.pth"),
        (".", (), "is a folder, expected a checkpoint file"),
        ("atmnet_nano.shapes", "3_19", "no layer '3_19'"),
        ("atmnet_tiny", ["1_1", "3_11"], "no layer '3_11'"),
        ("mask_rcnn(atmnet_tiny)", "fpn_c2", "no layer 'fpn_c2'"),
        ("mask_rcnn(atmnet_tny)", (), "no model atmnet_tny: expected one of .*; did you mean atmnet_tiny"),
        ("mask_rcn(atmnet_tiny)", (), "no checkpoint file"),
    ],
)
def test_a_wrong_checkpoint_or_layer_is_known_without_the_network(tmp_path, monkeypatch, checkpoint, layers, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AtmvizError, match=says):
        ModelChoice(checkpoint=checkpoint).require(layers)


@pytest.mark.parametrize(
    ("checkpoint", "layers"),
    [
        ("atmnet_nano.shapes", ["3_18", "generating", "4_last", "all"]),
        ("atmnet_large", "stages.2.blocks.23"),
        ("semantic_fpn(atmnet_tiny, atmfpn)", "fpn_c2"),
        ("upernet(resnet50)", "1_1"),
        ("run", ()),
        ("file.pth", "9_9"),
    ],
)
def test_what_only_the_network_can_tell_is_left_to_it(tmp_path, monkeypatch, checkpoint, layers):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for file in ("file.pth", "run/best.safetensors"):
        (tmp_path / file).write_bytes(b"\x80\2.")
    ModelChoice(checkpoint=checkpoint).require(layers)


def test_layers_that_are_known_without_the_network_are_the_network_s():
    network = ModelChoice(checkpoint="atmnet_nano.shapes").load()
    names = [site.name for site in find_sites(network)]
    ModelChoice(checkpoint="atmnet_nano.shapes").require(names)
    with pytest.raises(LayerNotFoundError) as known:
        ModelChoice(checkpoint="atmnet_nano.shapes").require("x")
    with pytest.raises(LayerNotFoundError) as loaded:
        find_sites(network, "x")
    assert str(known.value) == str(loaded.value)
