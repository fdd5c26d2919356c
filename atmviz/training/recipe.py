"""Recipes: every setting of a training run, and which of them fit together. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
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
from atmviz.errors import RecipeError, nearest, shorten
from atmviz.geometry import MIN_SIZE_PX
from atmviz.settings import Settings, setting
from atmviz.variants import VARIANTS

_DATA, _AUGMENT, _MODEL, _OPTIMIZE, _RUN = "Data", "Augmentation", "Model", "Optimization", "Run"
_DENSE = "Dense prediction"
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


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of a training run; the defaults train without augmentation at a constant image size.

    Raises:
        RecipeError: a value is out of range, or settings do not fit together.

    Source: Table 9 and Sec. 4.1 to 4.3, whose values are in `recipes/imagenet1k.yaml` and its neighbors.
    """

    dataset: str = setting(
        "shapes", "shapes, digits, imagenet, folder or a timm reader such as hfds/NAME; ade20k; coco.", _DATA
    )
    data_dir: str | None = setting(None, "Dataset folder; default: $ATMVIZ_DATA, else ./data.", _DATA)
    image_size: int = setting(
        128, "Input size in px: side of the square, or shorter side of whole images.", _DATA, *RANGES["image_size"]
    )
    crop_pct: float = setting(0.875, "Fraction of the resized image that evaluation crops.", _DATA, *CROP_RANGE)
    train_images: int | None = setting(None, "Images per epoch, a new draw each epoch; default: all.", _DATA, 1, 10**9)
    val_images: int | None = setting(None, "Validation images; default: all.", _DATA, 1, 10**9)

    crop_scale_min: float = setting(
        1.0, "Smallest fraction of the image area in a random crop; 1 turns it off.", _AUGMENT, 0, 1
    )
    hflip: float = setting(0.0, "Probability of a horizontal flip.", _AUGMENT, 0, 1)
    color_jitter: float = setting(0.0, "Strength of color jitter; timm ignores it with auto_augment.", _AUGMENT, 0, 10)
    auto_augment: str = setting("none", "timm policy, e.g. rand-m9-mstd0.5-inc1, or none.", _AUGMENT)
    random_erasing: float = setting(0.0, "Probability of erasing a rectangle.", _AUGMENT, 0, 1)
    erase_mode: Literal["pixel", "rand", "const"] = setting("pixel", "Content of an erased rectangle.", _AUGMENT)
    mixup: float = setting(0.0, "Mixup's alpha.", _AUGMENT, 0, 100)
    cutmix: float = setting(0.0, "CutMix's alpha; with mixup, each batch uses one of the two.", _AUGMENT, 0, 100)
    label_smoothing: float = setting(0.0, "Label weight spread over the other classes.", _AUGMENT, 0, 0.99)
    repeated_augmentation: int = setting(1, "Differently augmented copies of an image per epoch.", _AUGMENT, 1, 100)

    scale_min: float = setting(1.0, "Segmentation: smallest scale of the image before the crop.", _DENSE, 0.05, 20)
    scale_max: float = setting(1.0, "Segmentation: largest scale of the image before the crop.", _DENSE, 0.05, 20)
    photometric: float = setting(0.0, "Segmentation: probability of each color change.", _DENSE, 0, 1)
    short_side_min: int | None = setting(
        None, "Detection: draw the shorter side from here to image_size, by 32 px.", _DENSE, *RANGES["image_size"]
    )
    long_side: int = setting(1333, "Detection: largest longer side in px.", _DENSE, MIN_SIZE_PX, 8192)
    head: Head | None = setting(None, "Segmentation or detection head; omit to train a classifier.", _DENSE)  # noqa: RUF009
    neck: Neck = setting("fpn", "Neck between backbone and head.", _DENSE)  # noqa: RUF009
    dim: int = setting(
        PYRAMID_DIM, "Channels of the feature pyramid; head widths scale with it.", _DENSE, *RANGES["dim"]
    )
    box_samples: int = setting(
        BOX_SAMPLES, "Mask R-CNNs: proposals per image that the box head learns from.", _DENSE, *RANGES["box_samples"]
    )

    model: str = setting("atmnet_nano", f"One of {', '.join(VARIANTS)}; with a head also a timm backbone.", _MODEL)
    offset_mode: OffsetMode = setting("decoupled", "How offsets are generated: Table 8 and Fig. 2, A.", _MODEL)  # noqa: RUF009
    num_samples: int = setting(
        1, "Tokens sampled per channel and direction; 3 in Fig. 2, B.", _MODEL, *RANGES["num_samples"]
    )
    channels_per_offset: int | None = setting(
        None, "Channels per offset; default: the variant's; 1 in Fig. 2.", _MODEL, *RANGES["channels_per_offset"]
    )
    fusion: FusionMode = setting(  # noqa: RUF009
        "image", "Fusion weights per image (released) or per token, or Eq. (4) as printed.", _MODEL
    )
    peg: bool = setting(True, "Use positional encoding generators.", _MODEL)
    drop_path: float | None = setting(None, "Stochastic depth rate; default: the variant's (Table 9).", _MODEL, 0, 0.99)
    init: Literal["released", "fan_in"] = setting(
        "released", "Weight initialization; fan_in suits widths under 100 channels.", _MODEL
    )
    finetune: str | None = setting(
        None, "Checkpoint to start from; with a head also a classifier's, for the backbone alone.", _MODEL
    )
    finetune_weights: Literal["ema", "model"] = setting(
        "ema", "Weights of that checkpoint: averaged if it has them, or model.", _MODEL
    )
    pixel_weight: float = setting(0.0, "Weight of the per-pixel label loss (shapes only).", _MODEL, 0, 1000)

    epochs: int = setting(10, "Number of epochs, warm-up included, cooldown not.", _OPTIMIZE, 1, 10**6)
    warmup_epochs: float = setting(0.0, "Epochs of linear learning rate warm-up.", _OPTIMIZE, 0, 10**6)
    cooldown_epochs: int = setting(0, "Additional epochs at min_lr.", _OPTIMIZE, 0, 10**6)
    batch_size: int = setting(32, "Images per update, over all processes.", _OPTIMIZE, 1, 10**6)
    accumulate: int = setting(1, "Forward passes per update.", _OPTIMIZE, 1, 10**6)
    optimizer: str = setting("adamw", "timm's name of an optimizer.", _OPTIMIZE)
    lr: float = setting(1e-3, "Peak learning rate for lr_batch_size images per update.", _OPTIMIZE, 0, 1000)
    lr_batch_size: int | None = setting(
        None, "Scale the learning rate by batch_size / this; default: do not scale.", _OPTIMIZE, 1, 10**6
    )
    schedule: Literal["cosine", "poly", "step"] = setting("cosine", "Learning rate schedule.", _OPTIMIZE)
    poly_power: float = setting(1.0, "Power of the poly schedule.", _OPTIMIZE, 0, 100)
    decay_epochs: tuple[int, ...] = setting(
        (), "Epochs after which the step schedule divides the learning rate by 10, e.g. 8,11.", _OPTIMIZE
    )
    warmup_lr: float = setting(1e-6, "Learning rate at the start of the warm-up.", _OPTIMIZE, 0, 1000)
    min_lr: float = setting(1e-5, "Final learning rate of the cosine and poly schedules.", _OPTIMIZE, 0, 1000)
    lr_steps: Literal["update", "epoch"] = setting("update", "How often the learning rate changes.", _OPTIMIZE)
    weight_decay: float = setting(0.05, "Weight decay of the parameters that `decay` selects.", _OPTIMIZE, 0, 1000)
    decay: Literal["no_1d", "no_norm", "all"] = setting(
        "no_1d",
        "Parameters with weight decay: no_1d spares norms, biases and PEG (released classifiers), no_norm the norms "
        "(released segmentation code).",
        _OPTIMIZE,
    )
    clip_grad: float = setting(0.0, "Largest gradient norm; 0 turns clipping off.", _OPTIMIZE, 0, 10**6)
    ema_decay: float = setting(0.0, "Decay of the averaged weights; 0 keeps none.", _OPTIMIZE, 0, 1)

    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Precision of the forward pass.", _RUN)
    compile: bool = setting(False, "Compile the training step with torch.compile.", _RUN)
    seed: int = setting(0, "Seed of weights, order, augmentation and synthetic images.", _RUN, 0, 2**32 - 1)
    save_updates: int = setting(500, "Updates between saves; the end of an epoch saves too.", _RUN, 1, 10**9)
    workers: int = setting(2, "Image loading processes per training process.", _RUN, 0, 256)

    _error = RecipeError

    def __post_init__(self) -> None:
        super().__post_init__()
        known = f"{', '.join(VARIANTS)}{nearest(self.model, VARIANTS)}"
        _refuse(not self.head and self.model not in VARIANTS, f"got model {self.model!r}, expected one of {known}")
        self._require_batches()
        self._require_supported()
        self._require_schedule()
        self._require_sizes()
        self._require_offsets()

    def _require_batches(self) -> None:
        per_pass, rest = divmod(self.batch_size, self.accumulate)
        _refuse(rest, f"got batch_size {self.batch_size} in {self.accumulate} passes: it must divide evenly")
        mixes = self.mixup or self.cutmix
        _refuse(mixes and per_pass % 2, f"got batches of {per_pass} with mixup or cutmix: expected an even number")
        _refuse(
            self.head == "upernet" and per_pass == 1,
            "got passes of one image for upernet, whose batch norms need several: "
            "expected batch_size twice accumulate or more",
        )

    def _require_supported(self) -> None:
        """Refuse settings that this kind of training does not read."""
        changed = [declared.name for declared in fields(self) if getattr(self, declared.name) != declared.default]
        unread = ", ".join(name for name in changed if name in _FOREIGN[self.task])
        remedy = f"start from a recipe to {self.task}, or leave it out"
        if not self.head:
            remedy = f"set head ({', '.join(HEAD_TASKS)}) too"
        _refuse(unread, f"got {unread}, not supported for {self.head or 'classifiers'}: {remedy}")
        of_atm = "" if self.model in VARIANTS else ", ".join(name for name in changed if name in _ATM_ONLY)
        _refuse(of_atm, f"got {of_atm} for {self.model}, which has no ATM layers: leave it out")
        _refuse(
            self.finetune is None and "finetune_weights" in changed,
            f"got finetune_weights {self.finetune_weights} without a file: set finetune too",
        )
        _refuse(
            self.task == "detect" and self.compile,
            "got compile, not supported for detectors, whose heads compile anew for every image: turn it off",
        )
        _refuse(
            self.pixel_weight and (self.dataset != "shapes" or self.augments),
            f"got pixel_weight for dataset {self.dataset}, expected shapes without augmentation: "
            "set pixel_weight to 0, or choose another recipe",
        )

    def _require_schedule(self) -> None:
        warmup, decay = f"{self.warmup_epochs:g}", list(self.decay_epochs)
        _refuse(
            self.warmup_epochs >= self.epochs,
            f"got {warmup} warm-up epochs of {self.epochs}: expected fewer than epochs, e.g. warmup_epochs 0",
        )
        _refuse(
            bool(decay) != (self.schedule == "step"),
            f"got schedule {self.schedule} with decay_epochs {decay}, expected decay_epochs for step only: "
            "set them, e.g. 8,11, or choose schedule cosine without any",
        )
        _refuse(
            decay != sorted({epoch for epoch in decay if max(1, self.warmup_epochs) <= epoch < self.epochs}),
            f"got decay_epochs {decay} of {self.epochs} epochs, {warmup} of them warm-up: "
            "expected rising ones between warm-up and end, or schedule cosine without any",
        )

    def _require_sizes(self) -> None:
        _refuse(
            self.pixel_weight and self.image_size % 32,
            f"got pixel_weight with image_size {self.image_size}: expected a multiple of 32",
        )
        _refuse(
            self.scale_min > self.scale_max,
            f"got scales from {self.scale_min:g} to {self.scale_max:g}: expected scale_max as large",
        )
        sides = [self.short_side_min or self.image_size, self.image_size, self.long_side]
        _refuse(
            self.task == "detect" and sides != sorted(sides),
            f"got shorter sides of {sides[0]} to {sides[1]} px, longer ones up to {sides[2]}: expected them rising",
        )

    def _require_offsets(self) -> None:
        is_zero, shared = self.offset_mode == "zero", self.channels_per_offset
        _refuse(
            is_zero and self.num_samples > 1,
            "got offset_mode zero with several samples, which would all be one token: expected 1",
        )
        _refuse(
            is_zero and shared,
            "got offset_mode zero with channels_per_offset, but there are no offsets to share: leave it out",
        )
        dims = VARIANTS[self.model].dims if self.model in VARIANTS else ()
        _refuse(
            shared and any(dim % shared for dim in dims),
            f"got channels_per_offset {shared} for {self.model}, expected a divisor of its {dims} channels",
        )

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

    @classmethod
    def from_stored(cls, values: Mapping[Any, Any]) -> "Recipe":
        """Return a recipe from the settings of a file, which may use former names; raises as `override`."""
        return cls().override({FORMER_NAMES.get(str(key), key): value for key, value in values.items()})

    def differences(self, other: "Recipe") -> list[str]:
        """Return the settings that differ and change the result, as `key: value here, value there`."""
        return [
            f"{key}: {value} here, {theirs} there"
            for (key, value), theirs in zip(asdict(self).items(), asdict(other).values(), strict=True)
            if value != theirs and key not in ("workers", "save_updates", "data_dir")
        ]

    def to_yaml(self) -> str:
        """Return all settings as YAML, one commented line each; `read_recipe` reads it back."""
        lines = []
        for declared in fields(self):
            value = yaml.safe_dump({declared.name: getattr(self, declared.name)}, width=1000).strip()
            lines.append(f"{value:<36}# {declared.metadata['help']}")
        return "\n".join(lines) + "\n"


def _refuse(is_wrong: object, message: str) -> None:
    if is_wrong:
        raise RecipeError(message)
