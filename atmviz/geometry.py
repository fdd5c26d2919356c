"""Where things are, as numbers: original image <-> network input <-> token grid. Torch-free.

Positions in pixels are (y, x) of pixel centers: the first pixel's center is 0, the image's left edge is -0.5.
Tokens are (i, j) = (row, column).
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from atmviz.errors import SettingsError, describe

Anchor = Literal["cell", "rf"]
Fit = Literal["crop", "squash", "whole"]

MIN_SIZE_PX = 32  # one token of the last stage
MAX_SIZE_PX = 65_535  # of a JPEG's side


def resized_size(shape: Sequence[int], short: int, long: int) -> tuple[int, int]:
    """Return (height, width) with the shorter side at `short` px, or smaller where the longer side would exceed `long`.

    Source: mmcv's `rescale_size`, with its rounding.

    >>> resized_size((480, 640), 800, 1333)
    (800, 1067)
    """
    factor = min(short / min(shape), long / max(shape))
    height, width = (int(side * factor + 0.5) for side in shape)
    return height, width


def map_size(input_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return the grid (H, W) in tokens at a stride of 4, 8, 16 or 32 px, as stem and downsampling layers compute it.

    Their (kernel, stride, padding) are (7, 4, 2) and (3, 2, 1).

    >>> map_size((600, 800), 16)
    (38, 50)
    """

    def along(size: int) -> int:
        size = (size + 2 * 2 - 7) // 4 + 1
        for _ in range(stride.bit_length() - 3):
            size = (size + 2 * 1 - 3) // 2 + 1
        return size

    return along(input_size[0]), along(input_size[1])


def token_center_px(index: float, stride: int, anchor: Anchor) -> float:
    """Return the center of a token in input pixels, along one axis; query tokens and samples follow this one rule.

    "cell" is the center of the stride x stride cell that the token stands for. "rf" is the center of its receptive
    field, half a stride further up and left because of the stem's padding.

    >>> token_center_px(16, 16, "cell"), token_center_px(16, 16, "rf")
    (263.5, 257.0)
    """
    return stride * (index + 0.5) - 0.5 if anchor == "cell" else stride * float(index) + 1


def token_at_px(position_px: float, stride: int, anchor: Anchor, size: int) -> int:
    """Return the token whose center is nearest to an input pixel, along one axis of `size` tokens."""
    first = token_center_px(0, stride, anchor)
    return min(max(math.floor((position_px - first) / stride + 0.5), 0), size - 1)


def parse_size(size: str | int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) from 224, "224", "600x800" or (600, 800); raise SettingsError for other values.

    >>> parse_size(224), parse_size("600x800")
    ((224, 224), (600, 800))
    """
    try:
        if isinstance(size, str):
            sides = [int(side) for side in size.lower().split("x")]
        else:
            sides = [operator.index(side) for side in (size if isinstance(size, Iterable) else [size])]
        height, width = (sides[0], sides[-1]) if len(sides) in (1, 2) else (0, 0)
    except (TypeError, ValueError):
        height = width = 0
    if not MIN_SIZE_PX <= min(height, width) <= max(height, width) <= MAX_SIZE_PX:
        raise SettingsError(
            f"got size {describe(size)}, expected {MIN_SIZE_PX} to {MAX_SIZE_PX}, or HEIGHTxWIDTH as in 600x800"
        )
    return height, width


@dataclass(frozen=True)
class Placement:
    """How one image was fitted to the network: resized, then cropped.

    Attributes:
        image: (height, width) of the original, px.
        resized: (height, width) after resizing.
        origin: (top, left) of the crop in the resized image.
        size: (height, width) of the crop, the network's input.
    """

    image: tuple[int, int]
    resized: tuple[int, int]
    origin: tuple[int, int]
    size: tuple[int, int]

    @property
    def seen_share(self) -> float:
        """Fraction of the original image's area that the input shows."""
        return self.size[0] * self.size[1] / (self.resized[0] * self.resized[1])

    def to_image(self, y: float, x: float) -> tuple[float, float]:
        """Return a position in input pixels, (y, x), in original pixels."""
        return (
            (y + self.origin[0] + 0.5) * self.image[0] / self.resized[0] - 0.5,
            (x + self.origin[1] + 0.5) * self.image[1] / self.resized[1] - 0.5,
        )

    def to_input(self, y: float, x: float) -> tuple[float, float]:
        """Return a position in original pixels, (y, x), in input pixels."""
        return (
            (y + 0.5) * self.resized[0] / self.image[0] - 0.5 - self.origin[0],
            (x + 0.5) * self.resized[1] / self.image[1] - 0.5 - self.origin[1],
        )


@dataclass(frozen=True)
class Preprocessing:
    """How images become network input; bicubic, then ImageNet mean and standard deviation.

    Attributes:
        size: (height, width) of the input; with "whole", the shorter side becomes min(size) and nothing is cut.
        fit: "crop" covers the size and cuts the center, "squash" stretches, "whole" keeps all of the image.
        crop_pct: Fraction of the sides that a crop keeps of the resized image; 0.875 at 224 px is the released
            evaluation transform, 1 covers the input exactly.

    Raises:
        SettingsError: a size, a fit or a fraction outside its range.
    """

    size: tuple[int, int] = (224, 224)
    fit: Fit = "crop"
    crop_pct: float = 0.875
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", parse_size(self.size))
        if self.fit not in get_args(Fit):
            raise SettingsError(f"got fit {describe(self.fit)}, expected crop, squash or whole")
        if not 0 < self.crop_pct <= 1:
            raise SettingsError(f"got crop_pct {self.crop_pct}, expected more than 0, at most 1")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """Read what `dataclasses.asdict` gave; KeyError, TypeError or ValueError for anything else."""
        height, width = data["size"]
        return cls((height, width), data["fit"], data["crop_pct"])

    def describe(self) -> str:
        """Return how images are fitted and how much of them is seen, in a few words."""
        if self.fit != "crop":
            return "images are seen whole" if self.fit == "whole" else "images are seen whole, squashed to one shape"
        least, most = (f"{100 * pick(self.seen().values()):.0f} %" for pick in (min, max))
        height, width = self.size
        return f"a center crop to {height}×{width} px shows {least} to {most} of a photograph, by its shape"

    def seen(self) -> dict[str, float]:
        """Return the fraction of a photograph that the input shows, by its width:height."""
        shapes = ((4, 3), (1, 1), (3, 4))
        return {f"{x}:{y}": round(self.place(4000 * y, 4000 * x).seen_share, 4) for x, y in shapes}

    def _cover_px(self) -> tuple[int, int]:
        return int(self.size[0] / self.crop_pct), int(self.size[1] / self.crop_pct)

    def place(self, height: int, width: int) -> Placement:
        """Return where an image of height x width px lands, rounded as by torchvision's Resize and CenterCrop."""
        if self.fit == "squash":
            return Placement((height, width), self.size, (0, 0), self.size)
        if self.fit == "whole":
            resized = _cover(height, width, (min(self.size), min(self.size)))
            return Placement((height, width), resized, (0, 0), resized)
        resized = _cover(height, width, self._cover_px())
        origin = (round((resized[0] - self.size[0]) / 2), round((resized[1] - self.size[1]) / 2))
        return Placement((height, width), resized, origin, self.size)


def _cover(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest (height, width) of the same shape that covers `size`."""
    if size[0] * width >= size[1] * height:
        return size[0], int(size[0] * width / height)
    return int(size[1] * height / width), size[1]
