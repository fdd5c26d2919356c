"""Evaluators: one per task, each runs a network on batches of a dataset and computes the task's metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.detection import DetectionImages
from atmviz.data.fitting import MEAN, STD
from atmviz.data.segmentation import SegmentationImages
from atmviz.dense import predicts_masks
from atmviz.distributed import gather_all
from atmviz.errors import CheckpointError
from atmviz.observe.hooks import forward_to_sites
from atmviz.sources.coco import coco_masks, run_lengths
from atmviz.sources.coco_json import Annotation
from atmviz.training.evaluation_settings import EvaluationSettings

_AP_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
Item = dict[str, Any]  # an image of a dataset with its labels


@dataclass(frozen=True)
class Prediction:
    """An image, its labels and the prediction for it, for drawing.

    Attributes:
        name: Name of the image.
        classes: Class names, by label.
        image: [H, W, 3], uint8, RGB.
        truth: Segmentation: class map [H, W]. Detection: boxes [N, 4] in px (x1, y1, x2, y2), labels [N], and masks
            [N, H, W] where the detector predicts them.
        predicted: As `truth`; of detectors also scores [N].
    """

    name: str
    classes: tuple[str, ...]
    image: np.ndarray
    truth: Any
    predicted: Any


class Evaluator:
    """Runs a network on batches and computes metrics over all of them."""

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        """Count a batch; return the prediction for each item, or nothing (classification)."""
        raise NotImplementedError

    def describe(self, item: Item, predicted: Any) -> tuple[np.ndarray, Any, Any]:
        """Return image, truth and prediction as in `Prediction`, from an item and what `update` predicted for it."""
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        """Return the metrics over all images so far, of all processes."""
        raise NotImplementedError

    def per_class(self) -> dict[str, np.ndarray]:
        """Return values of each class, [classes] in percent, by metric; NaN where there are none. After `metrics`."""
        raise NotImplementedError

    def confusion(self) -> np.ndarray | None:
        """Return counts [classes, classes], true class by row, predicted class by column; None where not counted."""
        return None


def open_evaluator(network: nn.Module, dataset: Any, total: int, settings: EvaluationSettings) -> Evaluator:
    """Return the evaluator for the images of a dataset, of which all processes evaluate `total`."""
    device = next(network.parameters()).device
    if isinstance(dataset, SegmentationImages):
        return SegmentationEvaluator(len(dataset.classes), device, flip=settings.multi_scale)
    if isinstance(dataset, DetectionImages):
        return DetectionEvaluator(dataset, with_masks=predicts_masks(network))
    counts = settings.confusion or settings.per_class
    return ClassificationEvaluator(len(dataset.classes), device, total, counts, dataset.outputs)


def pixels_of(image: Tensor) -> np.ndarray:
    """Return the pixels [H, W, 3], uint8, of a normalized image [3, H, W]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (255 * (image * std + mean)).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()  # CHW -> HWC


def require_classes(network_classes: int, dataset_classes: int) -> None:
    """Raise CheckpointError if a network has another number of classes than a dataset."""
    if network_classes != dataset_classes:
        raise CheckpointError(
            f"got a network of {network_classes} classes for a dataset of {dataset_classes}: "
            "fine-tune it on this dataset first, or evaluate it on the one that it was trained on"
        )


class ClassificationEvaluator(Evaluator):
    """Computes top1 and top5 in percent, and loss, the mean cross entropy.

    Args:
        classes: Number of classes.
        device: Where the network is.
        total: Images over all processes.
        confusion: Count which class is taken for which.
        outputs: Output of the network for each class, where it has others too; those are left out.

    Source: the authors' code of ImageNet-A and -R and timm's `validate.py` also leave other classes' outputs out.
    """

    def __init__(
        self, classes: int, device: torch.device, total: int, confusion: bool, outputs: list[int] | None = None
    ) -> None:
        self.classes, self.total, self.outputs = classes, total, outputs
        self.top1 = MulticlassAccuracy(classes, average="micro").to(device)
        self.top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro").to(device)
        self.loss = MeanMetric(nan_strategy="disable").to(device)  # shows a NaN instead of leaving it out
        self.matrix = MulticlassConfusionMatrix(classes).to(device) if confusion else None

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        scores = forward_to_sites(network, torch.stack([item["image"] for item in items])).float()
        labels = torch.tensor([item["label"] for item in items], device=scores.device)
        scores = scores if self.outputs is None else scores[:, self.outputs]
        require_classes(scores.shape[1], self.classes)
        for metric in (self.top1, self.top5, *([self.matrix] if self.matrix else [])):
            metric.update(scores, labels)
        self.loss.update(nn.functional.cross_entropy(scores, labels, reduction="none"))
        return []

    def metrics(self) -> dict[str, float]:
        top1, top5 = self._percent(self.top1), self._percent(self.top5)
        return {"top1": top1, "top5": top5, "loss": self.loss.compute().item()}

    def per_class(self) -> dict[str, np.ndarray]:
        matrix = self.confusion()
        return {} if matrix is None else {"top1": 100 * class_fractions(matrix)["acc"]}

    def _percent(self, accuracy: Metric) -> float:
        """Return the exact percentage: single precision suffices for the number of right answers."""
        return 100 * round(accuracy.compute().item() * self.total) / self.total

    def confusion(self) -> np.ndarray | None:
        return self.matrix.compute().cpu().numpy() if self.matrix else None


class SegmentationEvaluator(Evaluator):
    """Computes miou, macc and aacc in percent; pixels of label 255 count nowhere.

    Args:
        classes: Number of classes.
        device: Where the network is.
        flip: Segment each view mirrored too, and average.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu", flip: bool = False) -> None:
        self.classes, self.flip = classes, flip
        self._matrix = MulticlassConfusionMatrix(classes, ignore_index=IGNORE_INDEX).to(device)

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        shapes = {tuple(x.shape for x in (*item["views"], item["mask"])) for item in items}
        segmented: list[Tensor] = []
        for group in [items] if len(shapes) == 1 else [[item] for item in items]:
            views = [torch.stack(scale) for scale in zip(*(item["views"] for item in group), strict=True)]
            predicted = segment(network, views, group[0]["mask"].shape, self.flip, self.classes)
            self.count(predicted, torch.stack([item["mask"] for item in group]).to(predicted.device))
            segmented += predicted
        return segmented

    def count(self, predicted: Tensor, mask: Tensor) -> None:
        """Count predicted and true labels, both [H, W] or [B, H, W]."""
        self._matrix.update(predicted.flatten(), mask.long().flatten())

    def describe(self, item: Item, predicted: Any) -> tuple[np.ndarray, Any, Any]:
        return pixels_of(item["image"]), item["mask"].numpy(), predicted.cpu().numpy().astype(np.uint8)

    def metrics(self) -> dict[str, float]:
        return segmentation_scores(self.confusion())

    def per_class(self) -> dict[str, np.ndarray]:
        return {name: 100 * values for name, values in class_fractions(self.confusion()).items()}

    def confusion(self) -> np.ndarray:
        return self._matrix.compute().cpu().numpy()


def segment(network: nn.Module, views: Sequence[Tensor], size: Sequence[int], flip: bool, classes: int) -> Tensor:
    """Return the most likely class of every pixel, [B, H, W], over views of the same images.

    Args:
        network: Computes scores [B, classes, h, w] of a view [B, 3, h, w].
        views: Normalized images at several scales, each [B, 3, h, w].
        size: H and W, px.
        flip: Add each view mirrored.
        classes: Number of classes of the dataset.

    Raises:
        CheckpointError: the network has another number of classes.

    Source: mmsegmentation's test-time augmentation: probabilities at the size of the labels, averaged.
    """
    total: Any = 0
    for view in views:
        for mirrored in (False, True) if flip else (False,):
            scores = forward_to_sites(network, view.flip(-1) if mirrored else view).float()
            require_classes(scores.shape[1], classes)
            scores = scores.flip(-1) if mirrored else scores
            if tuple(scores.shape[-2:]) != tuple(size):
                scores = nn.functional.interpolate(scores, tuple(size), mode="bilinear", align_corners=False)
            total = total + (scores.softmax(1) if len(views) > 1 or flip else scores)
    return total.argmax(1)


def segmentation_scores(confusion: np.ndarray) -> dict[str, float]:
    """Return mIoU, mean and overall pixel accuracy in percent, from a confusion matrix [classes, classes].

    As in mmsegmentation, the means leave out classes without a value: without true and predicted pixels there is no
    IoU, without true pixels no accuracy.
    """
    scores = class_fractions(confusion)
    means = [np.nanmean(values) if np.isfinite(values).any() else np.nan for values in scores.values()]
    pixels = confusion.sum()
    overall = confusion.trace() / pixels if pixels else np.nan
    return {name: 100 * float(value) for name, value in zip(("miou", "macc", "aacc"), (*means, overall), strict=True)}


def class_fractions(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return IoU ("iou") and accuracy ("acc") of each class, 0 to 1, from a confusion matrix [classes, classes].

    NaN where there is no value: an IoU needs true or predicted pixels of the class, an accuracy true ones.
    """
    matrix = confusion.astype(np.float64)
    right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        return {"iou": right / (true + predicted - right), "acc": right / true}


class DetectionEvaluator(Evaluator):
    """Computes COCO's average precision of boxes, and of masks where the network predicts them, by COCO's code.

    Args:
        dataset: Images with annotations.
        with_masks: Whether the network predicts masks.

    Raises:
        AtmvizError: the COCO backend is not installed.
    """

    def __init__(self, dataset: DetectionImages, with_masks: bool) -> None:
        self.dataset = dataset
        self._kinds: dict[Any, str] = {"bbox": "box"} | ({"segm": "mask"} if with_masks else {})
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []
        self._per_class: dict[str, np.ndarray] = {}
        coco_masks()

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        parameter = next(network.parameters())
        predicted = network([item["image"].to(parameter.device, parameter.dtype) for item in items])
        for item, detections in zip(items, predicted, strict=True):
            labels = detections["labels"]
            if len(labels) and int(labels.max()) >= len(self.dataset.classes):
                require_classes(int(labels.max()) + 1, len(self.dataset.classes))
            self.count(item["image_id"], tuple(item["image"].shape[-2:]), item["annotations"], detections)
        return predicted

    def describe(self, item: Item, predicted: Any) -> tuple[np.ndarray, Any, Any]:
        target = self.dataset.target(item["annotations"], tuple(item["image"].shape[-2:]))
        detections = {key: value.cpu() for key, value in predicted.items()}
        if "masks" in detections:
            detections["masks"] = detections["masks"][:, 0] >= 0.5
        else:
            target.pop("masks")
        true, detected = ({key: value.numpy() for key, value in x.items()} for x in (target, detections))
        return pixels_of(item["image"]), true, detected

    def count(
        self, image_id: int, size: tuple[int, int], annotations: Sequence[Annotation], detections: dict[str, Tensor]
    ) -> None:
        """Count true and predicted objects of an image.

        Args:
            image_id: Number of the image.
            size: Height and width, px.
            annotations: True objects, see `atmviz.sources.coco_json`.
            detections: boxes [N, 4] in px, scores [N], labels [N], and masks [N, 1, H, W] where the detector predicts
                them.
        """
        self._images.append({"id": image_id, "height": size[0], "width": size[1]})
        for annotation in annotations:
            kept = {"iscrowd": 0, **{name: value for name, value in annotation.items() if name != "mask"}}
            self._truth.append({**kept, "image_id": image_id, "segmentation": run_lengths(annotation, size)})
        boxes, scores, labels = (detections[name].cpu() for name in ("boxes", "scores", "labels"))
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        rows = [
            {"image_id": image_id, "category_id": self.dataset.category_ids[label], "bbox": box, "score": score}
            for label, box, score in zip(labels.tolist(), xywh.tolist(), scores.tolist(), strict=True)
        ]
        if "segm" in self._kinds:
            masks = (detections["masks"][:, 0] >= 0.5).cpu().numpy()
            for row, mask in zip(rows, masks, strict=True):
                row["segmentation"] = coco_masks().encode(np.asfortranarray(mask, dtype=np.uint8))
        self._detections += rows

    def metrics(self) -> dict[str, float]:
        """Return box_ap, box_ap50, box_ap75, box_ap_small, box_ap_medium, box_ap_large in percent, and so of masks.

        NaN where pycocotools returns -1: there is no true object of the kind.
        """
        from faster_coco_eval import COCO, COCOeval_faster

        images, truth, detections = (gather_all(items) for items in (self._images, self._truth, self._detections))
        truth = [{**item, "id": number} for number, item in enumerate(truth, start=1)]  # 0 would mean "no match"
        names = zip(self.dataset.category_ids, self.dataset.classes, strict=True)
        categories = [{"id": category, "name": name} for category, name in names]
        scores = {}
        for kind, prefix in self._kinds.items():
            if kind == "segm":  # the area of the mask, not of its box, decides what is small
                detections = [{name: value for name, value in item.items() if name != "bbox"} for item in detections]
            expected = COCO({"images": images, "annotations": truth, "categories": categories})
            coco_eval = COCOeval_faster(expected, expected.loadRes(detections), kind)
            coco_eval.run()
            for name, value in zip(_AP_NAMES, coco_eval.stats[:6], strict=True):
                scores[f"{prefix}_{name}"] = 100 * float(value) if value >= 0 else float("nan")
            # [IoU thresholds, recalls, classes, areas, limits of detections], here for all areas and the largest limit
            precision = coco_eval.eval["precision"][:, :, :, 0, -1].mean((0, 1))
            by_id = dict(zip(coco_eval.params.catIds, precision.tolist(), strict=True))
            values = np.array([by_id[category] for category in self.dataset.category_ids])
            self._per_class[f"{prefix}_ap"] = np.where(values < 0, np.nan, 100 * values)  # -1: no true object
        return scores

    def per_class(self) -> dict[str, np.ndarray]:
        return self._per_class
