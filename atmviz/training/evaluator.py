"""What the evaluators of all tasks share: a network runs on batches of a dataset, metrics follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atmviz.data.fitting import MEAN, STD
from atmviz.errors import CheckpointError
from atmviz.statistics.paired import Outcomes

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

    def predict(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        """Return the prediction for each item of a batch, without counting it."""
        raise NotImplementedError

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

    def outcomes(self) -> Outcomes:
        """Return what an interval over images needs, of all processes, in order of the images."""
        raise NotImplementedError


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
