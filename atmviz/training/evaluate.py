"""Evaluation: the metrics of a task over exactly the images of a dataset, on any number of processes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import ImageNetInfo
from torch import nn
from torch.utils.data import Dataset, Subset

from atmviz.architecture import Architecture, Task
from atmviz.checkpoints import Origin, load_model, origin_of
from atmviz.data.classification import LabeledImages, open_labeled
from atmviz.data.detection import DetectionImages, open_detection
from atmviz.data.loader import open_loader, read_batches
from atmviz.data.segmentation import SegmentationImages, open_segmentation
from atmviz.distributed import as_launched, join_processes, rank_and_world
from atmviz.errors import AtmvizError, CheckpointError, DatasetError, count, join_limited, require_type
from atmviz.events import QUIET, Events
from atmviz.observe.hooks import find_sites, observing
from atmviz.observe.interventions import edits_of
from atmviz.paper import printed_accuracies
from atmviz.processes import available_cores
from atmviz.settings import with_keywords
from atmviz.sources.datasets import DATASETS
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.evaluators import Prediction, open_evaluator, require_classes

MULTI_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # Table 3's multi-scale column; mmsegmentation's scales
# The metric that decides which epoch is best
HEADLINES: dict[Task, str] = {"classify": "top1", "segment": "miou", "detect": "box_ap"}
# Datasets that are never fetched from the network, so that a checkpoint may name them
OFFLINE = (*DATASETS, "folder")
_RELEASED_SIZES: dict[Task, int] = {"classify": 224, "segment": 512, "detect": 800}
_BATCH_SIZES: dict[Task, int] = {"classify": 64, "segment": 8, "detect": 4}
# Settings, and what else is asked for, that not all tasks support
_SUPPORTED: dict[Task, tuple[str, ...]] = {
    "classify": ("crop_pct", "confusion"),
    "segment": ("multi_scale", "confusion", "drawing predictions"),
    "detect": ("drawing predictions",),
}
_NETWORKS: dict[Task, str] = {"classify": "classifiers", "segment": "segmenters", "detect": "detectors"}


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
    """

    metrics: dict[str, float]
    images: int
    confusion: np.ndarray | None = None
    per_class: dict[str, list[float]] = field(default_factory=dict)


@torch.inference_mode()
def evaluate_network(
    network: nn.Module,
    dataset: Dataset,
    settings: EvaluationSettings | None = None,
    *,
    events: Events = QUIET,
    on_prediction: Callable[[Prediction], None] | None = None,
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
        changes: Settings that replace those of `settings`.

    Raises:
        CheckpointError: the network has another number of classes than the dataset.
        DatasetError: an image cannot be read.
        AtmvizError: the COCO backend is not installed.
    """
    settings = replace(settings or EvaluationSettings(), **changes)
    total = min(settings.limit or len(dataset), len(dataset))  # type: ignore[arg-type]
    rank, world = rank_and_world()
    indices = range(rank, total, world)
    evaluator = open_evaluator(network, dataset, total, settings)
    loader = open_loader(Subset(dataset, indices), settings.workers or 0, list, batch_size=settings.batch_size or 64)
    was_training = network.training
    network.eval()
    done = 0
    for items in read_batches(loader):
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
    return Evaluation(metrics, total, evaluator.confusion() if settings.confusion else None, by_class)


@dataclass(frozen=True, kw_only=True)
class EvaluationResult(Evaluation):
    """What `evaluate` returns.

    Attributes:
        setup: What was evaluated on what: checkpoint, model, weights, dataset, split, images, size, ..., offsets.
        classes: Class names.
        paper: Values that the paper and the release print for the same setup, by source and metric, see
            `printed_accuracies`; empty where nothing is comparable.
    """

    setup: dict[str, Any]
    classes: tuple[str, ...]
    paper: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any]:
        """Setup and metrics as one row of a table."""
        return {**self.setup, **self.metrics}

    @property
    def class_rows(self) -> list[dict[str, Any]]:
        """The values of each class as a row with its name; none where they were not asked for."""
        values = zip(*self.per_class.values(), strict=True)
        named = zip(self.classes, values, strict=True) if self.per_class else ()
        return [{"class": name, **dict(zip(self.per_class, row, strict=True))} for name, row in named]

    @property
    def title(self) -> str:
        """What was evaluated on what, as the title of a figure."""
        return "{model}, {dataset} {split}, ".format(**self.setup) + count(self.images, "image")


@with_keywords(EvaluationSettings)
@as_launched()
def evaluate(
    checkpoint: str | Path = "atmnet_nano.shapes",
    settings: EvaluationSettings | None = None,
    *,
    events: Events = QUIET,
    on_prediction: Callable[[Prediction], None] | None = None,
    **changes: Any,
) -> EvaluationResult:
    """Load a network of any public layout and evaluate it; processes of one launcher share the images.

    Args:
        checkpoint: A checkpoint file, the folder of a run, whose best weights are taken, or the name of a bundled
            checkpoint or of a variant, see `load_model`.
        settings: Dataset, input size, weights, ...; without a dataset, the one a run of this project trained on. Sizes
            default to those of training, else to the release's: 224 px crops at crop_pct 0.875 for classifiers,
            shorter sides of 512 and 800 px for segmenters and detectors, whose images stay whole.
        events: Receives messages and the number of images that are done.
        on_prediction: Receives each image with its prediction; segmenters and detectors only.
        changes: Settings that replace those of `settings`, e.g. `dataset="shapes", limit=100`.

    Returns:
        Metrics, number of images, what was evaluated, and the paper's values of the same setup.

    Raises:
        SettingsError: an argument of another type or outside its range.
        CheckpointError: the file cannot be read, or its classes are not those of the dataset.
        DatasetError: the dataset is unknown or cannot be read.
        AtmvizError: the network's task does not support a setting.
    """
    require_type(checkpoint, str | Path, "a checkpoint", "a file or a name (evaluate_network takes a loaded network)")
    require_type(settings, EvaluationSettings | None, "settings", "EvaluationSettings: name each setting by a keyword")
    settings = replace(settings or EvaluationSettings(), **changes)
    if (best := Path(checkpoint) / "best.safetensors").is_file():
        checkpoint = best
    state = join_processes(cpu=settings.device == "cpu")
    notes = events if state.is_main_process else QUIET
    device = str(state.device) if state.num_processes > 1 else settings.device
    network = load_model(checkpoint, weights=settings.weights, device=device, events=notes)
    origin = origin_of(network)
    task = Architecture.parse(origin.model).task
    _require_supported(task, settings, on_prediction is not None)
    settings = _complete(settings, task, origin, checkpoint)
    images = open_images(task, settings)
    if isinstance(images, DetectionImages):
        resizing: Any = network.transform
        resizing.min_size, resizing.max_size = (settings.size,), max(resizing.max_size, settings.size)
    chosen = _match_classes(images, origin)
    for note in filter(None, [*images.notes, chosen]):
        notes.message(note)
    sites = find_sites(network) if settings.offsets != "learned" else []
    with observing(network, sites, edits_of(settings.offsets, sites, settings.seed)):
        evaluation = evaluate_network(network, images, settings, events=events, on_prediction=on_prediction)
    setup = _setup(checkpoint, origin, task, settings, evaluation.images)
    paper = _printed(origin, task, settings)
    return EvaluationResult(**vars(evaluation), setup=setup, classes=images.classes, paper=paper)


def _require_supported(task: Task, settings: EvaluationSettings, draws: bool) -> None:
    given = {name: getattr(settings, name) for name in ("crop_pct", "multi_scale", "confusion")}
    given["drawing predictions"] = draws
    if unsupported := [name for name, value in given.items() if value and name not in _SUPPORTED[task]]:
        raise AtmvizError(f"{unsupported[0]} is not supported for {_NETWORKS[task]}: leave it out")


def _complete(settings: EvaluationSettings, task: Task, origin: Origin, checkpoint: str | Path) -> EvaluationSettings:
    """Return the settings with what was left open filled in, from the checkpoint's training where it says so."""
    name = origin.training_info.get("dataset") if settings.dataset is None else settings.dataset
    if name is None:
        raise DatasetError(f"{checkpoint} does not say what it was trained on: name the dataset to evaluate on")
    if settings.dataset is None and name not in OFFLINE:
        raise DatasetError(
            f"{checkpoint} says that it was trained on {name!r}, which may be fetched from the network: "
            "name that dataset yourself to allow it"
        )
    crop_pct = settings.crop_pct or origin.training_info.get("crop_pct", 0.875)
    return replace(
        settings,
        dataset=name,
        size=settings.size or origin.training_info.get("image_size", _RELEASED_SIZES[task]),
        crop_pct=crop_pct if task == "classify" else None,
        batch_size=settings.batch_size or _BATCH_SIZES[task],
        workers=min(4, available_cores()) if settings.workers is None else settings.workers,
    )


def open_images(task: Task, settings: EvaluationSettings) -> LabeledImages | SegmentationImages | DetectionImages:
    """Open the images of complete settings, with the labels of a task.

    Raises:
        DatasetError: the dataset is unknown or cannot be read.
    """
    name, split, size, data_dir = str(settings.dataset), settings.split, int(settings.size or 0), settings.data_dir
    if task == "segment":
        scales = MULTI_SCALES if settings.multi_scale else (1.0,)
        return open_segmentation(name, split, size, data_dir=data_dir, scales=scales)
    if task == "detect":
        return open_detection(name, split, size, data_dir=data_dir)
    return open_labeled(name, split, size, data_dir=data_dir, crop_pct=settings.crop_pct or 1.0)


def _setup(
    checkpoint: str | Path, origin: Origin, task: Task, settings: EvaluationSettings, images: int
) -> dict[str, Any]:
    return {
        "checkpoint": str(checkpoint),
        "model": origin.model,
        "weights": origin.weights or ("untrained" if origin.seed is not None else "model"),
        "dataset": settings.dataset,
        "split": settings.split,
        "images": images,
        "size": settings.size,
        **{name: getattr(settings, name) for name in ("crop_pct", "multi_scale") if name in _SUPPORTED[task]},
        "offsets": settings.offsets,
    }


def _match_classes(images: LabeledImages | SegmentationImages | DetectionImages, origin: Origin) -> str:
    """Number a dataset's classes as a network does; return a line for people if the network knows more classes.

    Raises:
        CheckpointError: the network does not know these classes.
        DatasetError: see `LabeledImages.choose_outputs`.
    """
    classes, num_classes = origin.training_info.get("classes", ()), origin.config.get("num_classes")
    if isinstance(images, LabeledImages):
        images.number_as(classes)
        synsets = ImageNetInfo().label_names()
        learned = classes or synsets  # in the order of the released classifiers
        if num_classes == len(synsets) and sorted(learned) == synsets:
            note = images.choose_outputs(learned)
            if images.outputs:
                return note
    if classes and tuple(classes) != images.classes:
        raise CheckpointError(
            f"got a network of the classes {join_limited(classes, 5)} for a dataset of "
            f"{join_limited(images.classes, 5)}: "
            "fine-tune it on this dataset first, or evaluate it on the one that it was trained on"
        )
    if num_classes:
        require_classes(num_classes, len(images.classes))
    return ""


def _printed(origin: Origin, task: Task, settings: EvaluationSettings) -> dict[str, dict[str, str]]:
    """Return the paper's values where the setup is that of the paper."""
    is_released_crop = task != "classify" or settings.crop_pct == 0.875
    if settings.split != "val" or settings.offsets != "learned" or not is_released_crop:
        return {}
    size = int(settings.size or 0)
    return printed_accuracies(origin.model, origin.config, str(settings.dataset), size, settings.multi_scale)
