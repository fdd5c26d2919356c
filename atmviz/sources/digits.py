"""scikit-learn's handwritten digits as a source. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from PIL import Image

from atmviz.sources.source import Split, Truth, draw_sample


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8x8 px, a `Source`: every fifth one is for validation.

    Attributes:
        split: "train" or "val".
        size: (height, width) px that images are enlarged to (bicubic); as stored by default.
        indices: Which images of the split; all without it.
    """

    split: Split
    size: tuple[int, int] = (8, 8)
    indices: tuple[int, ...] | None = None
    sampling: Mapping[str, int] = field(default_factory=dict)

    title, root, note = "digits", "", ""

    def __len__(self) -> int:
        return len(_digits(self.split)[0]) if self.indices is None else len(self.indices)

    def _number(self, index: int) -> int:
        return index if self.indices is None else self.indices[index]

    def name(self, index: int) -> str:
        """Return "digits/val/0012"."""
        return f"digits/{self.split}/{self._number(index):04d}"

    def read(self, index: int) -> np.ndarray:
        """Return an image, RGB, uint8, [H, W, 3]."""
        image = Image.fromarray(_digits(self.split)[0][self._number(index)]).convert("RGB")
        return np.array(image if self.size == (8, 8) else image.resize(self.size[::-1], Image.Resampling.BICUBIC))

    def truth(self, index: int) -> Truth:
        """Return the digit that an image shows."""
        return Truth(label=_digits(self.split)[1][self._number(index)])

    def require_truth(self) -> str:
        """Return "": every digit is known."""
        return ""

    def fingerprint(self, index: int) -> str:
        """Return the size that images are enlarged to."""
        return f"{self.size[0]}x{self.size[1]} px"

    def sample(self, limit: int, seed: int) -> "Digits":
        """Return a random sample of `limit` images, in the order of the split."""
        if limit >= len(self):
            return self
        chosen, sampling = draw_sample(len(self), limit, seed)
        return replace(self, indices=tuple(map(self._number, chosen)), sampling=sampling)


@cache
def _digits(split: Split) -> tuple[np.ndarray, list[int]]:
    """Images [N, 8, 8], uint8, and labels [N] of a split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = (np.arange(len(digits.images)) % 5 == 0) == (split == "val")
    return (digits.images[chosen] * (255 / 16)).round().astype(np.uint8), digits.target[chosen].tolist()
