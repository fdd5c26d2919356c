"""Copying batches to a GPU while it computes."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch.utils._pytree import tree_leaves

T = TypeVar("T")


def on_device(batches: Iterable[T], move: Callable[[T], T], device: torch.device) -> Iterator[T]:
    """Yield batches moved to a device; a GPU copies the next one while it computes.

    Args:
        batches: Batches in pinned memory.
        move: Moves the tensors of a batch, without waiting for them.
        device: Where to.
    """
    if device.type != "cuda":
        yield from map(move, batches)
        return
    stream, compute = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    waiting: list[T] = []
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = move(batch)
        yield from waiting
        compute.wait_stream(stream)
        for tensor in filter(torch.is_tensor, tree_leaves(copied)):
            tensor.record_stream(compute)  # its memory is not given to the next copy before it was read
        waiting = [copied]
    yield from waiting
