"""What answers are made of equals the same from dense maps of offsets, after interruptions and merges too."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from atmviz.data.fitting import preprocess
from atmviz.errors import DatasetError, LayerNotFoundError, RecordingFormatError, SettingsError
from atmviz.geometry import Preprocessing
from atmviz.observe import observing
from atmviz.observe.hooks import forward_to_sites
from atmviz.recording.cache import RecordingRequest
from atmviz.recording.merge import merge_recordings
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import open_recording
from atmviz.sources import open_source
from atmviz.sources.shapes import Shapes
from tests import dense_oracle

FIT = Preprocessing((64, 64), crop_pct=1.0)
SCENES, BROKEN = 66, 5  # a chunk of 64, of which 63 can be read, and a chunk of two
KEEP = ("positions", "maps")
LAYERS = ("1_1", "2_1", "3_1", "4_1")


class Scenes(Shapes):
    """Scenes of which one cannot be read."""

    def read(self, index):
        if index == BROKEN:
            raise DatasetError("torn")
        return super().read(index)


@pytest.fixture(scope="module")
def scenes():
    return Scenes(64, SCENES, "val")


@pytest.fixture(scope="module")
def labeled(record, scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("labeled") / "out"
    return record(scenes, out, preprocessing=FIT, labels="auto", keep=KEEP).recording


@pytest.fixture(scope="module")
def dense(network, scenes):
    """Offsets [N, H, W, 2, O] of the readable scenes by layer, in the batches of the recording."""
    seen = {layer: [] for layer in LAYERS}
    with torch.inference_mode(), observing(network, list(LAYERS)) as observed:
        for start in range(0, SCENES, 8):
            batch = [k for k in range(start, min(start + 8, SCENES)) if k != BROKEN]
            forward_to_sites(network, torch.cat([preprocess(scenes.read(k), FIT)[0] for k in batch]))
            for layer in LAYERS:
                seen[layer].append(observed.offsets[layer].double().numpy())
    return {layer: np.concatenate(parts) for layer, parts in seen.items()}


def by_chunk(function, *arrays):
    """What an oracle of whole chunks says of the first chunk, which lacks an image, and of the second."""
    first, second = (function(*(array[part] for array in arrays)) for part in (slice(63), slice(63, None)))
    return {name: np.concatenate([first[name], second[name]]) for name in first}


@pytest.mark.parametrize("layer", LAYERS)
def test_sums_are_those_of_dense_maps(layer, labeled, dense):
    right = by_chunk(lambda offsets: dense_oracle.moment_arrays(offsets, labeled.read("distances", layer).shape[-1]),
                     dense[layer])  # fmt: skip
    for name in ("moments", "beyond", "distances"):
        np.testing.assert_allclose(labeled.read(name, layer), right[name], rtol=1e-12, err_msg=name)
    assert labeled.read("beyond", layer).sum() > 0
    maps = labeled.read("map", layer)
    assert maps.dtype == np.int16
    np.testing.assert_array_equal(np.rint(maps / 64), np.rint(dense[layer]))
    exact = maps == np.rint(dense[layer] * 64)
    assert exact.mean() > 0.97
    assert (np.abs(maps / 64 - dense[layer]) < 1 / 64).all()
    positions = labeled.read("positions", layer)
    groups = np.zeros_like(positions)
    for row, index in zip(dense[layer], labeled.part_indices, strict=True):
        groups[index // 64, index % 16] += row
    np.testing.assert_allclose(positions, groups, rtol=1e-12, atol=1e-13)


def masks_of(scenes):
    return [scenes.truth(k).instances.astype(int) for k in range(SCENES) if k != BROKEN]


@pytest.mark.parametrize("layer", ["2_1", "3_1", "4_1"])
def test_hits_are_those_counted_sample_by_sample(layer, labeled, dense, scenes):
    site = labeled.site(layer)
    labels = np.array([dense_oracle.token_labels(mask, site.stride_px, site.grid) for mask in masks_of(scenes)])
    right = by_chunk(dense_oracle.label_arrays, dense[layer], labels)
    np.testing.assert_array_equal(labeled.read("hits", layer), right["hits"])
    np.testing.assert_array_equal(labeled.read("other_hits", layer), right["other_hits"])
    assert (labeled.read("hits", layer).sum((0, 1, 2)) > 0).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_objects_and_their_offsets_are_those_of_the_masks(layer, labeled, dense, scenes):
    site, masks = labeled.site(layer), masks_of(scenes)
    truths = [scenes.truth(k) for k in range(SCENES) if k != BROKEN]
    things = [
        {k + 1: (t.label, t.length_px, t.elongation, t.angle) for k, t in enumerate(truth.objects)} for truth in truths
    ]
    numbers, rows = zip(*map(dense_oracle.object_rows, masks, things), strict=True)
    np.testing.assert_allclose(labeled.read("objects"), np.array(rows), rtol=1e-12, atol=1e-12)
    labels = np.array([dense_oracle.token_labels(mask, site.stride_px, site.grid) for mask in masks])
    arrays = [
        dense_oracle.object_arrays(dense[layer][part], labels[part], numbers[part])
        for part in (slice(63), slice(63, None))
    ]
    for name in arrays[0]:
        right = np.concatenate([array[name] for array in arrays])
        np.testing.assert_allclose(labeled.read(name, layer), right, rtol=1e-12, atol=1e-12, err_msg=name)


def test_of_a_chunk_of_one_image_nothing_is_crossed(record, tmp_path):
    alone = record(Shapes(64, 1, "val"), tmp_path / "one", preprocessing=FIT, labels="auto").recording
    assert alone.read("hits", "2_1").sum() > 0
    assert not alone.read("other_hits", "2_1").any()
    assert not alone.read("other_object_offsets", "2_1").any()


def test_a_killed_recording_ends_with_the_same_arrays(labeled, arrays, tmp_path):
    script = textwrap.dedent(f"""
        import os, signal, torch
        torch.set_num_threads(1)
        from atmviz.checkpoints import load_model
        from atmviz.recording.run import run_recording
        from atmviz.recording.settings import RecordingSettings
        from atmviz.events import Events
        from tests.recording.test_label_quantities import FIT, KEEP, SCENES, Scenes
        events = Events()
        def kill(done, total):
            if done == 64 and {{kill}}:
                os.kill(os.getpid(), signal.SIGKILL)
        events.images = kill
        settings = RecordingSettings(workers=0, batch_size=8, labels="auto", keep=KEEP)
        scenes, network = Scenes(64, SCENES, "val"), load_model("atmnet_nano", device="cpu")
        run_recording(scenes, network, r"{tmp_path / "out"}", settings, preprocessing=FIT, events=events)
    """)
    for kill, code in ((True, -signal.SIGKILL), (False, 0)):
        command = [sys.executable, "-c", script.format(kill=kill)]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert open_recording(tmp_path / "out").complete is not kill
    assert arrays(tmp_path / "out") == arrays(labeled.path)


def test_merged_parts_hold_the_rows_and_sums_of_both(record, folder, tmp_path):
    """Labels from a folder of masks."""
    masks = tmp_path / "masks"
    masks.mkdir()
    draw = np.random.default_rng(3)
    names = [f"{k:03}.png" for k in range(66)]
    for name in names:
        Image.fromarray(draw.integers(0, 3, (6, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)).save(masks / name)
    settings = {"preprocessing": FIT, "labels": str(masks), "keep": ("positions",)}
    paths = [[folder / name for name in part] for part in (names[:64], names[64:], names)]
    one, two, whole = (record(path, tmp_path / str(k), **settings).recording for k, path in enumerate(paths))
    merged = merge_recordings([one.path, two.path], tmp_path / "merged")
    for name in whole.quantities:
        layer = None if name == "objects" else "2_1"
        np.testing.assert_array_equal(merged.read(name, layer), whole.read(name, layer), err_msg=name)
    assert merged.read("hits", "2_1").sum() > 0
    assert merged.attrs["labels"] == "connected regions of the masks of masks"


def test_what_was_not_recorded_says_so(labeled, recording):
    with pytest.raises(RecordingFormatError, match="no 'hits' in"):
        recording.read("hits", "2_1")
    with pytest.raises(LayerNotFoundError, match="hits differs by layer: name one of 1_1, "):
        labeled.read("hits")
    assert recording.attrs.get("labels") is None
    assert labeled.attrs["labels"] == "objects of shapes"


def test_labels_of_images_of_which_nothing_is_known_are_refused(record, images, tmp_path):
    with pytest.raises(SettingsError, match="no objects are known of images0: name a folder of masks"):
        record(images, tmp_path / "out", labels="auto")
    with pytest.raises(SettingsError, match="no objects are known of digits"):
        record(open_source("digits"), tmp_path / "out", labels="auto")
    with pytest.raises(SettingsError, match="got labels nowhere, expected auto or a folder of masks"):
        record(images, tmp_path / "out", labels="nowhere")
    with pytest.raises(SettingsError, match="got masks for shapes, whose objects are known: take labels auto"):
        record(Shapes(64, 8), tmp_path / "out", labels=str(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.ones((48, 64, 3), np.uint8), r"mask .*000.png .*PNG of RGB pixels; expected one lossless channel"),
        (np.ones((48, 64), bool), r"PNG of 1 pixels; expected one lossless channel"),
        (None, r"mask .*000.png"),
    ],
)
def test_masks_that_cannot_be_read_say_why(mask, says, record, folder, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "000.png").write_bytes(b"no mask")
    if mask is not None:
        Image.fromarray(mask).save(tmp_path / "masks" / "000.png")
    with pytest.raises(DatasetError, match=says):
        record([folder / "000.png"], tmp_path / "out", labels=str(tmp_path / "masks"))
    assert not (tmp_path / "out").exists()


def test_images_are_no_masks_of_themselves(record, images, tmp_path):
    (tmp_path / "masks").symlink_to(images.folder)
    for folder in (images.folder, tmp_path / "masks"):
        with pytest.raises(
            DatasetError, match=r"130 of 130 images would be their own masks \(000.png, .*another folder"
        ):
            record(images, tmp_path / "out", labels=str(folder))


def test_missing_masks_are_named_before_anything_is_recorded(record, images, tmp_path):
    Image.fromarray(np.ones((48, 64), np.uint8)).save(tmp_path / "003.png")
    with pytest.raises(DatasetError, match=r"129 of 130 images have no mask in .* \(000.png, 001.png, 002.png"):
        record(images, tmp_path / "out", labels=str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_shape_leaves_its_image_out_and_is_named(record, folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, shape in (("000.png", (48, 64)), ("001.png", (64, 48))):
        Image.fromarray(np.ones(shape, np.uint8)).save(masks / name)
    paths = [folder / "000.png", folder / "001.png"]
    done = record(paths, tmp_path / "out", labels=str(masks))
    assert list(done.skipped) == ["001.png"]
    assert "mask of 001.png" in done.skipped["001.png"]
    with pytest.raises(DatasetError, match=r"mask of 001.png is 64 x 48, its image 48 x 64"):
        record(paths, tmp_path / "strict", labels=str(masks), strict=True)


@pytest.mark.parametrize("array", ["hits_2_1", "other_hits_2_1", "beyond", "distances", "map_2_1"])
def test_a_lost_chunk_of_whole_numbers_is_noticed(array, labeled, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(labeled.path, copied, symlinks=True)
    shutil.rmtree(copied / array / "c" / "0")
    with pytest.raises(RecordingFormatError, match=f"array '{array}' in .*copied is damaged"):
        open_recording(copied).read(array.removesuffix("_2_1"), "2_1")


def test_quantities_of_labels_need_labels(record, images, tmp_path):
    from atmviz.recording.label_quantities import HITS

    with pytest.raises(SettingsError, match="got quantity hits and no labels"):
        record(images, tmp_path / "out", quantities=HITS)


@pytest.fixture
def datasets(tmp_path):
    """One picture in the layout of ADE20K and COCO: two boxes of one class that do not touch, upright and turned."""
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 8:24] = mask[8:24, 40:56] = 3
    boxes = [[8, 8, 16, 32], [40, 8, 16, 16]]
    ade, coco = tmp_path / "ADEChallengeData2016", tmp_path / "coco"
    for folder in (ade / "images" / "validation", ade / "annotations" / "validation", coco / "val2017"):
        folder.mkdir(parents=True)
    for k, orientation in enumerate((1, 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.fromarray(np.full((48, 64, 3), 99, np.uint8))
        picture.save(ade / "images" / "validation" / f"{k}.jpg", exif=exif)
        picture.save(coco / "val2017" / f"{k}.jpg", exif=exif)
        Image.fromarray(mask).save(ade / "annotations" / "validation" / f"{k}.png")
    things = [
        {"id": 10 * k + n, "image_id": k, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
         "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        for k in (0, 1) for n, box in enumerate(boxes) for x, y, w, h in [box]
    ]  # fmt: skip
    (coco / "annotations").mkdir()
    (coco / "annotations" / "instances_val2017.json").write_text(json.dumps({
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 48, "width": 64} for k in (0, 1)],
        "categories": [{"id": 1, "name": "box"}], "annotations": things}))  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("name", ["ade20k", "coco"])
def test_a_sample_of_a_dataset_has_labels(name, record, datasets):
    sample = open_source(name, data_dir=datasets, limit=1)
    done = record(sample, datasets / "out", preprocessing=FIT, labels="auto").recording
    assert (len(done), (done.read("objects")[0, :, 0] >= 0).sum()) == (1, 2)


@pytest.mark.parametrize("name", ["ade20k", "coco"])
def test_a_cached_recording_of_labels_is_made_again_when_they_change(name, datasets):
    """The images stay the same; without labels, so does the recording."""
    keys = []
    for _ in range(2):
        for labels in (None, "auto"):
            settings = RecordingSettings(labels=labels, size=64)
            keys.append(RecordingRequest(open_source(name, data_dir=datasets), "atmnet_nano", None, settings).key())
        for file in (*datasets.glob("*/annotations/*/0.png"), *datasets.glob("*/annotations/*.json")):
            file.write_bytes(file.read_bytes() + b" ")
    assert keys[0] == keys[2]
    assert len({*keys}) == 3


def test_classes_of_ade20k_are_regions_and_instances_of_coco_objects(record, datasets):
    fit = Preprocessing((64, 64), fit="squash")
    found = {}
    for name, label in (("ade20k", 2), ("coco", 0)):
        source = open_source(name, data_dir=datasets)
        found[name] = record(source, datasets / f"{name}-recording", preprocessing=fit, labels="auto").recording.read(
            "objects"
        )
        upright, turned = found[name]
        assert upright[:3, 0].tolist() == turned[:3, 0].tolist() == [label, label, -1]
        assert upright[0, 2] < upright[0, 3]  # taller than wide
        assert turned[0, 2] > turned[0, 3]
    np.testing.assert_allclose(found["ade20k"][:, :, 1:], found["coco"][:, :, 1:])
    assert open_recording(datasets / "ade20k-recording").attrs["labels"] == "connected regions of one class of ade20k"
    assert open_recording(datasets / "coco-recording").attrs["labels"] == "objects of coco"
