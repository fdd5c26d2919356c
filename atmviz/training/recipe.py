"""Recipes: every setting of a training run, and which of them fit together. Torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, Literal

import yaml

from atmviz.architecture import (
    BOX_SAMPLES,
    CROP_RANGE,
    FORMER_NAMES,
    HEAD_TASKS,
    NETWORK_OPTIONS,
    PYRAMID_DIM,
    RANGES,
    Architecture,
    FusionMode,
    Head,
    Neck,
    OffsetMode,
    Task,
)
from atmviz.errors import RecipeError, SettingsError, nearest, shorten
from atmviz.geometry import MIN_SIZE_PX
from atmviz.settings import Settings, settings_under
from atmviz.sources.datasets import require_dataset
from atmviz.variants import VARIANTS

# Settings that only some kinds of training read
_CLASSIFIER_ONLY = (
    *("crop_scale_min", "color_jitter", "auto_augment", "random_erasing", "mixup", "cutmix", "label_smoothing"),
    *("repeated_augmentation", "pixel_weight"),
)
_DENSE_ONLY = ("neck", "dim")
_ATM_ONLY = (*NETWORK_OPTIONS, "init")
_SEGMENTER_ONLY = ("scale_min", "scale_max", "photometric")
_DETECTOR_ONLY = ("short_side_min", "long_side", "box_samples")
DENSE_SETTINGS = ("head", *_DENSE_ONLY, *_SEGMENTER_ONLY, *_DETECTOR_ONLY)
_FOREIGN: dict[Task, tuple[str, ...]] = {
    "classify": (*_DENSE_ONLY, *_SEGMENTER_ONLY, *_DETECTOR_ONLY),
    "segment": (*_CLASSIFIER_ONLY, *_DETECTOR_ONLY),
    "detect": (*_CLASSIFIER_ONLY, *_SEGMENTER_ONLY),
}
_SIDES = RANGES["image_size"]  # px
REQUIRED = "required"
"""Value of a setting that a recipe leaves to the user."""
SCHEDULE_SETTINGS = ("epochs", "warmup_epochs", "cooldown_epochs", "decay_epochs")
"""Settings that say how long a run is and where in it the learning rate changes."""

_data, _augment, _dense = map(settings_under, ("Data", "Augmentation", "Dense prediction"))
_model, _optimize, _run = map(settings_under, ("Model", "Optimization", "Run"))


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of a training run; the defaults train without augmentation at a constant image size.

    Raises:
        RecipeError: a value is out of range, or settings do not fit together.
        SettingsError: no dataset of this name has labels for the task.

    Source: Table 9 and Sec. 4.1 to 4.3, whose values are in `recipes/imagenet1k.yaml` and its neighbors.
    """

    dataset: str = _data("shapes", "shapes, digits, imagenet, folder or a timm reader such as hfds/NAME; ade20k; coco.")
    data_dir: str | None = _data(
        None, "Dataset folder; default: $ATMVIZ_DATA, else ./data.", flags=("--data-dir", "--data-path")
    )
    image_size: int = _data(128, "Input size in px: side of the square, or shorter side of whole images.", *_SIDES)
    crop_pct: float = _data(0.875, "Fraction of the resized image that evaluation crops.", *CROP_RANGE)
    train_images: int | None = _data(None, "Images per epoch, a new draw each epoch; default: all.", 1, 10**9)
    val_images: int | None = _data(None, "Validation images; default: all.", 1, 10**9)

    crop_scale_min: float = _augment(1.0, "Smallest fraction of the image area in a random crop; 1 turns it off.", 0, 1)
    hflip: float = _augment(0.0, "Probability of a horizontal flip.", 0, 1)
    color_jitter: float = _augment(0.0, "Strength of color jitter; timm ignores it with auto_augment.", 0, 10)
    auto_augment: str = _augment("none", "timm policy, e.g. rand-m9-mstd0.5-inc1, or none.")
    random_erasing: float = _augment(0.0, "Probability of erasing a rectangle.", 0, 1)
    erase_mode: Literal["pixel", "rand", "const"] = _augment("pixel", "Content of an erased rectangle.")
    mixup: float = _augment(0.0, "Mixup's alpha.", 0, 100)
    cutmix: float = _augment(0.0, "CutMix's alpha; with mixup, each batch uses one of the two.", 0, 100)
    label_smoothing: float = _augment(0.0, "Label weight spread over the other classes.", 0, 0.99)
    repeated_augmentation: int = _augment(1, "Differently augmented copies of an image per epoch.", 1, 100)

    scale_min: float = _dense(1.0, "Segmentation: smallest scale of the image before the crop.", 0.05, 20)
    scale_max: float = _dense(1.0, "Segmentation: largest scale of the image before the crop.", 0.05, 20)
    photometric: float = _dense(0.0, "Segmentation: probability of each color change.", 0, 1)
    short_side_min: int | None = _dense(
        None, "Detection: draw the shorter side from here to image_size, by 32 px.", *_SIDES
    )
    long_side: int = _dense(1333, "Detection: largest longer side in px.", MIN_SIZE_PX, 8192)
    head: Head | None = _dense(None, "Segmentation or detection head; a classifier without it.")  # noqa: RUF009
    neck: Neck = _dense("fpn", "Neck between backbone and head.")  # noqa: RUF009
    dim: int = _dense(PYRAMID_DIM, "Channels of the feature pyramid; head widths scale with it.", *RANGES["dim"])
    box_samples: int = _dense(
        BOX_SAMPLES, "Mask R-CNNs: proposals per image that the box head learns from.", *RANGES["box_samples"]
    )

    model: str = _model("atmnet_nano", f"One of {', '.join(VARIANTS)}; with a head also a timm backbone.")
    offset_mode: OffsetMode = _model("decoupled", "How offsets are generated: Table 8 and Fig. 2, A.")  # noqa: RUF009
    num_samples: int = _model(1, "Tokens sampled per channel and direction; 3 in Fig. 2, B.", *RANGES["num_samples"])
    channels_per_offset: int | None = _model(
        None, "Channels per offset; default: the variant's; 1 in Fig. 2.", *RANGES["channels_per_offset"]
    )
    fusion: FusionMode = _model(  # noqa: RUF009
        "image", "Fusion weights per image (released) or per token, or Eq. (4) as printed."
    )
    peg: bool = _model(True, "Use positional encoding generators.")
    drop_path: float | None = _model(None, "Stochastic depth rate; default: the variant's (Table 9).", 0, 0.99)
    init: Literal["released", "fan_in"] = _model(
        "released", "Weight initialization; fan_in suits widths under 100 channels."
    )
    finetune: str | None = _model(
        None, "Checkpoint to start from; with a head also a classifier's, for the backbone alone."
    )
    finetune_weights: Literal["ema", "model"] = _model(
        "ema", "Weights of that checkpoint: averaged if it has them, or model."
    )
    pixel_weight: float = _model(0.0, "Weight of the per-pixel label loss (shapes only).", 0, 1000)

    epochs: int = _optimize(10, "Number of epochs, warm-up included, cooldown not.", 1, 10**6)
    warmup_epochs: float = _optimize(0.0, "Epochs of linear learning rate warm-up.", 0, 10**6)
    cooldown_epochs: int = _optimize(0, "Additional epochs at min_lr.", 0, 10**6)
    batch_size: int = _optimize(32, "Images per update, over all processes.", 1, 10**6)
    accumulate: int = _optimize(1, "Forward passes per update.", 1, 10**6)
    optimizer: str = _optimize("adamw", "timm's name of an optimizer.")
    lr: float = _optimize(1e-3, "Peak learning rate for lr_batch_size images per update.", 0, 1000)
    lr_batch_size: int | None = _optimize(
        None, "Scale the learning rate by batch_size / this; default: do not scale.", 1, 10**6
    )
    schedule: Literal["cosine", "poly", "step"] = _optimize("cosine", "Learning rate schedule.")
    poly_power: float = _optimize(1.0, "Power of the poly schedule.", 0, 100)
    decay_epochs: tuple[float, ...] = _optimize(
        (), "Epochs after which the step schedule divides the learning rate by 10, e.g. 8,11."
    )
    warmup_lr: float = _optimize(1e-6, "Learning rate at the start of the warm-up.", 0, 1000)
    min_lr: float = _optimize(1e-5, "Final learning rate of the cosine and poly schedules.", 0, 1000)
    lr_steps: Literal["update", "epoch"] = _optimize("update", "How often the learning rate changes.")
    weight_decay: float = _optimize(0.05, "Weight decay of the parameters that `decay` selects.", 0, 1000)
    decay: Literal["no_1d", "no_norm", "all"] = _optimize(
        "no_1d",
        "Parameters with weight decay: no_1d spares norms, biases and PEG (released classifiers), no_norm the norms "
        "(released segmentation code).",
    )
    clip_grad: float = _optimize(0.0, "Largest gradient norm; 0 turns clipping off.", 0, 10**6)
    ema_decay: float = _optimize(0.0, "Decay of the averaged weights; 0 keeps none.", 0, 1)

    precision: Literal["fp32", "bf16", "fp16"] = _run("fp32", "Precision of the forward pass.")
    compile: bool = _run(False, "Compile the training step with torch.compile.")
    seed: int = _run(0, "Seed of weights, order, augmentation and synthetic images.", 0, 2**32 - 1)
    save_updates: int = _run(500, "Updates between saves; the end of an epoch saves too.", 1, 10**9)
    workers: int = _run(2, "Image loading processes per training process.", 0, 256)

    _error = RecipeError

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.head and self.model not in VARIANTS:
            known = f"{', '.join(VARIANTS)}{nearest(self.model, VARIANTS)}"
            raise RecipeError(f"got model {self.model!r}, expected one of {known}")
        require_dataset(self.dataset, self.task)
        checks = (self._batches, self._unread, self._unsupported, self._epochs, self._sizes, self._offsets)
        for conflict in chain.from_iterable(check() for check in checks):
            raise RecipeError(conflict)

    # Each check yields what is wrong with settings of one kind.

    def _batches(self) -> Iterator[str]:
        per_pass, rest = divmod(self.batch_size, self.accumulate)
        if rest:
            yield f"got batch_size {self.batch_size} in {self.accumulate} passes: it must divide evenly"
        if per_pass % 2 and (self.mixup or self.cutmix):
            yield f"got batches of {per_pass} with mixup or cutmix: expected an even number"
        if per_pass == 1 and self.head == "upernet":
            yield (
                "got passes of one image for upernet, whose batch norms need several: "
                "expected batch_size twice accumulate or more"
            )

    def _unread(self) -> Iterator[str]:
        """Settings that this kind of training does not read."""
        changed = [declared.name for declared in fields(self) if getattr(self, declared.name) != declared.default]
        if unread := [name for name in changed if name in _FOREIGN[self.task]]:
            leave_out = f"start from a recipe to {self.task}, or leave it out"
            remedy = leave_out if self.head else f"set head ({', '.join(HEAD_TASKS)}) too"
            yield f"got {', '.join(unread)}, not supported for {self.head or 'classifiers'}: {remedy}"
        of_atm = [name for name in changed if name in _ATM_ONLY]
        if of_atm and self.model not in VARIANTS:
            yield f"got {', '.join(of_atm)} for {self.model}, which has no ATM layers: leave it out"
        if self.finetune is None and "finetune_weights" in changed:
            yield f"got finetune_weights {self.finetune_weights} without a file: set finetune too"

    def _unsupported(self) -> Iterator[str]:
        if self.task == "detect" and self.compile:
            yield "got compile, not supported for detectors, whose heads compile anew for every image: turn it off"
        if self.pixel_weight and (self.dataset != "shapes" or self.augments):
            yield (
                f"got pixel_weight for dataset {self.dataset}, expected shapes without augmentation: "
                "set pixel_weight to 0, or choose another recipe"
            )

    def _epochs(self) -> Iterator[str]:
        warmup, decay = f"{self.warmup_epochs:g}", list(self.decay_epochs)
        if self.warmup_epochs >= self.epochs:
            yield f"got {warmup} warm-up epochs of {self.epochs}: expected fewer than epochs, e.g. warmup_epochs 0"
        if bool(decay) != (self.schedule == "step"):
            yield (
                f"got schedule {self.schedule} with decay_epochs {decay}, expected decay_epochs for step only: "
                "set them, e.g. 8,11, or choose schedule cosine without any"
            )
        if decay != sorted({epoch for epoch in decay if 0 < epoch < self.epochs and epoch >= self.warmup_epochs}):
            yield (
                f"got decay_epochs {decay} of {self.epochs} epochs, {warmup} of them warm-up: "
                "expected rising ones between warm-up and end, or schedule cosine without any"
            )

    def _sizes(self) -> Iterator[str]:
        if self.pixel_weight and self.image_size % 32:
            yield f"got pixel_weight with image_size {self.image_size}: expected a multiple of 32"
        if self.scale_min > self.scale_max:
            yield f"got scales from {self.scale_min:g} to {self.scale_max:g}: expected scale_max as large"
        low, high, longest = self.short_side_min or self.image_size, self.image_size, self.long_side
        if self.task == "detect" and not low <= high <= longest:
            yield f"got shorter sides of {low} to {high} px, longer ones up to {longest}: expected them rising"

    def _offsets(self) -> Iterator[str]:
        is_zero, shared = self.offset_mode == "zero", self.channels_per_offset
        if is_zero and self.num_samples > 1:
            yield "got offset_mode zero with several samples, which would all be one token: expected 1"
        if is_zero and shared:
            yield "got offset_mode zero with channels_per_offset, but there are no offsets to share: leave it out"
        dims = VARIANTS[self.model].dims if self.model in VARIANTS else ()
        if shared and any(dim % shared for dim in dims):
            yield f"got channels_per_offset {shared} for {self.model}, expected a divisor of its {dims} channels"

    @property
    def architecture(self) -> Architecture:
        """The architecture that the recipe trains."""
        return Architecture(self.model, self.head, self.neck)

    @property
    def task(self) -> Task:
        """What the network learns."""
        return self.architecture.task

    @property
    def augments(self) -> bool:
        """Whether training images change between epochs."""
        strengths = (self.hflip, self.color_jitter, self.random_erasing, self.mixup, self.cutmix)
        return self.crop_scale_min < 1 or self.auto_augment != "none" or any(strengths)

    @property
    def all_epochs(self) -> int:
        """Number of epochs, cooldown included."""
        return self.epochs + self.cooldown_epochs

    @property
    def scaled_lr(self) -> float:
        """Peak learning rate for this batch size."""
        return self.lr * self.batch_size / (self.lr_batch_size or self.batch_size)

    @property
    def drop_path_rate(self) -> float:
        """Stochastic depth; by default that of the variant for this task."""
        if self.drop_path is None:
            return VARIANTS[self.model].drop_path_rates[self.task] if self.model in VARIANTS else 0.0
        return self.drop_path

    def override(self, values: Mapping[str, Any]) -> "Recipe":
        """Return this recipe with other values.

        Raises:
            RecipeError: a setting is unknown, or a value has the wrong type or range.
        """
        known = [declared.name for declared in fields(self)]
        if unknown := [shorten(str(key)) for key in values if key not in known]:
            raise RecipeError(
                f"no recipe setting {unknown[0]!r}: a printed recipe lists them all{nearest(unknown[0], known)}"
            )
        return replace(self, **values)

    def shrunk_schedule(self, epochs: int) -> dict[str, Any]:
        """Return the settings of the learning rate schedule for fewer epochs: in proportion where it does not fit them.

        Settings that stay as they are are left out.
        """
        lengths = (self.warmup_epochs, self.cooldown_epochs, *self.decay_epochs)
        if epochs >= self.epochs or max(lengths) < epochs:
            return {}
        ratio = epochs / self.epochs
        shrunk = {
            # A rate that changes once an epoch would stay at warmup_lr for the whole of a part of one
            "warmup_epochs": round(self.warmup_epochs * ratio, 3 if self.lr_steps == "update" else None),
            "cooldown_epochs": round(self.cooldown_epochs * ratio),
            "decay_epochs": tuple(round(epoch * ratio, 3) for epoch in self.decay_epochs),
        }
        return {name: value for name, value in shrunk.items() if value != getattr(self, name)}

    @classmethod
    def from_stored(cls, values: Mapping[Any, Any]) -> "Recipe":
        """Return a recipe from the settings of a file, which may use former names; raises as `override`."""
        return cls().override(with_todays_names(values))

    def differences(self, other: "Recipe") -> list[str]:
        """Return the settings that differ and change the result, as `key: value here, value there`."""
        return [
            f"{key}: {value} here, {theirs} there"
            for (key, value), theirs in zip(asdict(self).items(), asdict(other).values(), strict=True)
            if value != theirs and key not in ("workers", "save_updates", "data_dir")
        ]

    def to_yaml(self) -> str:
        """Return all settings as YAML, one commented line each; `read_recipe` reads it back.

        The comments of settings that the recipe leaves to the user say so.
        """
        lines = []
        for declared in fields(self):
            chosen = getattr(self, declared.name)
            value = yaml.safe_dump({declared.name: chosen}, width=1000).strip()
            to_do = "SET THIS: " if chosen == REQUIRED else ""
            lines.append(f"{value:<36}# {to_do}{declared.metadata['help']}")
        return "\n".join(lines) + "\n"


def require_device(name: str) -> None:
    """Raise SettingsError for the name of a device that a run cannot have."""
    if name not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"got device {name!r}, expected auto, cpu or cuda (choose a GPU by CUDA_VISIBLE_DEVICES)")


def with_todays_names(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the settings of a file, those with former names under today's."""
    return {FORMER_NAMES.get(str(key), key): value for key, value in values.items()}
