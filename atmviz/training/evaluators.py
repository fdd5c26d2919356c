"""Evaluators: one per task, each runs a network on batches of a dataset and computes the task's metrics."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.detection import DetectionImages
from atmviz.data.segmentation import SegmentationImages
from atmviz.dense import predicts_masks
from atmviz.distributed import gather_in_turn
from atmviz.observe.hooks import forward_to_sites
from atmviz.statistics.paired import Overlaps, Right
from atmviz.training.detection_evaluator import DetectionEvaluator
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.evaluator import Evaluator, Item, pixels_of, require_classes


def open_evaluator(
    network: nn.Module, dataset: Any, total: int, settings: EvaluationSettings, by_image: bool = False
) -> Evaluator:
    """Return the evaluator for the images of a dataset, of which all processes evaluate `total`.

    Args:
        network: What is evaluated.
        dataset: Images with the labels of the network's task.
        total: Images over all processes.
        settings: How it is evaluated.
        by_image: Whether `outcomes` are asked for.
    """
    device = next(network.parameters()).device
    if isinstance(dataset, SegmentationImages):
        return SegmentationEvaluator(len(dataset.classes), device, settings.multi_scale, by_image)
    if isinstance(dataset, DetectionImages):
        return DetectionEvaluator(dataset, with_masks=predicts_masks(network))
    counts = settings.confusion or settings.per_class
    return ClassificationEvaluator(len(dataset.classes), device, total, counts, dataset.outputs)


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
        self._right: list[Tensor] = []

    def predict(self, network: nn.Module, items: Sequence[Item]) -> Tensor:  # type: ignore[override]
        """Return scores [B, classes]."""
        scores = forward_to_sites(network, torch.stack([item["image"] for item in items])).float()
        scores = scores if self.outputs is None else scores[:, self.outputs]
        require_classes(scores.shape[1], self.classes)
        return scores

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        scores = self.predict(network, items)
        labels = torch.tensor([item["label"] for item in items], device=scores.device)
        self._right.append(scores.argmax(1) == labels)
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

    def outcomes(self) -> Right:
        right = torch.cat(self._right).tolist() if self._right else []
        return Right(np.array(gather_in_turn(right), dtype=bool))


class SegmentationEvaluator(Evaluator):
    """Computes miou, macc and aacc in percent; pixels of label 255 count nowhere.

    Args:
        classes: Number of classes.
        device: Where the network is.
        flip: Segment each view mirrored too, and average.
        by_image: Count the pixels of each image for `outcomes`.
    """

    def __init__(
        self, classes: int, device: torch.device | str = "cpu", flip: bool = False, by_image: bool = False
    ) -> None:
        self.classes, self.flip, self.by_image = classes, flip, by_image
        self._counts: list[np.ndarray] = []
        self._matrix = MulticlassConfusionMatrix(classes, ignore_index=IGNORE_INDEX).to(device)

    def predict(self, network: nn.Module, items: Sequence[Item]) -> list[Tensor]:
        return [one for predicted, _ in self._segmented(network, items) for one in predicted]

    def update(self, network: nn.Module, items: Sequence[Item]) -> list[Tensor]:
        segmented: list[Tensor] = []
        for predicted, group in self._segmented(network, items):
            self.count(predicted, torch.stack([item["mask"] for item in group]).to(predicted.device))
            segmented += predicted
        return segmented

    def _segmented(self, network: nn.Module, items: Sequence[Item]) -> Iterator[tuple[Tensor, Sequence[Item]]]:
        """Yield the class of every pixel, [B, H, W], with its items: all at once where they have one size."""
        shapes = {tuple(x.shape for x in (*item["views"], item["mask"])) for item in items}
        for group in [items] if len(shapes) == 1 else [[item] for item in items]:
            views = [torch.stack(scale) for scale in zip(*(item["views"] for item in group), strict=True)]
            yield segment(network, views, group[0]["mask"].shape, self.flip, self.classes), group

    def count(self, predicted: Tensor, mask: Tensor) -> None:
        """Count predicted and true labels, both [H, W] or [B, H, W]."""
        self._matrix.update(predicted.flatten(), mask.long().flatten())
        for image in zip(predicted, mask.long(), strict=True) if self.by_image else ():
            claimed, true = (labels[image[1] != IGNORE_INDEX] for labels in image)
            counts = [torch.bincount(x, minlength=self.classes) for x in (true[true == claimed], true, claimed)]
            self._counts.append(torch.stack(counts).cpu().numpy())

    def describe(self, item: Item, predicted: Any) -> tuple[np.ndarray, Any, Any]:
        return pixels_of(item["image"]), item["mask"].numpy(), predicted.cpu().numpy().astype(np.uint8)

    def metrics(self) -> dict[str, float]:
        return segmentation_scores(self.confusion())

    def per_class(self) -> dict[str, np.ndarray]:
        return {name: 100 * values for name, values in class_fractions(self.confusion()).items()}

    def confusion(self) -> np.ndarray:
        return self._matrix.compute().cpu().numpy()

    def outcomes(self) -> Overlaps:
        both, true, claimed = np.stack(gather_in_turn(self._counts), axis=1)
        return Overlaps(both, true + claimed - both)


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
