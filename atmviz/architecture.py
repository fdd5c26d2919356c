"""Networks by name: tasks, heads and necks, and the options that change a network without changing its size.

Torch-free: commands, recipes and recordings name networks without building them.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from atmviz.errors import CheckpointError, SettingsError, nearest
from atmviz.geometry import MIN_SIZE_PX
from atmviz.variants import VARIANTS

Task = Literal["classify", "segment", "detect"]
Head = Literal["semantic_fpn", "upernet", "retinanet", "mask_rcnn", "cascade_mask_rcnn"]
Neck = Literal["fpn", "atmfpn"]
OffsetMode = Literal["decoupled", "joint", "zero"]
FusionMode = Literal["image", "token", "paper"]

HEAD_TASKS: dict[Head, Task] = {
    "semantic_fpn": "segment",
    "upernet": "segment",
    "retinanet": "detect",
    "mask_rcnn": "detect",
    "cascade_mask_rcnn": "detect",
}
PAPER_CLASSES: dict[Task, int] = {"classify": 1000, "segment": 150, "detect": 80}  # ImageNet-1K, ADE20K, COCO
IGNORE_INDEX = 255  # label of pixels that neither losses nor metrics count
PYRAMID_DIM = 256  # channels of the feature pyramid in the paper's systems
BOX_SAMPLES = 512  # proposals per image that the box heads of the paper's systems learn from

NETWORK_OPTIONS: dict[str, Any] = {
    "offset_mode": "decoupled",
    "num_samples": 1,
    "channels_per_offset": None,
    "fusion": "image",
    "peg": True,
}
"""Arguments of `ATMNet` that change a network without changing its size, with the values of the released one."""
RANGES: dict[str, tuple[int, int]] = {
    "num_samples": (1, 16),
    "channels_per_offset": (1, 1024),
    "dim": (8, 1024),
    "box_samples": (1, 4096),
    "image_size": (MIN_SIZE_PX, 4096),
}
"""Smallest and largest value that a recipe, a checkpoint or a command accepts."""
CROP_RANGE = (0.01, 1.0)  # of crop_pct, the part of the resized image that evaluation crops
INITIAL = "init:"
"""Before the name of a network or a checkpoint: the same network as training begins with it."""
FORMER_NAMES = {"share": "channels_per_offset", "framework": "head"}
"""Names of settings in files written by atmviz before 2026-11-26, with today's names."""


@dataclass(frozen=True)
class Architecture:
    """A network by name.

    Attributes:
        backbone: A variant, or another timm model.
        head: Segmentation or detection head; None for a classifier.
        neck: Neck between backbone and head.

    >>> str(Architecture.parse("mask_rcnn(atmnet_tiny, atmfpn)"))
    'mask_rcnn(atmnet_tiny, atmfpn)'
    """

    backbone: str
    head: Head | None = None
    neck: Neck = "fpn"

    @classmethod
    def parse(cls, text: str) -> "Architecture":
        """Read `atmnet_tiny`, `semantic_fpn(atmnet_tiny)` or `semantic_fpn(atmnet_tiny, atmfpn)`.

        Raises:
            SettingsError: the text has another form, or names an unknown head or neck.
        """
        match = re.fullmatch(r"(?:(\w+)\()?([\w.]+)(?:, ?(\w+))?(\))?", text.strip())
        if not match or bool(match[1]) != bool(match[4]) or (match[3] and not match[1]):
            raise SettingsError(
                f"got model {text!r}, expected a name like atmnet_tiny or semantic_fpn(atmnet_tiny, atmfpn)"
            )
        head, neck = match[1], match[3] or "fpn"
        if head not in (None, *HEAD_TASKS) or neck not in get_args(Neck):
            raise SettingsError(
                f"got model {text!r}, expected a head of {', '.join(HEAD_TASKS)} "
                f"and a neck of {', '.join(get_args(Neck))}{nearest(head or '', HEAD_TASKS)}"
            )
        return cls(match[2], head, neck)  # type: ignore[arg-type]

    @property
    def task(self) -> Task:
        """What it does with an image."""
        return HEAD_TASKS[self.head] if self.head else "classify"

    def __str__(self) -> str:
        if self.head is None:
            return self.backbone
        return f"{self.head}({self.backbone}{', atmfpn' if self.neck == 'atmfpn' else ''})"


def is_architecture(name: object) -> bool:
    """Whether a text names a network to build (an ATMNet variant, or a head around a backbone) and not a file."""
    text = str(name)
    return text in VARIANTS or any(text.startswith(f"{head}(") for head in HEAD_TASKS)


def is_random(name: object) -> bool:
    """Whether a text names weights that are drawn and not read: a network's name, or `init:` before any."""
    return is_architecture(name) or str(name).startswith(INITIAL)


def require_named(name: str) -> Architecture:
    """Read the name of a network whose backbone may be any of timm's models, but no variant that does not exist.

    Raises:
        SettingsError: see `Architecture.parse`; or the backbone is called like a variant, and is none.
    """
    architecture = Architecture.parse(name)
    backbone = architecture.backbone.split(".")[0]
    if backbone.startswith("atm") and backbone not in VARIANTS:
        raise SettingsError(f"no model {backbone}: expected one of {', '.join(VARIANTS)}{nearest(backbone, VARIANTS)}")
    return architecture


def require_model(model: str, expected: str | None, source: object) -> None:
    """Check that a checkpoint holds the expected network, or has it as backbone; None accepts any.

    Raises:
        CheckpointError: the checkpoint holds another network.
    """
    if expected not in (None, model, Architecture.parse(model).backbone):
        raise CheckpointError(f"got {model} in {source}, expected {expected}: name the model it holds, or none")
