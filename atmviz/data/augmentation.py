"""How images of classifiers vary in training and are cut in evaluation, by timm's transforms."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import auto_augment, create_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import MaybePILToTensor, MaybeToTensor
from torch import Tensor
from torchvision.transforms import Compose

from atmviz.data.fitting import MEAN, STD, normalize_channels
from atmviz.data.keyed import seed_of, seeded
from atmviz.errors import SettingsError, shorten

Transform = Callable[[Image.Image], Tensor]
# timm's policies, with the range of each setting
_POLICIES: dict[str, dict[str, tuple[float, float]]] = {
    "none": {},
    **{name: {"mstd": (0, 1000)} for name in ("original", "originalr", "v0", "v0r", "3a")},
    "rand": {"m": (0, 30), "mmax": (1, 30), "mstd": (0, 1000), "n": (1, 10), "p": (0, 1), "inc": (0, 1)},
    "augmix": {"m": (0, 30), "mstd": (0, 1000), "w": (1, 10), "d": (0, 10), "a": (0.1, 100), "b": (0, 1)},
}
_POLICY_SETTING = re.compile(r"([a-z]+)([0-9]{1,6}(\.[0-9]{1,6})?)")
_POLICY_REALS = ("mstd", "p", "a")
_RAND_SETS = ("tweights", "t3a", "t3aw")


@dataclass(frozen=True)
class Augmentation:
    """How training images vary, in timm's terms; the defaults change nothing."""

    crop_scale_min: float = 1.0
    hflip: float = 0.0
    color_jitter: float = 0.0
    auto_augment: str = "none"
    random_erasing: float = 0.0
    erase_mode: str = "pixel"


def eval_transform(size: int, crop_pct: float) -> Transform:
    """Return the released evaluation: shorter side to size / crop_pct (bicubic), center crop, normalization."""
    return create_transform(size, interpolation="bicubic", crop_pct=crop_pct, crop_mode="center", mean=MEAN, std=STD)


def train_transform(size: int, augmentation: Augmentation) -> Transform:
    """Return timm's training transform; without any augmentation a plain resize and center crop."""
    a = augmentation
    if a == Augmentation():
        return eval_transform(size, 1.0)
    _require_policy(a.auto_augment)
    transform = create_transform(
        size,
        is_training=True,
        scale=(a.crop_scale_min, 1.0),
        hflip=a.hflip,
        color_jitter=a.color_jitter,
        auto_augment=None if a.auto_augment == "none" else a.auto_augment,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        re_prob=a.random_erasing,
        re_mode=a.erase_mode,
        re_count=1,
    )
    for operation in _augment_operations(transform):
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize
    return transform


class BytesToInput:
    """What is left to do where images come as bytes: a GPU normalizes them, and erases rectangles as timm does."""

    def __init__(self, erasing: RandomErasing | None) -> None:
        self.erasing = erasing

    def __call__(self, images: Tensor, *key: int) -> Tensor:
        """Return network input [B, 3, H, W] from bytes of this shape; the key seeds what is drawn."""
        out = normalize_channels(images)
        if self.erasing is None:
            return out
        self.erasing.device = out.device
        with seeded("erasing", *key):
            if out.is_cuda:
                torch.cuda.manual_seed(seed_of("erasing", *key))
            return self.erasing(out)


def split_at_bytes(transform: Any) -> tuple[Transform, BytesToInput]:
    """Split a transform of timm's in two: from images to bytes [3, H, W], uint8, and from those to network input."""
    steps = transform.transforms
    cut = next(index for index, step in enumerate(steps) if isinstance(step, MaybeToTensor))
    erasing = next((step for step in steps if isinstance(step, RandomErasing)), None)
    return Compose([*steps[:cut], MaybePILToTensor()]), BytesToInput(erasing)


def _require_policy(text: str) -> None:
    """Raise SettingsError for unknown policies, and for settings that timm ignores, fails at or never ends with."""
    name, *settings = text.split("-")
    known = _POLICIES.get(name, {})
    wrong = [part for part in settings if not (_is_setting(part, known) or (name == "rand" and part in _RAND_SETS))]
    if name not in _POLICIES:
        fault = f"none of {', '.join(_POLICIES)}"
    elif wrong:
        ranges = [f"{key} {low:g} to {high:g}" for key, (low, high) in known.items()]
        fault = f"{shorten(wrong[0], 20)!r} is none of its settings: {', '.join(ranges) or 'none'}"
    else:
        return
    raise SettingsError(
        f"got auto_augment {shorten(text)!r} ({fault}), expected a timm policy, e.g. rand-m9-mstd0.5-inc1, or none"
    )


def _is_setting(text: str, known: dict[str, tuple[float, float]]) -> bool:
    """Return whether it is a known key with a number in its range."""
    match = _POLICY_SETTING.fullmatch(text)
    if not match or match[1] not in known or (match[3] and match[1] not in _POLICY_REALS):
        return False
    low, high = known[match[1]]
    return low <= float(match[2]) <= high


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep the highest `bits` bits of each value; black for 0 bits, which Pillow refuses from version 13.

    timm's policies ask for 0 bits at their largest magnitude, and the released networks were trained on black images
    there.
    """
    return image.point([0] * 256 * len(image.getbands())) if bits < 1 else ImageOps.posterize(image, min(bits, 8))


def _augment_operations(transform: Any) -> Iterator[auto_augment.AugmentOp]:
    """Yield the operations of timm's RandAugment, AutoAugment or AugMix within a training transform."""
    for part in transform.transforms:
        yield from getattr(part, "ops", ())
        for policy in getattr(part, "policy", ()):
            yield from policy
