"""Shapes: deterministic scenes, true labels, the spread of scales and shapes that they promise."""

import hashlib
import io
import os
import subprocess
import sys
import time
from statistics import median

import cv2
import numpy as np
import pytest
from PIL import Image

from atmviz.errors import DatasetError
from atmviz.sources.datasets import SHAPE_CLASSES
from atmviz.sources.scenes import MAIN_SCALE, Scene, SceneObject
from atmviz.sources.shapes import Shapes

SCENES = [Shapes(96, split="val")[index] for index in range(300)]


def digest(scene):
    return hashlib.sha256(scene.image.tobytes() + scene.instance_map.tobytes() + bytes([scene.label])).hexdigest()


def masks_of(scene):
    return np.array([scene.instance_map == k + 1 for k in scene.visible])


def test_a_scene_follows_from_seed_split_and_index():
    assert digest(Shapes(96)[7]) == digest(Shapes(96, length=9)[7])
    others = [Shapes(96)[8], Shapes(96, seed=1)[7], Shapes(96, split="val")[7], Shapes(64)[7]]
    assert len({digest(scene) for scene in [Shapes(96)[7], *others]}) == 5


def test_another_process_draws_the_same_scene():
    code = (
        "from hashlib import sha256; from atmviz.sources.shapes import Shapes\n"
        "print(sha256(Shapes(96)[7].image).hexdigest())"
    )
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert theirs == hashlib.sha256(Shapes(96)[7].image).hexdigest()


@pytest.mark.parametrize("size", [32, 100, 224, 512])
def test_any_size_has_all_labels(size):
    scene = Shapes(size)[3]
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.instance_map.shape == scene.semantic_mask.shape == (size, size)
    assert scene.boxes.shape == (len(scene.visible), 4)


def test_the_label_is_the_class_of_the_largest_object():
    for scene in SCENES:
        largest = max(scene.objects, key=lambda thing: thing.scale)
        assert scene.label == largest.label
        assert all(thing.scale <= 0.6 * largest.scale + 1e-9 for thing in scene.objects if thing is not largest)


def test_all_classes_and_numbers_of_objects_come_up():
    assert {scene.label for scene in SCENES} == set(range(len(SHAPE_CLASSES)))
    assert {len(scene.objects) for scene in SCENES} == {1, 2, 3, 4}


def test_scales_span_more_than_one_to_eight_and_shapes_go_from_round_to_long():
    scales = [thing.scale for scene in SCENES for thing in scene.objects]
    assert max(scales) / min(scales) > 8
    assert min(thing.scale for scene in SCENES for thing in scene.objects if thing.scale > MAIN_SCALE[1] - 0.05) > 0.8
    elongation = {
        name: [o.elongation for s in SCENES for o in s.objects if SHAPE_CLASSES[o.label] == name]
        for name in SHAPE_CLASSES
    }
    assert max(elongation["disc"]) < 1.4
    assert min(elongation["bar"]) >= 6
    assert median(elongation["chain"]) > 3


def test_masks_boxes_and_classes_describe_the_same_pixels():
    for scene in SCENES[:60]:
        for k, mask, box in zip(scene.visible, masks_of(scene), scene.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert set(scene.semantic_mask[mask].tolist()) == {1 + scene.objects[k].label}
        assert (scene.semantic_mask == 0).tolist() == (scene.instance_map == 0).tolist()


def test_drawn_objects_have_their_stated_length():
    lonely = [s for s in SCENES if len(s.objects) == 1 and SHAPE_CLASSES[s.label] == "bar"]
    checked = 0
    for scene in lonely:
        (left, top, right, bottom), (bar,) = scene.boxes[0], scene.objects
        if min(left, top) > 0 and max(right, bottom) < 96:
            assert np.hypot(right - left, bottom - top) == pytest.approx(96 * bar.scale, abs=0.25 * 96 * bar.scale)
            checked += 1
    assert checked >= 3


def test_objects_occlude_each_other_and_some_are_cut_by_the_border():
    boxes = [scene.boxes for scene in SCENES]
    assert any((box[:, :2] == 0).any() or (box[:, 2:] == 96).any() for box in boxes)
    assert any(len(scene.visible) < len(scene.objects) for scene in SCENES)


def test_most_main_objects_differ_from_what_surrounds_them():
    contrast = []
    for scene in SCENES[:100]:
        gray = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY).astype(float)
        mask = scene.semantic_mask == 1 + scene.label
        around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool) & (scene.instance_map == 0)
        if mask.sum() > 20 and around.any():
            contrast.append(abs(gray[mask].mean() - gray[around].mean()))
    assert median(contrast) > 30


def test_a_scene_with_nothing_in_sight_has_empty_labels():
    hidden = SceneObject(0, 0.1, 1.0, 0.0, (0.0, 0.0))
    scene = Scene(np.zeros((32, 32, 3), np.uint8), 0, np.zeros((32, 32), np.uint8), (hidden,))
    assert scene.visible == ()
    assert scene.boxes.shape == (0, 4)


@pytest.mark.parametrize("options", [{"size": 16}, {"length": 0}, {"split": "test"}, {"seed": -1}])
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(DatasetError, match="expected 32 to 65535 px"):
        Shapes(**options)


def test_the_sequence_ends():
    assert len(list(Shapes(32, length=3))) == 3
    with pytest.raises(IndexError):
        Shapes(32, length=3)[3]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="timings of one core")
def test_drawing_takes_no_longer_than_decoding_a_jpeg_of_that_size():
    cv2.setNumThreads(1)
    shapes = Shapes(224)
    files = []
    for index in range(30):
        file = io.BytesIO()
        Image.fromarray(shapes[index].image).save(file, "jpeg", quality=90)
        files.append(file.getvalue())

    def seconds(work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    ratios = [
        seconds(lambda: [shapes[index] for index in range(30)])
        / seconds(lambda: [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
        for _ in range(15)
    ]
    assert median(ratios) < 1.5  # 0.7 to 0.9 on an idle machine
