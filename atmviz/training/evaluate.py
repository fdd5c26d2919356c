"""Evaluation: the metrics of a task over exactly the images of a dataset, on any number of processes.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from atmviz.architecture import Architecture, Task
from atmviz.checkpoints import Checkpoint, WeightChoice, load_model, origin_of
from atmviz.data.classification import MEAN, STD, LabelledImages, Split, open_labelled
from atmviz.data.detection import DetectionImages, open_detection
from atmviz.data.loader import open_loader, read_batches
from atmviz.data.segmentation import SegmentationImages, open_segmentation
from atmviz.distributed import as_launched, join_processes
from atmviz.errors import AtmvizError, CheckpointError, DatasetError, join_limited
from atmviz.observe.hooks import find_sites, forward_to_sites, observing
from atmviz.observe.interventions import Intervention, edits_of
from atmviz.paper import printed_accuracies
from atmviz.processes import available_cores
from atmviz.training.metrics import DetectionMetric, SegmentationMetric, segmentation_scores

MULTI_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of Table 3's multi-scale column, as mmsegmentation has them
# What the best epoch has most of
HEADLINES: dict[Task, str] = {"classify": "top1", "segment": "miou", "detect": "box_ap"}


@dataclass(frozen=True)
class Evaluation:
    """What a network is worth on `images` images.

    Attributes:
        metrics: In percent, but for the loss. Classification: top1, top5, loss (mean cross entropy). Segmentation:
            miou, macc, aacc. Detection: box_ap, box_ap50, box_ap75, box_ap_small, box_ap_medium, box_ap_large, and as
            many of masks. NaN where nothing is there to be found.
        images: How many.
        confusion: [classes, classes], int64: true class of images or pixels by row, predicted by column; None where
            not asked for, and for detectors.
    """

    metrics: dict[str, float]
    images: int
    confusion: np.ndarray | None = None


@dataclass(frozen=True)
class Prediction:
    """One image, what is there and what was found, for drawing.

    Attributes:
        name: Of the image.
        classes: Names, by label.
        image: [H, W, 3], uint8.
        truth, found: Of a segmenter masks [H, W]; of a detector boxes [N, 4], labels [N], scores [N] of those found,
            and masks [N, H, W] where it draws them.
    """

    name: str
    classes: tuple[str, ...]
    image: np.ndarray
    truth: Any
    found: Any


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 64,
    workers: int = 0,
    limit: int | None = None,
    confusion: bool = False,
    flip: bool = False,
    rank: int = 0,
    world: int = 1,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_prediction: Callable[[Prediction], None] | None = None,
) -> Evaluation:
    """The metrics of a network on its device.

    Args:
        network: A classifier, a segmenter or a detector; put into evaluation mode meanwhile.
        dataset: Images of its kind.
        batch_size: Images per forward pass; images of other sizes pass one by one.
        workers: Processes that load images.
        limit: Only the first images.
        confusion: Count which class was taken for which.
        flip: Segment each view mirrored too, and average.
        rank, world: This process takes every world-th image, from its rank on; nothing is padded or repeated, and
            the metrics are over all processes.
        on_images: Called with (images done, images in all), of this process.
        on_prediction: Called with what a segmenter or detector made of each image.

    Raises:
        CheckpointError: the network has another number of classes than the dataset.
        DatasetError: an image cannot be read.
        AtmvizError: the COCO backend is not installed.
    """
    device = next(network.parameters()).device
    total = min(limit or len(dataset), len(dataset))  # type: ignore[arg-type]
    own = range(rank, total, world)
    judge: _Judge
    if isinstance(dataset, SegmentationImages):
        judge = _SegmentationJudge(dataset, device, flip)
    elif isinstance(dataset, DetectionImages):
        judge = _DetectionJudge(dataset, network)
    else:
        judge = _ClassificationJudge(len(dataset.classes), device, total, confusion)  # type: ignore[attr-defined]
    loader = open_loader(Subset(dataset, own), workers, list, batch_size=batch_size)
    was_training = network.training
    network.eval()
    done = 0
    for items in read_batches(loader):
        predictions = judge.update(network, items)
        for number, prediction in enumerate(predictions if on_prediction else ()):
            name = dataset.path(own[done + number])  # type: ignore[attr-defined]
            on_prediction(Prediction(name, dataset.classes, *judge.describe(*prediction)))  # type: ignore
        done += len(items)
        on_images(done, len(own))
    network.train(was_training)
    return Evaluation(judge.metrics(), total, judge.confusion() if confusion else None)


class _Judge:
    """Runs a network on a batch's items, and counts."""

    def update(self, network: nn.Module, items: Sequence[dict[str, Any]]) -> Sequence[tuple[Tensor, Any, Any]]:
        """Image, truth and prediction of each item; none of classifiers."""
        raise NotImplementedError

    def describe(self, image: Tensor, truth: Any, found: Any) -> tuple[np.ndarray, Any, Any]:
        """One of what `update` gave, as arrays."""
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        raise NotImplementedError

    def confusion(self) -> np.ndarray | None:
        return None


class _ClassificationJudge(_Judge):
    def __init__(self, classes: int, device: torch.device, total: int, confusion: bool) -> None:
        self.classes, self.total = classes, total
        self.top1 = MulticlassAccuracy(classes, average="micro").to(device)
        self.top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro").to(device)
        self.loss = MeanMetric(nan_strategy="disable").to(device)  # a NaN is shown, not left out
        self.matrix = MulticlassConfusionMatrix(classes).to(device) if confusion else None

    def update(self, network: nn.Module, items: Sequence[dict[str, Any]]) -> Sequence[tuple[Tensor, Any, Any]]:
        scores = forward_to_sites(network, torch.stack([item["image"] for item in items])).float()
        labels = torch.tensor([item["label"] for item in items], device=scores.device)
        _require_classes(scores.shape[1], self.classes)
        for metric in (self.top1, self.top5, *([self.matrix] if self.matrix else [])):
            metric.update(scores, labels)
        self.loss.update(nn.functional.cross_entropy(scores, labels, reduction="none"))
        return []

    def metrics(self) -> dict[str, float]:
        return {
            "top1": _percent(self.top1, self.total),
            "top5": _percent(self.top5, self.total),
            "loss": self.loss.compute().item(),
        }

    def confusion(self) -> np.ndarray | None:
        return self.matrix.compute().cpu().numpy() if self.matrix else None


class _SegmentationJudge(_Judge):
    def __init__(self, dataset: SegmentationImages, device: torch.device, flip: bool) -> None:
        self.classes, self.flip = len(dataset.classes), flip
        self.metric = SegmentationMetric(self.classes, device)

    def update(self, network: nn.Module, items: Sequence[dict[str, Any]]) -> Sequence[tuple[Tensor, Any, Any]]:
        alike = len({tuple(x.shape for x in (*item["views"], item["mask"])) for item in items}) == 1
        made = []
        for group in [items] if alike else [[item] for item in items]:
            views = [torch.stack(one) for one in zip(*(item["views"] for item in group), strict=True)]
            predicted = segment(network, views, group[0]["mask"].shape, self.flip, self.classes)
            self.metric.update(predicted, torch.stack([item["mask"] for item in group]).to(predicted.device))
            made += [(item["image"], item["mask"], one) for item, one in zip(group, predicted, strict=True)]
        return made

    def describe(self, image: Tensor, truth: Any, found: Any) -> tuple[np.ndarray, Any, Any]:
        return _pixels(image), truth.numpy(), found.cpu().numpy().astype(np.uint8)

    def metrics(self) -> dict[str, float]:
        return segmentation_scores(self.metric.confusion())

    def confusion(self) -> np.ndarray | None:
        return self.metric.confusion()


def segment(network: nn.Module, views: Sequence[Tensor], size: Sequence[int], flip: bool, classes: int) -> Tensor:
    """The most likely class of every pixel, [B, H, W], over views of the same images.

    Args:
        network: Gives scores [B, classes, h, w] of the size it gets.
        views: [B, 3, h, w] each, normalised, of any sizes.
        size: H and W.
        flip: Take each view mirrored too.
        classes: Expected.

    Raises:
        CheckpointError: the network has another number of classes.

    Source: mmsegmentation's test-time augmentation: probabilities at the size of the labels, averaged.
    """
    total: Any = 0
    for view in views:
        for mirrored in (False, True) if flip else (False,):
            scores = forward_to_sites(network, view.flip(-1) if mirrored else view).float()
            _require_classes(scores.shape[1], classes)
            scores = scores.flip(-1) if mirrored else scores
            if tuple(scores.shape[-2:]) != tuple(size):
                scores = nn.functional.interpolate(scores, tuple(size), mode="bilinear", align_corners=False)
            total = total + (scores.softmax(1) if len(views) > 1 or flip else scores)
    return total.argmax(1)


class _DetectionJudge(_Judge):
    def __init__(self, dataset: DetectionImages, network: nn.Module) -> None:
        self.dataset = dataset
        with_masks = hasattr(network, "roi_heads")
        self.metric = DetectionMetric(dataset.category_ids, dataset.classes, with_masks)

    def update(self, network: nn.Module, items: Sequence[dict[str, Any]]) -> Sequence[tuple[Tensor, Any, Any]]:
        parameter = next(network.parameters())
        found = network([item["image"].to(parameter.device, parameter.dtype) for item in items])
        for item, one in zip(items, found, strict=True):
            if len(one["labels"]) and int(one["labels"].max()) >= len(self.dataset.classes):
                _require_classes(int(one["labels"].max()) + 1, len(self.dataset.classes))
            self.metric.update(item["image_id"], tuple(item["image"].shape[-2:]), item["annotations"], one)
        return [(item["image"], item["annotations"], one) for item, one in zip(items, found, strict=True)]

    def describe(self, image: Tensor, truth: Any, found: Any) -> tuple[np.ndarray, Any, Any]:
        target = self.dataset.target(truth, tuple(image.shape[-2:]))  # type: ignore[arg-type]
        detected = {key: value.cpu() for key, value in found.items()}
        if "masks" in detected:
            detected["masks"] = detected["masks"][:, 0] >= 0.5
        else:
            target.pop("masks")
        true, found = ({key: value.numpy() for key, value in one.items()} for one in (target, detected))
        return _pixels(image), true, found

    def metrics(self) -> dict[str, float]:
        return self.metric.compute()


def _pixels(image: Tensor) -> np.ndarray:
    """[H, W, 3], uint8, of a normalised image [3, H, W]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (255 * (image * std + mean)).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()  # CHW -> HWC


def _require_classes(found: int, expected: int) -> None:
    if found != expected:
        raise CheckpointError(
            f"got a network of {found} classes for a dataset of {expected}: "
            "fine-tune it first (atmviz train --finetune), or choose its dataset"
        )


def _percent(accuracy: Metric, images: int) -> float:
    """The exact share of right answers: the metric's single precision gives their number back."""
    return 100 * round(accuracy.compute().item() * images) / images


@dataclass(frozen=True)
class CheckpointEvaluation:
    """What `evaluate_checkpoint` found.

    Attributes:
        row: What it prints.
        classes: Their names.
        evaluation: All numbers.
        paper: What the paper and the release print for the same, see `printed_accuracies`; empty where nothing fits.
    """

    row: dict[str, Any]
    classes: tuple[str, ...]
    evaluation: Evaluation
    paper: dict[str, dict[str, str]] = field(default_factory=dict)


@as_launched()
def evaluate_checkpoint(
    checkpoint: str | Path,
    *,
    weights: WeightChoice | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split: Split = "val",
    size: int | None = None,
    crop_pct: float | None = None,
    multi_scale: bool = False,
    offsets: Intervention = "learned",
    seed: int = 0,
    limit: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    confusion: bool = False,
    report: Callable[[str], None] = lambda text: None,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_prediction: Callable[[Prediction], None] | None = None,
) -> CheckpointEvaluation:
    """Load a network of any public layout and evaluate it; processes of one launcher share the images.

    Args:
        checkpoint, weights, device, report: See `load_model`.
        dataset, data_dir, split: See `open_labelled`, `open_segmentation`, `open_detection`; without a dataset, the one
            a run of this project trained on.
        size, crop_pct: Of the input; without them those of training, or as released: 224 px and 0.875 for classifiers,
            shorter sides of 512 and 800 px for segmenters and detectors, whose images stay whole.
        multi_scale: Segment at six scales from 0.5 to 1.75, each mirrored too.
        offsets, seed: See `observe.edits_of`.
        limit, batch_size, workers, confusion, on_images, on_prediction: See `evaluate`.

    Raises:
        CheckpointError, DatasetError, AtmvizError: see there; or an option that the network's task does not have.
    """
    state = join_processes(cpu=device == "cpu")
    target = str(state.device) if state.num_processes > 1 else device
    network = load_model(checkpoint, weights=weights, device=target, report=report if state.is_main_process else _quiet)
    origin = origin_of(network)
    task = Architecture.parse(origin.model).task
    _require_options(task, crop_pct=crop_pct, multi_scale=multi_scale, confusion=confusion, show=on_prediction)
    name = origin.about.get("dataset") if dataset is None else dataset
    if name is None:
        raise DatasetError(f"{checkpoint} does not say what it was trained on: name the --dataset to evaluate on")
    if dataset is None and name not in OFFLINE:
        raise DatasetError(
            f"{checkpoint} says that it was trained on {name!r}, which may be fetched from the network and so is yours "
            "to ask for: name it as --dataset"
        )
    size = size or origin.about.get("image_size", _RELEASED_SIZES[task])
    crop_pct = (crop_pct or origin.about.get("crop_pct", 0.875)) if task == "classify" else 1.0
    images = _open(task, network, name, split, size, data_dir, crop_pct, multi_scale)
    if isinstance(images, LabelledImages):
        images.number_as(origin.about.get("classes", ()))
    _require_learned_classes(origin, images.classes)
    for note in images.notes if state.is_main_process else ():
        report(note)
    sites = find_sites(network) if offsets != "learned" else []
    with observing(network, sites, edits_of(offsets, sites, seed)):
        found = evaluate(
            network,
            images,
            batch_size=batch_size or _BATCH_SIZES[task],
            workers=min(4, available_cores()) if workers is None else workers,
            limit=limit,
            confusion=confusion,
            flip=multi_scale,
            rank=state.process_index,
            world=state.num_processes,
            on_images=on_images,
            on_prediction=on_prediction,
        )
    row = {
        "checkpoint": str(checkpoint),
        "model": origin.model,
        "weights": origin.weights or ("untrained" if origin.seed is not None else "model"),
        "dataset": name,
        "split": split,
        "images": found.images,
        "size": size,
        **({"crop_pct": crop_pct} if task == "classify" else {}),
        **({"multi_scale": multi_scale} if task == "segment" else {}),
        "offsets": offsets,
        **found.metrics,
    }
    fits = split == "val" and offsets == "learned" and (task != "classify" or crop_pct == 0.875)
    paper = printed_accuracies(origin.model, origin.config, name, size, multi_scale) if fits else {}
    return CheckpointEvaluation(row, images.classes, found, paper)


OFFLINE = ("shapes", "digits", "imagenet", "folder", "ade20k", "coco")  # what a checkpoint may name by itself
_RELEASED_SIZES: dict[Task, int] = {"classify": 224, "segment": 512, "detect": 800}
_BATCH_SIZES: dict[Task, int] = {"classify": 64, "segment": 8, "detect": 4}


def _open(
    task: Task,
    network: Any,
    name: str,
    split: Split,
    size: int,
    data_dir: str | Path | None,
    crop_pct: float,
    multi_scale: bool,
) -> LabelledImages | SegmentationImages | DetectionImages:
    if task == "segment":
        return open_segmentation(name, split, size, data_dir=data_dir, scales=MULTI_SCALES if multi_scale else (1.0,))
    if task == "detect":
        network.transform.min_size = (size,)
        network.transform.max_size = max(network.transform.max_size, size)
        return open_detection(name, split, size, data_dir=data_dir)
    return open_labelled(name, split, size, data_dir=data_dir, crop_pct=crop_pct)


def _require_options(task: Task, **options: Any) -> None:
    """Raises AtmvizError for an option that this task has no use for."""
    known = {"classify": ["crop_pct", "confusion"], "segment": ["multi_scale", "confusion", "show"], "detect": ["show"]}
    if unknown := [name for name, value in options.items() if value and name not in known[task]]:
        flag = unknown[0].replace("_", "-")
        raise AtmvizError(f"got --{flag} for a network to {task}, which has no use for it: leave it out")


def _require_learned_classes(origin: Checkpoint, classes: tuple[str, ...]) -> None:
    learned = tuple(origin.about.get("classes", classes))
    count = origin.config.get("num_classes")
    if learned != classes:
        raise CheckpointError(
            f"got a network of the classes {join_limited(learned, 5)} for a dataset of {join_limited(classes, 5)}: "
            "fine-tune it first (atmviz train --finetune), or choose its dataset"
        )
    if count:
        _require_classes(count, len(classes))


def _quiet(text: str) -> None:
    pass
