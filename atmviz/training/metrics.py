"""Metrics of dense prediction: one confusion matrix for segmentation, COCO's average precision for detection."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.detection import Annotation, coco_masks, run_lengths
from atmviz.distributed import gather_all

IouType = Literal["bbox", "segm"]
_AP_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class SegmentationMetric:
    """Counts every pixel of true class by row and predicted class by column; pixels of label 255 count nowhere.

    Several processes count one matrix.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self._matrix = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORE_INDEX).to(device)

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Count labels of one shape, [H, W] or [B, H, W]."""
        self._matrix.update(predicted.flatten(), mask.long().flatten())

    def confusion(self) -> np.ndarray:
        """[classes, classes], int64."""
        return self._matrix.compute().cpu().numpy()


def segmentation_scores(confusion: np.ndarray) -> dict[str, float]:
    """mIoU, mean and overall pixel accuracy from a confusion matrix, in percent.

    A class that is neither there nor predicted has no IoU, one that is not there no accuracy: the means leave it out,
    as mmsegmentation's do.
    """
    matrix = confusion.astype(np.float64)
    right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        iou, accuracy = right / (true + predicted - right), right / true
    means = [np.nanmean(one) if np.isfinite(one).any() else np.nan for one in (iou, accuracy)]
    overall = right.sum() / true.sum() if true.sum() else np.nan
    return {name: 100 * float(value) for name, value in zip(("miou", "macc", "aacc"), (*means, overall), strict=True)}


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, NaN for one that is neither there nor predicted."""
    matrix = confusion.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return 100 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())


class DetectionMetric:
    """COCO's average precision of boxes, and of masks where they are drawn, by COCO's own evaluation.

    Args:
        category_ids: By label.
        classes: Their names.
        with_masks: Whether the detector draws them.

    Raises:
        AtmvizError: the COCO backend is not installed.
    """

    def __init__(self, category_ids: Sequence[int], classes: Sequence[str], with_masks: bool) -> None:
        self.category_ids, self.classes = tuple(category_ids), tuple(classes)
        self._types: list[IouType] = ["bbox", "segm"] if with_masks else ["bbox"]
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        coco_masks()

    def update(
        self, image_id: int, size: tuple[int, int], annotations: Sequence[Annotation], found: dict[str, Tensor]
    ) -> None:
        """Add one image of `size` (height, width) px.

        Args:
            image_id: Its number.
            size: See above.
            annotations: What is there, see `atmviz.data.detection`.
            found: boxes [N, 4], scores [N], labels [N], and masks [N, 1, H, W] where the detector draws them.
        """
        self._images.append({"id": image_id, "height": size[0], "width": size[1]})
        for one in annotations:
            kept = {"iscrowd": 0, **{name: value for name, value in one.items() if name != "mask"}}
            self._truth.append({**kept, "image_id": image_id, "segmentation": run_lengths(one, size)})
        boxes, scores, labels = (found[name].cpu() for name in ("boxes", "scores", "labels"))
        corners, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        rows = [
            {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
            for label, box, score in zip(
                labels.tolist(), torch.cat([corners, sides], 1).tolist(), scores.tolist(), strict=True
            )
        ]
        if "segm" in self._types:
            drawn = (found["masks"][:, 0] >= 0.5).cpu().numpy()
            for row, mask in zip(rows, drawn, strict=True):
                row["segmentation"] = coco_masks().encode(np.asfortranarray(mask, dtype=np.uint8))
        self._found += rows

    def compute(self) -> dict[str, float]:
        """COCO's six figures in percent, of boxes as box_ap ..., of masks as mask_ap ...; over all processes.

        What there is no object of has no figure: NaN where pycocotools gives -1.
        """
        images, truth, found = (gather_all(one) for one in (self._images, self._truth, self._found))
        scores = {}
        for kind in self._types:
            values = self._evaluate(images, truth, found, kind)
            prefix = "box" if kind == "bbox" else "mask"
            scores.update({f"{prefix}_{name}": value for name, value in zip(_AP_NAMES, values, strict=True)})
        return scores

    def _evaluate(
        self, images: list[dict[str, Any]], truth: list[dict[str, Any]], found: list[dict[str, Any]], kind: IouType
    ) -> list[float]:
        from faster_coco_eval import COCO, COCOeval_faster

        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.classes, strict=True)]
        numbered = [{**one, "id": number} for number, one in enumerate(truth, start=1)]  # 0 would mean "no match"
        expected = COCO({"images": images, "annotations": numbered, "categories": categories})
        if kind == "segm":  # the area of a mask, not of its box, says whether it is small
            found = [{name: value for name, value in one.items() if name != "bbox"} for one in found]
        judge = COCOeval_faster(expected, expected.loadRes(found), kind)
        judge.run()
        return [100 * float(value) if value >= 0 else float("nan") for value in judge.stats[:6]]
