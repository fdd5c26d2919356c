"""Semantic segmentation: mIoU, mean and overall pixel accuracy, from one confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from atmviz.architecture import IGNORE_INDEX
from atmviz.observe.hooks import forward_to_sites
from atmviz.training.evaluators.base import Evaluator, Item, pixels_of, require_classes


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
    matrix = confusion.astype(np.float64)
    right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        iou, accuracy = right / (true + predicted - right), right / true
    means = [np.nanmean(values) if np.isfinite(values).any() else np.nan for values in (iou, accuracy)]
    overall = right.sum() / true.sum() if true.sum() else np.nan
    return {name: 100 * float(value) for name, value in zip(("miou", "macc", "aacc"), (*means, overall), strict=True)}
