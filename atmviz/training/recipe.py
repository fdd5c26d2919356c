"""Recipes: every setting of a training run, as YAML files that come with the package or are your own. Torch-free."""

import difflib
import math
import reprlib
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from atmviz.architecture import (
    CROP_RANGE,
    FORMER_NAMES,
    HEAD_TASKS,
    NETWORK_OPTIONS,
    RANGES,
    Architecture,
    FusionMode,
    Head,
    Neck,
    OffsetMode,
    Task,
)
from atmviz.errors import RecipeError, shorten
from atmviz.geometry import MIN_SIZE_PX
from atmviz.settings import require_ranges, setting
from atmviz.variants import VARIANTS

REQUIRED = "required"
_MAX_BYTES = 2**16  # of a recipe's file
_MAX_BITS = 10_000  # of a number, which is printed where it is too large
_MAX_TEXT = 4096  # characters of a setting, the longest path


_DATA, _AUGMENT, _MODEL, _OPTIMIZE, _RUN = "Data", "Augmentation", "Model", "Optimization", "Run"
_DENSE = "Dense prediction"
# What only one kind of training reads
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
class Recipe:
    """One training run; the defaults train without augmentation at a constant image size.

    Paper: Table 9 and Sec. 4.1 to 4.3; `recipes/imagenet1k.yaml` and its neighbours hold their values.
    """

    dataset: str = setting(
        "shapes", "shapes, digits, imagenet, folder, or a timm reader such as hfds/NAME; ade20k; coco.", _DATA
    )
    data_dir: str | None = setting(None, "Folder of the dataset; else $ATMVIZ_DATA, else ./data.", _DATA)
    image_size: int = setting(
        128, "Side of the square input, px; of whole images the shorter.", _DATA, *RANGES["image_size"]
    )
    crop_pct: float = setting(0.875, "Part of the resized image that evaluation crops.", _DATA, *CROP_RANGE)
    train_images: int | None = setting(
        None, "Images per epoch, drawn anew each epoch; all without it.", _DATA, 1, 10**9
    )
    val_images: int | None = setting(None, "Images to validate on; all without it.", _DATA, 1, 10**9)

    crop_scale_min: float = setting(
        1.0, "Smallest share of the area a random crop keeps; 1 is no crop.", _AUGMENT, 0, 1
    )
    hflip: float = setting(0.0, "Probability of a horizontal flip.", _AUGMENT, 0, 1)
    color_jitter: float = setting(0.0, "Strength; timm leaves it out beside auto_augment.", _AUGMENT, 0, 10)
    auto_augment: str = setting("none", "timm's name for a policy, as rand-m9-mstd0.5-inc1, or none.", _AUGMENT)
    random_erasing: float = setting(0.0, "Probability of erasing a rectangle.", _AUGMENT, 0, 1)
    erase_mode: Literal["pixel", "rand", "const"] = setting("pixel", "What fills it.", _AUGMENT)
    mixup: float = setting(0.0, "Mixup's alpha.", _AUGMENT, 0, 100)
    cutmix: float = setting(
        0.0, "CutMix's alpha; where both are on, each batch takes one of the two.", _AUGMENT, 0, 100
    )
    label_smoothing: float = setting(0.0, "Weight spread over the other classes.", _AUGMENT, 0, 0.99)
    repeated_augmentation: int = setting(1, "Differently augmented copies of an image per epoch.", _AUGMENT, 1, 100)

    scale_min: float = setting(1.0, "Segmentation: smallest factor of the image before the crop.", _DENSE, 0.05, 20)
    scale_max: float = setting(1.0, "Segmentation: largest factor.", _DENSE, 0.05, 20)
    photometric: float = setting(0.0, "Segmentation: probability of each change of colour.", _DENSE, 0, 1)
    short_side_min: int | None = setting(
        None,
        "Detection: shorter sides are drawn from here to image_size, by 32 px.",
        _DENSE,
        *RANGES["image_size"],
    )
    long_side: int = setting(1333, "Detection: longest side, px.", _DENSE, MIN_SIZE_PX, 8192)
    head: Head | None = setting(None, "Segmentation or detection head; none trains a classifier.", _DENSE)  # noqa: RUF009
    neck: Neck = setting("fpn", "Neck between backbone and head.", _DENSE)  # noqa: RUF009
    dim: int = setting(256, "Channels of the feature pyramid; head widths scale with it.", _DENSE, *RANGES["dim"])
    box_samples: int = setting(
        512, "Mask R-CNNs: proposals that box heads learn from, per image.", _DENSE, *RANGES["box_samples"]
    )

    model: str = setting("atmnet_nano", f"One of {', '.join(VARIANTS)}; a timm backbone under a head.", _MODEL)
    offset_mode: OffsetMode = setting("decoupled", "Table 8 and Fig. 2, A.", _MODEL)  # noqa: RUF009
    num_samples: int = setting(
        1, "Tokens fetched per channel and direction; 3 in Fig. 2, B.", _MODEL, *RANGES["num_samples"]
    )
    channels_per_offset: int | None = setting(
        None, "Channels that share an offset: 1 in Fig. 2; else the variant's.", _MODEL, *RANGES["channels_per_offset"]
    )
    fusion: FusionMode = setting(  # noqa: RUF009
        "image", "Fusion weights per image (released) or per token, or Eq. (4) as printed.", _MODEL
    )
    peg: bool = setting(True, "Positional encoding generators.", _MODEL)
    drop_path: float | None = setting(None, "Stochastic depth; the variant's (Table 9) without it.", _MODEL, 0, 0.99)
    init: Literal["released", "fan_in"] = setting("released", "fan_in suits widths under 100 channels.", _MODEL)
    finetune: str | None = setting(
        None,
        "File to start from, its head replaced where it must be; under a head also the backbone's alone, "
        "of other backbones timm's own.",
        _MODEL,
    )
    finetune_weights: Literal["ema", "model"] = setting(
        "ema",
        "Of that file: averaged ones where it has them; or model, as the released code.",
        _MODEL,
    )
    pixel_weight: float = setting(0.0, "Weight of the per-pixel labels' loss (shapes only).", _MODEL, 0, 1000)

    epochs: int = setting(10, "With warm-up, without cooldown.", _OPTIMIZE, 1, 10**6)
    warmup_epochs: float = setting(0.0, "Linear warm-up of the learning rate.", _OPTIMIZE, 0, 10**6)
    cooldown_epochs: int = setting(0, "Epochs more at min_lr.", _OPTIMIZE, 0, 10**6)
    batch_size: int = setting(32, "Images per update, over all processes.", _OPTIMIZE, 1, 10**6)
    accumulate: int = setting(1, "Passes that make up one update.", _OPTIMIZE, 1, 10**6)
    optimizer: str = setting("adamw", "timm's name for an optimizer.", _OPTIMIZE)
    lr: float = setting(1e-3, "Peak learning rate at lr_batch_size images per update.", _OPTIMIZE, 0, 1000)
    lr_batch_size: int | None = setting(
        None, "The rate scales with batch_size / this; without it never.", _OPTIMIZE, 1, 10**6
    )
    schedule: Literal["cosine", "poly", "step"] = setting("cosine", "How the learning rate falls.", _OPTIMIZE)
    poly_power: float = setting(1.0, "Of the share of updates left, under poly.", _OPTIMIZE, 0, 100)
    decay_epochs: tuple[int, ...] = setting((), "Epochs after which it falls to a tenth, under step: 8,11.", _OPTIMIZE)
    warmup_lr: float = setting(1e-6, "Where warm-up starts.", _OPTIMIZE, 0, 1000)
    min_lr: float = setting(1e-5, "Where cosine and poly end.", _OPTIMIZE, 0, 1000)
    lr_steps: Literal["update", "epoch"] = setting("update", "How often the learning rate moves.", _OPTIMIZE)
    weight_decay: float = setting(0.05, "Of the parameters that `decay` names.", _OPTIMIZE, 0, 1000)
    decay: Literal["no_1d", "no_norm", "all"] = setting(
        "no_1d",
        "What has weight decay: all but norms, biases and PEG (classifiers as released); all but the norms that "
        "the released segmentation code names; all.",
        _OPTIMIZE,
    )
    clip_grad: float = setting(0.0, "Largest gradient norm; 0 does not clip.", _OPTIMIZE, 0, 10**6)
    ema_decay: float = setting(0.0, "Decay of the averaged weights; 0 keeps none.", _OPTIMIZE, 0, 1)

    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Mixed precision of the forward pass.", _RUN)
    compile: bool = setting(False, "torch.compile the training step.", _RUN)
    seed: int = setting(0, "Of weights, order, augmentation and drawn scenes.", _RUN, 0, 2**32 - 1)
    save_updates: int = setting(500, "Updates between saved states; each epoch's end saves too.", _RUN, 1, 10**9)
    workers: int = setting(2, "Processes that load images, per training process.", _RUN, 0, 256)

    def __post_init__(self) -> None:
        require_ranges(self, RecipeError)
        if self.head is None and self.model not in VARIANTS:
            raise RecipeError(
                f"got model {self.model!r}, expected one of {', '.join(VARIANTS)}{_nearest(self.model, VARIANTS)}"
            )
        if self.batch_size % self.accumulate:
            raise RecipeError(f"got batch_size {self.batch_size} in {self.accumulate} passes: it must divide evenly")
        self._require_task_settings()
        if self.warmup_epochs >= self.epochs:
            raise RecipeError(
                f"got {self.warmup_epochs:g} warm-up epochs of {self.epochs}: expected fewer than epochs, "
                "as with --warmup-epochs 0"
            )
        if (self.mixup or self.cutmix) and self.batch_size // self.accumulate % 2:
            raise RecipeError(
                f"got batches of {self.batch_size // self.accumulate} with mixup or cutmix: expected an even number"
            )
        if self.pixel_weight and (self.dataset != "shapes" or self.augments):
            raise RecipeError(
                f"got pixel_weight for dataset {self.dataset}, expected shapes without augmentation: "
                "pass --pixel-weight 0, or another --recipe"
            )
        if self.pixel_weight and self.image_size % 32:
            raise RecipeError(f"got pixel_weight with image_size {self.image_size}: expected a multiple of 32")
        if self.offset_mode == "zero" and self.num_samples > 1:
            raise RecipeError("got offset_mode zero with several samples, which would all be one token: expected 1")
        if self.offset_mode == "zero" and self.channels_per_offset:
            raise RecipeError(
                "got offset_mode zero with channels_per_offset, but there are no offsets to share: leave it out"
            )
        if (
            self.channels_per_offset
            and self.model in VARIANTS
            and any(dim % self.channels_per_offset for dim in VARIANTS[self.model].dims)
        ):
            raise RecipeError(
                f"got channels_per_offset {self.channels_per_offset} for {self.model}, "
                f"expected a divisor of its {VARIANTS[self.model].dims} channels"
            )

    def _require_task_settings(self) -> None:
        """Nothing is set that this kind of training would not read, and what it reads fits together."""
        usual = {one.name: one.default for one in fields(self)}
        if wrong := [name for name in _FOREIGN[self.task] if getattr(self, name) != usual[name]]:
            kind = self.head or "a classifier"
            remedy = f"start from a recipe to {self.task}, or leave it out"
            if not self.head:
                remedy = f"pass --head ({', '.join(HEAD_TASKS)}) too"
            raise RecipeError(f"got {', '.join(wrong)} for {kind}, which has no use for it: {remedy}")
        changed = [name for name in _ATM_ONLY if getattr(self, name) != usual[name]]
        if changed and self.model not in VARIANTS:
            raise RecipeError(f"got {', '.join(changed)} for {self.model}, which has no ATM layers: leave it out")
        if self.finetune is None and self.finetune_weights != usual["finetune_weights"]:
            raise RecipeError(f"got finetune_weights {self.finetune_weights} without a file: pass --finetune FILE too")
        if self.head == "upernet" and self.batch_size == self.accumulate:
            raise RecipeError(
                "got passes of one image for upernet, whose pooled map is normalised over them: "
                "expected batch_size twice accumulate or more"
            )
        at = list(self.decay_epochs)
        if bool(at) != (self.schedule == "step"):
            raise RecipeError(
                f"got schedule {self.schedule} with decay_epochs {at}, expected some for step only: "
                "pass --decay-epochs 8,11, or --schedule cosine --decay-epochs ''"
            )
        if at != sorted({one for one in at if max(1, self.warmup_epochs) <= one < self.epochs}):
            raise RecipeError(
                f"got decay_epochs {at} of {self.epochs} epochs, {self.warmup_epochs:g} of them warm-up: "
                "expected rising ones between warm-up and end, or --schedule cosine --decay-epochs ''"
            )
        if self.scale_min > self.scale_max:
            raise RecipeError(f"got scales from {self.scale_min:g} to {self.scale_max:g}: expected scale_max as large")
        sides = [self.short_side_min or self.image_size, self.image_size, self.long_side]
        if self.task == "detect" and sides != sorted(sides):
            raise RecipeError(
                f"got shorter sides of {sides[0]} to {sides[1]} px, longer ones up to {sides[2]}: expected them rising"
            )
        if self.task == "detect" and self.compile:
            raise RecipeError("got compile for a detector, whose heads compile anew for every image: pass --no-compile")

    @property
    def architecture(self) -> Architecture:
        """The network by name."""
        return Architecture(self.model, self.head, self.neck)

    @property
    def task(self) -> Task:
        return self.architecture.task

    @property
    def augments(self) -> bool:
        """Whether anything changes an image between epochs."""
        strengths = (self.hflip, self.color_jitter, self.random_erasing, self.mixup, self.cutmix)
        return self.crop_scale_min < 1 or self.auto_augment != "none" or any(strengths)

    @property
    def scaled_lr(self) -> float:
        """The peak learning rate of this batch size."""
        return self.lr * self.batch_size / (self.lr_batch_size or self.batch_size)

    @property
    def drop_path_rate(self) -> float:
        if self.drop_path is None:
            return VARIANTS[self.model].drop_path_rates[self.task] if self.model in VARIANTS else 0.0
        return self.drop_path

    def override(self, values: Mapping[str, Any]) -> "Recipe":
        """This recipe with other values; raises RecipeError for an unknown key or a value of another kind."""
        return replace(self, **_typed(values))

    def differences(self, other: "Recipe") -> list[str]:
        """The settings that differ and change what is computed, as `key: own, other`."""
        return [
            f"{key}: {value} here, {theirs} there"
            for (key, value), theirs in zip(asdict(self).items(), asdict(other).values(), strict=True)
            if value != theirs and key not in ("workers", "save_updates", "data_dir")
        ]

    def to_yaml(self) -> str:
        """The whole recipe, one commented line per setting; `read_recipe` reads it back."""
        lines = []
        for declared in fields(self):
            value = yaml.safe_dump({declared.name: getattr(self, declared.name)}, width=1000).strip()
            lines.append(f"{value:<36}# {declared.metadata['help']}")
        return "\n".join(lines) + "\n"


def recipe_names() -> list[str]:
    """The recipes in the package."""
    found = resources.files("atmviz.training").joinpath("recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml"))


def read_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe of the package by name, or a YAML file; keys that it leaves out have `Recipe`'s defaults.

    Raises:
        RecipeError: no such recipe, no YAML mapping, an unknown key (the nearest is named), a value of the wrong kind
            or out of range, or a value the recipe leaves to you.
    """
    names = recipe_names()
    if str(name_or_path) in names:
        text = resources.files("atmviz.training").joinpath("recipes", f"{name_or_path}.yaml").read_text("utf-8")
    elif Path(name_or_path).is_file():
        with Path(name_or_path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise RecipeError(f"{name_or_path} has more than {_MAX_BYTES // 1024} kB, expected a recipe's YAML")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise RecipeError(f"recipe {name_or_path} is no text: expected YAML, `key: value` lines") from None
    else:
        raise RecipeError(
            f"no recipe {str(name_or_path)!r}: expected one of {', '.join(names)}, or a YAML file"
            + _nearest(str(name_or_path), names)
        )
    try:
        values = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # the last three: of odd values
        reason = shorten(" ".join(str(error).split()), 200)
        raise RecipeError(f"recipe {name_or_path} is no YAML ({reason}): correct it") from None
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise RecipeError(f"recipe {name_or_path} holds a {type(values).__name__}, expected `key: value` lines")
    values = {**{FORMER_NAMES.get(str(key), key): value for key, value in values.items()}, **(overrides or {})}
    if missing := [key for key, value in values.items() if value == REQUIRED]:
        name = shorten(str(missing[0]))
        raise RecipeError(f"recipe {name_or_path} leaves {name} to you: pass --{name.replace('_', '-')}")
    return Recipe().override(values)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's, without what a recipe has no use for: the last of two equal keys, aliases, endless numbers."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(problem="an alias, which a recipe has no use for", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            problem = f"{shorten(twice[0])} is there twice"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > _MAX_BITS:
            problem = "a number of too many digits"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values in their setting's type; YAML reads 1e-3 as text and 1 as an integer."""
    hints = get_type_hints(Recipe)
    typed = {}
    for key, value in values.items():
        if key not in hints:
            raise RecipeError(
                f"no recipe setting {shorten(str(key))!r}: see `atmviz train --print-recipe`"
                + _nearest(shorten(str(key)), hints)
            )
        kinds = get_args(hints[key]) if get_origin(hints[key]) in (types.UnionType, Union) else (hints[key],)
        typed[key] = next((v for kind in kinds if (v := _as_kind(value, kind)) is not _NOT), _NOT)
        if typed[key] is _NOT:
            names = [" or ".join(get_args(k)) if get_origin(k) is Literal else _KINDS[k] for k in kinds]
            raise RecipeError(f"got {key}: {reprlib.repr(value)}, expected {' or '.join(names)}")
    return typed


_NOT = object()
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    tuple[int, ...]: "whole numbers, as 8,11",
}


def _as_kind(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else _NOT
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) and value else value
        try:
            return tuple(int(part) for part in parts) if isinstance(parts, list | tuple | str) else _NOT
        except (TypeError, ValueError):
            return _NOT
    if kind is float and not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            return number if math.isfinite(number := float(value)) else _NOT
        except (ValueError, OverflowError):
            return _NOT
    if kind is str:
        return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT else _NOT
    return value if type(value) is kind else _NOT


def _nearest(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""
