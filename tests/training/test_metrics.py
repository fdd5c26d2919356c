"""Metrics against their definitions: a written-out mIoU, pycocotools' own evaluation."""

import contextlib
import io

import numpy as np
import pytest
import torch

from atmviz.data.detection import open_detection, run_lengths
from atmviz.training.metrics import DetectionMetric, SegmentationMetric, class_iou, segmentation_scores
from atmviz.variants import IGNORED


def written_out(predicted, mask, classes):
    """mIoU, mAcc and aAcc, class by class."""
    counted = mask != IGNORED
    ious, accuracies = [], []
    for k in range(classes):
        both = np.sum(counted & (predicted == k) & (mask == k))
        true, found = np.sum(counted & (mask == k)), np.sum(counted & (predicted == k))
        if true + found:
            ious.append(both / (true + found - both))
        if true:
            accuracies.append(both / true)
    return 100 * np.mean(ious), 100 * np.mean(accuracies), 100 * np.sum(counted & (predicted == mask)) / counted.sum()


@pytest.mark.parametrize("seed", range(3))
def test_segmentation_scores_are_those_of_the_written_out_formula(seed):
    rng = np.random.default_rng(seed)
    classes = 9
    mask = rng.integers(0, 6, (4, 30, 40))  # class 7 is only predicted, class 8 neither there nor predicted
    predicted = np.where(rng.random(mask.shape) < 0.6, mask, rng.integers(0, 8, mask.shape))
    mask[rng.random(mask.shape) < 0.1] = IGNORED
    metric = SegmentationMetric(classes)
    for one, true in zip(predicted, mask, strict=True):
        metric.update(torch.from_numpy(one), torch.from_numpy(true.astype(np.uint8)))
    confusion = metric.confusion()
    assert confusion.sum() == np.sum(mask != IGNORED)
    found = segmentation_scores(confusion)
    assert list(found) == ["miou", "macc", "aacc"]
    assert list(found.values()) == pytest.approx(written_out(predicted, mask, classes), abs=1e-9)
    ious = class_iou(confusion)
    assert np.isnan(ious[8])
    assert np.nanmean(ious) == pytest.approx(found["miou"])


def test_images_that_do_not_count_have_no_scores():
    metric = SegmentationMetric(3)
    metric.update(torch.zeros(4, 4, dtype=torch.int64), torch.full((4, 4), IGNORED, dtype=torch.uint8))
    assert all(np.isnan(value) for value in segmentation_scores(metric.confusion()).values())


@pytest.fixture(scope="module")
def judged():
    """Noisy detections in 40 scenes, some objects crowds and some missed: ours, and what pycocotools makes of them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset = open_detection("shapes", "val", 128)
    category_ids = [3 * k + 1 for k in range(10)]
    metric = DetectionMetric(category_ids, dataset.classes, with_masks=True)
    generator = torch.Generator().manual_seed(0)
    truth, found, images = [], [], []
    for i in range(40):
        annotations = dataset[i]["annotations"] if i else []
        annotations = [{**one, "category_id": category_ids[one["category_id"]]} for one in annotations]
        for k, one in enumerate(annotations):
            one["iscrowd"] = int((i + k) % 11 == 0)
            one["area"] = one["area"] * (0.5 if k % 3 else 30)  # COCO's areas decide what is small
        boxes, labels, masks = [], [], []
        for one in annotations:
            for _ in range(2):
                x, y, w, h = one["bbox"]
                noise = torch.randn(4, generator=generator) * 0.06 * max(w, h)
                boxes.append(torch.tensor([x, y, x + w, y + h]) + noise)
                labels.append(category_ids.index(one["category_id"]))
                masks.append(np.roll(one["mask"], int(noise[0].round()), 1))
        n = len(boxes)
        detections = {
            "boxes": torch.stack(boxes) if n else torch.zeros(0, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.rand(n, generator=generator),
            "masks": torch.from_numpy(np.stack(masks))[:, None].float() if n else torch.zeros(0, 1, 128, 128),
        }
        metric.update(i, (128, 128), annotations, detections)

        images.append({"id": i, "height": 128, "width": 128})
        for one in annotations:
            rle = run_lengths(one, (128, 128))
            kept = {name: one[name] for name in ("category_id", "bbox", "area", "iscrowd")}
            truth.append({**kept, "id": len(truth) + 1, "image_id": i, "segmentation": rle})
        for box, label, score, mask in zip(
            detections["boxes"], labels, detections["scores"].tolist(), masks, strict=True
        ):
            x1, y1, x2, y2 = box.tolist()
            rle = run_lengths({"mask": mask}, (128, 128))
            one = {"image_id": i, "category_id": category_ids[label], "score": score, "segmentation": rle}
            found.append({**one, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    expected = {}
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {"images": images, "annotations": truth, "categories": [{"id": k} for k in category_ids]}
        ground.createIndex()
        for kind, name in (("bbox", "box"), ("segm", "mask")):
            unread = "bbox" if kind == "segm" else "segmentation"  # as files of results for COCO have one of the two
            results = [{name: value for name, value in one.items() if name != unread} for one in found]
            judge = COCOeval(ground, ground.loadRes(results), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            for part, value in zip(
                ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"), judge.stats, strict=False
            ):
                expected[f"{name}_{part}"] = 100 * value
    return metric.compute(), expected


def test_average_precision_is_pycocotools_to_six_digits(judged):
    found, expected = judged
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-6)
    assert 5 < found["box_ap"] < 95
    assert 5 < found["mask_ap"] < 95
    assert found["mask_ap"] != found["box_ap"]
    assert all(np.isfinite(value) for value in found.values()), "every size is there"


def test_boxes_alone_have_no_figures_of_masks():
    metric = DetectionMetric([1], ["one"], with_masks=False)
    annotation = {"category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "mask": np.ones((20, 20), np.uint8)}
    boxes = {"boxes": torch.tensor([[2.0, 2, 12, 12]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    metric.update(0, (20, 20), [annotation], boxes)
    found = metric.compute()
    assert set(found) == {"box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ap_medium", "box_ap_large"}
    assert found["box_ap"] == pytest.approx(100)
    assert np.isnan(found["box_ap_large"]), "no object of that size"


def test_where_nothing_is_found_the_figures_are_zero():
    metric = DetectionMetric([1], ["one"], with_masks=True)
    annotation = {"category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "mask": np.ones((20, 20), np.uint8)}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}
    metric.update(0, (20, 20), [annotation], nothing | {"masks": torch.zeros(0, 1, 20, 20)})
    assert metric.compute()["box_ap"] == metric.compute()["mask_ap"] == 0
