"""Classification: top-1, top-5, cross entropy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from atmviz.observe.hooks import forward_to_sites
from atmviz.training.evaluators.base import Evaluator, Item, require_classes


class ClassificationEvaluator(Evaluator):
    """Computes top1 and top5 in percent, and loss, the mean cross entropy.

    Args:
        classes: Number of classes.
        device: Where the network is.
        total: Images over all processes.
        confusion: Count which class is taken for which.
    """

    def __init__(self, classes: int, device: torch.device, total: int, confusion: bool) -> None:
        self.classes, self.total = classes, total
        self.top1 = MulticlassAccuracy(classes, average="micro").to(device)
        self.top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro").to(device)
        self.loss = MeanMetric(nan_strategy="disable").to(device)  # shows a NaN instead of leaving it out
        self.matrix = MulticlassConfusionMatrix(classes).to(device) if confusion else None

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        scores = forward_to_sites(network, torch.stack([item["image"] for item in items])).float()
        labels = torch.tensor([item["label"] for item in items], device=scores.device)
        require_classes(scores.shape[1], self.classes)
        for metric in (self.top1, self.top5, *([self.matrix] if self.matrix else [])):
            metric.update(scores, labels)
        self.loss.update(nn.functional.cross_entropy(scores, labels, reduction="none"))
        return []

    def metrics(self) -> dict[str, float]:
        top1, top5 = self._percent(self.top1), self._percent(self.top5)
        return {"top1": top1, "top5": top5, "loss": self.loss.compute().item()}

    def _percent(self, accuracy: Metric) -> float:
        """Return the exact percentage: single precision suffices for the number of right answers."""
        return 100 * round(accuracy.compute().item() * self.total) / self.total

    def confusion(self) -> np.ndarray | None:
        return self.matrix.compute().cpu().numpy() if self.matrix else None
