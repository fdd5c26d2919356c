"""Average precision against pycocotools, of all images and without groups of them."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atmviz.data.detection import open_detection
from atmviz.sources.coco import run_lengths
from atmviz.training.detection_evaluator import DetectionEvaluator


def scenes(rng, category_ids):
    """Noisy detections in 40 scenes, some objects crowds and some missed: image id, annotations, detections."""
    dataset = open_detection("shapes", "val", 128)
    for i in range(40):
        annotations = dataset[i]["annotations"] if i else []
        annotations = [{**one, "category_id": category_ids[one["category_id"]]} for one in annotations]
        for k, one in enumerate(annotations):
            one["iscrowd"] = int((i + k) % 11 == 0)
            one["area"] = one["area"] * (0.5 if k % 3 else 30)  # COCO's areas decide what is small
        boxes, labels, masks = [], [], []
        for one in [one for one in annotations for _ in range(2)]:
            x, y, w, h = one["bbox"]
            noise = rng.normal(size=4) * 0.06 * max(w, h)
            boxes.append(np.array([x, y, x + w, y + h]) + noise)
            labels.append(category_ids.index(one["category_id"]))
            masks.append(np.roll(one["mask"], round(noise[0]), 1))
        yield annotations, boxes, labels, masks


def squares(rng, category_ids):
    """One to three images of few squares or none, of few sizes or one, perhaps crowds alone, perhaps nothing found."""

    def square(x, y, side):
        mask = np.zeros((128, 128), np.uint8)
        mask[y : y + side, x : x + side] = 1
        return mask

    sides = rng.choice([8, 40, 110], rng.integers(1, 4))
    crowds, objects, detected = rng.choice([0, 0.3, 1]), rng.choice([0, 3, 3]), rng.choice([0, 3, 3])
    for _ in range(rng.integers(1, 4)):
        annotations, boxes, labels, masks = [], [], [], []
        for _ in range(rng.integers(0, objects + 1)):
            side = int(rng.choice(sides))
            x, y = rng.integers(0, 128 - side, 2).tolist()
            one = {"category_id": int(rng.choice(category_ids)), "bbox": [x, y, side, side], "area": side**2}
            annotations.append({**one, "iscrowd": int(rng.random() < crowds), "mask": square(x, y, side)})
        for _ in range(rng.integers(0, detected + 1)):
            side, x, y = int(rng.choice([8, 40, 110])), *rng.integers(0, 18, 2).tolist()
            if annotations and rng.random() < 0.7:
                (x, y, side, _) = annotations[rng.integers(len(annotations))]["bbox"]
            boxes.append(np.array([x, y, x + side, y + side]))
            labels.append(int(rng.integers(len(category_ids))))
            masks.append(square(x, y, side))
        yield annotations, boxes, labels, masks


def evaluator(category_ids, with_masks):
    dataset = SimpleNamespace(category_ids=category_ids, classes=[str(k) for k in category_ids])
    return DetectionEvaluator(dataset, with_masks)


def judge(images, rng, category_ids):
    """Our figures of these images and of each class, and pycocotools'; its -1 is NaN."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metric = evaluator(category_ids, with_masks=True)
    truth, predicted = [], []
    for i, (annotations, boxes, labels, masks) in enumerate(images):
        n = len(boxes)
        scores = rng.random(n).astype(np.float32)
        detections = {
            "boxes": torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.from_numpy(scores),
            "masks": torch.from_numpy(np.stack(masks))[:, None].float() if n else torch.zeros(0, 1, 128, 128),
        }
        metric.count(i, (128, 128), annotations, detections)
        for one in annotations:
            kept = {name: one[name] for name in ("category_id", "bbox", "area", "iscrowd")}
            rle = run_lengths(one, (128, 128))
            truth.append({**kept, "id": len(truth) + 1, "image_id": i, "segmentation": rle})
        for (x1, y1, x2, y2), label, score, mask in zip(
            detections["boxes"].tolist(), labels, scores.tolist(), masks, strict=True
        ):
            rle = run_lengths({"mask": mask}, (128, 128))
            one = {"image_id": i, "category_id": category_ids[label], "score": score, "segmentation": rle}
            predicted.append({**one, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    expected, by_class = {}, {}
    with contextlib.redirect_stdout(io.StringIO()):
        ground, nothing = COCO(), COCO()
        kinds = {
            "images": [{"id": k, "height": 128, "width": 128} for k in range(i + 1)],
            "categories": [{"id": k} for k in category_ids],
        }
        ground.dataset, nothing.dataset = {**kinds, "annotations": truth}, {**kinds, "annotations": []}
        ground.createIndex()
        nothing.createIndex()
        for kind, name in (("bbox", "box"), ("segm", "mask")):
            unread = "bbox" if kind == "segm" else "segmentation"  # as files of results for COCO have one of the two
            results = [{name: value for name, value in one.items() if name != unread} for one in predicted]
            judged = COCOeval(ground, ground.loadRes(results) if results else nothing, kind)
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
            parts = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
            for part, value in zip(parts, judged.stats, strict=False):
                expected[f"{name}_{part}"] = float("nan") if value < 0 else 100 * value
            by_class[f"{name}_ap"] = []
            for category in category_ids:
                judged.params.catIds = [category]
                judged.evaluate()
                judged.accumulate()
                judged.summarize()
                by_class[f"{name}_ap"].append(float("nan") if judged.stats[0] < 0 else 100 * judged.stats[0])
    return (metric.metrics(), metric.per_class()), (expected, by_class)


def same_by_class(values, expected):
    assert values.keys() == expected.keys()
    return all(values[name] == pytest.approx(expected[name], abs=1e-6, nan_ok=True) for name in expected)


def test_average_precision_is_pycocotools_to_six_digits():
    rng, category_ids = np.random.default_rng(0), [3 * k + 1 for k in range(10)]
    (scores, values), (expected, by_class) = judge(scenes(rng, category_ids), rng, category_ids)
    assert scores.keys() == expected.keys()
    assert same_by_class(values, by_class)
    assert values["box_ap"].mean() == pytest.approx(scores["box_ap"])
    assert np.ptp(values["box_ap"]) > 5, "classes differ"
    assert scores == pytest.approx(expected, abs=1e-6)
    assert 5 < scores["box_ap"] < 95
    assert 5 < scores["mask_ap"] < 95
    assert scores["mask_ap"] != scores["box_ap"]
    assert all(np.isfinite(value) for value in scores.values()), "every size is there"


def test_outcomes_are_the_precision_without_each_group_of_images():
    category_ids = [*range(10)]
    images = [*scenes(np.random.default_rng(0), category_ids)]

    def counted(left_out=None):
        metric = evaluator(category_ids, with_masks=False)
        for i, (annotations, boxes, labels, _) in enumerate(images):
            if i % 16 != left_out:
                scores = torch.from_numpy(np.random.default_rng(i).random(len(boxes)).astype(np.float32))
                boxes_ = torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
                detections = {"boxes": boxes_, "labels": torch.tensor(labels, dtype=torch.int64), "scores": scores}
                metric.count(i, (128, 128), annotations, detections)
        return metric

    metric = counted()
    ap = metric.metrics()["box_ap"]
    values = metric.outcomes().values
    assert len(values) == 16
    assert np.ptp(values) > 0.5
    for group in (0, 7, 15):
        assert values[group] == pytest.approx(counted(group).metrics()["box_ap"], abs=1e-9)
    assert metric.metrics()["box_ap"] == ap
    del images[15:]
    assert counted().outcomes().values.size == 0, "a group without an image"


def test_figures_are_absent_exactly_where_pycocotools_has_none():
    absent = zero = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        category_ids = sorted(rng.choice(range(1, 91), rng.integers(1, 4), replace=False).tolist())
        (scores, values), (expected, by_class) = judge(squares(rng, category_ids), rng, category_ids)
        assert same_by_class(values, by_class), seed
        assert scores == pytest.approx(expected, abs=1e-6, nan_ok=True), seed
        absent, zero = absent + np.isnan(list(expected.values())).sum(), zero + list(expected.values()).count(0)
    assert min(absent, zero) > 100, "both kinds are there to be told apart"


def test_boxes_alone_have_no_figures_of_masks():
    metric = evaluator([1], with_masks=False)
    annotation = {"category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "mask": np.ones((20, 20), np.uint8)}
    boxes = {"boxes": torch.tensor([[2.0, 2, 12, 12]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    metric.count(0, (20, 20), [annotation], boxes)
    scores = metric.metrics()
    assert set(scores) == {"box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ap_medium", "box_ap_large"}
    assert scores["box_ap"] == pytest.approx(100)
    assert np.isnan(scores["box_ap_large"]), "no object of that size"


@pytest.mark.parametrize(("crowd", "shown"), [(0, {"ap": 0, "ap50": 0, "ap75": 0, "ap_medium": 0}), (1, {})])
def test_where_nothing_is_found_only_what_is_there_has_a_figure(crowd, shown):
    metric = evaluator([1], with_masks=True)
    annotation = {"category_id": 1, "bbox": [2, 2, 40, 40], "area": 1600, "mask": np.ones((64, 64), np.uint8)}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    metric.count(0, (64, 64), [annotation | {"iscrowd": crowd}], nothing | {"masks": torch.zeros(0, 1, 64, 64)})
    scores = {name: value for name, value in metric.metrics().items() if not np.isnan(value)}
    assert scores == {f"{what}_{name}": value for what in ("box", "mask") for name, value in shown.items()}
