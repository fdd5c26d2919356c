"""Evaluation of a checkpoint: what is open in the settings follows from it, then the metrics of its task."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from timm.data import ImageNetInfo
from torch import nn

from atmviz.architecture import Architecture, Task
from atmviz.checkpoints import Origin, load_model, origin_of
from atmviz.data.classification import LabeledImages, open_labeled
from atmviz.data.detection import DetectionImages, open_detection
from atmviz.data.segmentation import SegmentationImages, open_segmentation
from atmviz.distributed import as_launched, join_processes
from atmviz.errors import AtmvizError, CheckpointError, DatasetError, count, join_limited, require_type
from atmviz.events import QUIET, Events
from atmviz.observe.hooks import find_sites, observing
from atmviz.observe.interventions import edits_of
from atmviz.paper import printed_accuracies
from atmviz.processes import available_cores
from atmviz.settings import with_keywords
from atmviz.sources.datasets import DATASETS
from atmviz.training.evaluation import Evaluation, evaluate_network
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.evaluator import Prediction, require_classes

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
    require_type(settings, EvaluationSettings | None, "settings", "EvaluationSettings: name each setting by a keyword")
    settings = replace(settings or EvaluationSettings(), **changes)
    opened = open_evaluation(checkpoint, settings, events, draws=on_prediction is not None)
    network, settings = opened.network, opened.settings
    sites = find_sites(network) if settings.offsets != "learned" else []
    with observing(network, sites, edits_of(settings.offsets, sites, settings.seed)):
        evaluation = evaluate_network(network, opened.images, settings, events=events, on_prediction=on_prediction)
    paper = _printed(opened.origin, opened.task, settings)
    return EvaluationResult(
        **vars(evaluation), setup=opened.setup(evaluation.images), classes=opened.images.classes, paper=paper
    )


@dataclass(frozen=True)
class OpenEvaluation:
    """A network with the images to evaluate it on.

    Attributes:
        checkpoint: The file, or the name of the network.
        network: The network, on its device.
        origin: Where its weights came from.
        task: What it does.
        settings: Settings in which nothing is left open.
        images: The images, with the classes numbered as the network does.
    """

    checkpoint: str | Path
    network: nn.Module
    origin: Origin
    task: Task
    settings: EvaluationSettings
    images: LabeledImages | SegmentationImages | DetectionImages

    def setup(self, images: int) -> dict[str, Any]:
        """Return what is evaluated on what, of so many images."""
        settings = self.settings
        return {
            "checkpoint": str(self.checkpoint),
            "model": self.origin.model,
            "weights": self.origin.weights or ("untrained" if self.origin.seed is not None else "model"),
            **{name: getattr(settings, name) for name in ("dataset", "split")},
            "images": images,
            "size": settings.size,
            **{name: getattr(settings, name) for name in ("crop_pct", "multi_scale") if name in _SUPPORTED[self.task]},
            "offsets": settings.offsets,
        }


def open_evaluation(
    checkpoint: str | Path, settings: EvaluationSettings, events: Events = QUIET, *, draws: bool = False
) -> OpenEvaluation:
    """Load a network and open the images to evaluate it on, see `evaluate`; call it in `as_launched`.

    Args:
        checkpoint: See `evaluate`.
        settings: See `evaluate`.
        events: Receives messages.
        draws: Whether predictions are drawn, which classifiers do not support.
    """
    require_type(checkpoint, str | Path, "a checkpoint", "a file or a name (evaluate_network takes a loaded network)")
    if (best := Path(checkpoint) / "best.safetensors").is_file():
        checkpoint = best
    state = join_processes(cpu=settings.device == "cpu")
    notes = events if state.is_main_process else QUIET
    device = str(state.device) if state.num_processes > 1 else settings.device
    network = load_model(checkpoint, weights=settings.weights, device=device, events=notes)
    origin = origin_of(network)
    task = Architecture.parse(origin.model).task
    _require_supported(task, settings, draws)
    settings = _complete(settings, task, origin, checkpoint)
    images = open_images(task, settings)
    if isinstance(images, DetectionImages):
        resizing: Any = network.transform
        resizing.min_size, resizing.max_size = (settings.size,), max(resizing.max_size, settings.size)
    chosen = _match_classes(images, origin)
    for note in filter(None, [*images.notes, chosen]):
        notes.message(note)
    return OpenEvaluation(checkpoint, network, origin, task, settings, images)


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
