"""The metrics of a network over exactly the images of a dataset, on any number of processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from atmviz.data.loader import open_loader, read_batches
from atmviz.distributed import rank_and_world
from atmviz.events import QUIET, Events
from atmviz.statistics.paired import Outcomes
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.evaluator import Evaluator, Item, Prediction
from atmviz.training.evaluators import open_evaluator


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a network on a dataset.

    Attributes:
        metrics: In percent, except the loss. Classification: top1, top5, loss (mean cross entropy). Segmentation:
            miou, macc, aacc. Detection: box_ap, box_ap50, box_ap75, box_ap_small, box_ap_medium, box_ap_large, and
            the same of masks. NaN where the images have nothing to detect.
        images: Number of images.
        confusion: [classes, classes], int64: true class of images or pixels by row, predicted class by column; None
            where not asked for, and for detectors.
        per_class: Values of each class in percent by metric, empty where not asked for: top1; iou and acc; box_ap and
            mask_ap. NaN where the images have nothing of the class.
        outcomes: What an interval over images needs; None where not asked for.
    """

    metrics: dict[str, float]
    images: int
    confusion: np.ndarray | None = None
    per_class: dict[str, list[float]] = field(default_factory=dict)
    outcomes: Outcomes | None = None


@torch.inference_mode()
def evaluate_network(
    network: nn.Module,
    dataset: Dataset,
    settings: EvaluationSettings | None = None,
    *,
    events: Events = QUIET,
    on_prediction: Callable[[Prediction], None] | None = None,
    before_batch: Callable[[Evaluator], Any] | None = None,
    by_image: bool = False,
    **changes: Any,
) -> Evaluation:
    """Compute the metrics of a network on its device; joined processes share the images, none padded or repeated.

    Args:
        network: A classifier, a segmenter or a detector; put into evaluation mode meanwhile.
        dataset: Images with the labels of the network's task.
        settings: Only batch_size (default 64), workers (default 0), limit, confusion, per_class and multi_scale (which
            mirrors each view of a segmenter) are used. Images of different sizes pass one by one.
        events: Receives the number of this process's images that are done.
        on_prediction: Receives each image with its prediction; not called for classifiers.
        before_batch: Receives the evaluator before each batch.
        by_image: Keep the outcomes of images.
        changes: Settings that replace those of `settings`.

    Raises:
        CheckpointError: the network has another number of classes than the dataset.
        DatasetError: an image cannot be read.
        AtmvizError: the COCO backend is not installed.
    """
    settings = replace(settings or EvaluationSettings(), **changes)
    total = number_of_images(dataset, settings)
    indices = share_of(total)
    evaluator = open_evaluator(network, dataset, total, settings, by_image)
    was_training = network.training
    network.eval()
    done = 0
    for items in batches_of(dataset, indices, settings):
        if before_batch:
            before_batch(evaluator)
        predictions = evaluator.update(network, items)
        if on_prediction:
            for index, item, predicted in zip(indices[done:], items, predictions, strict=False):
                name = Path(dataset.source.name(index)).with_suffix("").as_posix()  # type: ignore[attr-defined]
                arrays = evaluator.describe(item, predicted)
                on_prediction(Prediction(name, dataset.classes, *arrays))  # type: ignore[attr-defined]
        done += len(items)
        events.images(done, len(indices))
    network.train(was_training)
    metrics = evaluator.metrics()
    by_class = {name: values.tolist() for name, values in evaluator.per_class().items()} if settings.per_class else {}
    confusion, outcomes = (
        evaluator.confusion() if settings.confusion else None,
        evaluator.outcomes() if by_image else None,
    )
    return Evaluation(metrics, total, confusion, by_class, outcomes)


def number_of_images(dataset: Any, settings: EvaluationSettings) -> int:
    """Return how many images are evaluated, by all processes."""
    return min(settings.limit or len(dataset), len(dataset))


def share_of(total: int) -> range:
    """Return the images of this process."""
    rank, world = rank_and_world()
    return range(rank, total, world)


def batches_of(dataset: Dataset, indices: Sequence[int], settings: EvaluationSettings) -> Iterator[list[Item]]:
    """Yield images of a dataset in batches."""
    batch_size = settings.batch_size or 64
    yield from read_batches(open_loader(Subset(dataset, indices), settings.workers or 0, list, batch_size=batch_size))
