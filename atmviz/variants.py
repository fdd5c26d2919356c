"""The ATMNet variants as data: xT, T, S, B, L of the paper and `nano` for demonstrations and tests; and the names of
the dense prediction heads around them.

Sources: Tables 1, 9 and 10 of "Active Token Mixer" (arXiv 2203.06108). Table 10's stage-4 column for S, B and L
contradicts Table 1; the depths and ratios of the released checkpoints, which give Table 1 exactly, are used here.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from atmviz.errors import AtmvizError

Task = Literal["classify", "segment", "detect"]
TASKS: tuple[Task, ...] = get_args(Task)
PAPER_CLASSES: dict[Task, int] = {"classify": 1000, "segment": 150, "detect": 80}  # ImageNet-1K, ADE20K, COCO
IGNORED = 255  # label of pixels that count nowhere
NETWORK_OPTIONS: dict[str, Any] = {
    "offset_mode": "decoupled",
    "num_samples": 1,
    "channels_per_offset": None,
    "fusion": "image",
    "peg": True,
}
"""Arguments of `ATMNet` that make another network of the same size, with the values of the released one."""
FORMER_NAMES = {"share": "channels_per_offset", "framework": "head"}
"""Settings of files of atmviz before 2026-11-26, by the names they had, with those of now."""
OffsetMode = Literal["decoupled", "joint", "zero"]
FusionMode = Literal["image", "token", "paper"]
Head = Literal["semantic_fpn", "upernet", "retinanet", "mask_rcnn", "cascade_mask_rcnn"]
Neck = Literal["fpn", "atmfpn"]
# Least and most that a recipe or a checkpoint may ask for
RANGES = {"num_samples": (1, 16), "channels_per_offset": (1, 1024), "dim": (8, 1024), "box_samples": (1, 4096)}
HEAD_TASKS: dict[Head, Task] = {
    "semantic_fpn": "segment",
    "upernet": "segment",
    "retinanet": "detect",
    "mask_rcnn": "detect",
    "cascade_mask_rcnn": "detect",
}


@dataclass(frozen=True)
class Variant:
    """One ATMNet size; tuples hold one value per stage.

    Attributes:
        depths: Blocks, N in Table 10.
        dims: Channels, C.
        mlp_ratios: Expansion of the block's MLP, E.
        num_offsets: Distinct offsets per direction, |O|; each is shared by S = C / |O| neighbouring channels.
        offset_interval: Blocks between new offsets, K in Sec. A1.
        drop_path_rates: Stochastic depth in training, by task: Table 9, Sec. 4.2, Sec. 4.3.
    """

    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    num_offsets: tuple[int, int, int, int]
    offset_interval: int
    drop_path_rates: dict[Task, float]


_SMALL_DIMS = ((64, 128, 320, 512), (32, 32, 80, 64))
_LARGE_DIMS = ((96, 192, 384, 768), (48, 48, 96, 96))

# fmt: off
VARIANTS: dict[str, Variant] = {
    name: Variant(depths, dims, mlp_ratios, num_offsets, interval, dict(zip(TASKS, drop_paths, strict=True)))
    for name, depths, mlp_ratios, (dims, num_offsets), interval, drop_paths in (
        ("atmnet_nano",   (2, 2, 18, 2), (4, 4, 4, 3), ((24, 48, 64, 96), (12, 12, 16, 12)), 6, (.0, .0, .0)),
        ("atmnet_xtiny",  (2, 2, 4, 2),  (4, 4, 4, 4), _SMALL_DIMS, 2, (.1, .1, .1)),
        ("atmnet_tiny",   (2, 3, 10, 3), (4, 4, 4, 4), _SMALL_DIMS, 2, (.1, .1, .1)),
        ("atmnet_small",  (3, 4, 18, 3), (8, 8, 4, 4), _SMALL_DIMS, 6, (.2, .2, .3)),
        ("atmnet_base",   (3, 8, 27, 3), (8, 8, 4, 4), _SMALL_DIMS, 6, (.3, .2, .5)),
        ("atmnet_large",  (3, 4, 24, 3), (4, 4, 4, 4), _LARGE_DIMS, 6, (.3, .2, .6)),
    )
}
# fmt: on


@dataclass(frozen=True)
class Architecture:
    """A network by name.

    Attributes:
        backbone: A variant, or another timm model.
        head: What stands on it; None for a classifier.
        neck: Between the two.

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
            AtmvizError: no such form, head or neck.
        """
        match = re.fullmatch(r"(?:(\w+)\()?([\w.]+)(?:, ?(\w+))?(\))?", text.strip())
        if not match or bool(match[1]) != bool(match[4]) or (match[3] and not match[1]):
            raise AtmvizError(
                f"got model {text!r}, expected a name like atmnet_tiny or semantic_fpn(atmnet_tiny, atmfpn)"
            )
        head, neck = match[1], match[3] or "fpn"
        if head not in (None, *HEAD_TASKS) or neck not in get_args(Neck):
            raise AtmvizError(
                f"got model {text!r}, expected a head of {', '.join(HEAD_TASKS)} "
                f"and a neck of {', '.join(get_args(Neck))}"
            )
        return cls(match[2], head, neck)  # type: ignore[arg-type]

    @property
    def task(self) -> Task:
        return HEAD_TASKS[self.head] if self.head else "classify"

    def __str__(self) -> str:
        if self.head is None:
            return self.backbone
        return f"{self.head}({self.backbone}{', atmfpn' if self.neck == 'atmfpn' else ''})"


def is_architecture(name: object) -> bool:
    """Whether it names a network to build, a variant or a head around a backbone, and no file."""
    text = str(name)
    return text in VARIANTS or any(text.startswith(f"{head}(") for head in HEAD_TASKS)
