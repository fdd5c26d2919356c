"""Tensors of a checkpoint file as the file describes them, read when they are needed."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_NAME = 1000  # characters of a tensor's name


@dataclass(frozen=True)
class StoredTensor:
    """Describes a tensor in a file.

    Attributes:
        kind: Its dtype ("float32"), or the kind of tensor that torch calls otherwise ("sparse").
        shape: Sizes.
        load: Reads the values.
        span: Number of values in the file from the tensor's first to its last; fewer than it has elements where
            strides of 0 repeat them.
    """

    kind: str
    shape: tuple[int, ...]
    load: Callable[[], Tensor]
    span: int = 0

    @property
    def nbytes(self) -> int:
        """Memory that reading takes, repeated values included."""
        return max(math.prod(self.shape), self.span) * dtype_of(self.kind).itemsize


def dtype_of(kind: str) -> torch.dtype:
    """Return the dtype of that name; uint8 where torch has none."""
    dtype = getattr(torch, kind, None)
    return dtype if isinstance(dtype, torch.dtype) else torch.uint8


def named_items(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Keep the pairs whose key is text, as all keys of a state dict are.

    Raises:
        ValueError: a tensor's name has more than `MAX_NAME` characters.
    """
    items = {key: value for key, value in pairs if isinstance(key, str)}
    for key, value in items.items():
        if isinstance(value, StoredTensor) and len(key) > MAX_NAME:
            raise ValueError(f"a tensor's name of {len(key)} characters, expected at most {MAX_NAME}")
    return items
