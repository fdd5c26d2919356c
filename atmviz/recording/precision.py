"""The precision in which a network is run while it is recorded."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch

from atmviz.errors import SettingsError
from atmviz.recording.settings import Precision


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raise SettingsError if a device has no such precision."""
    if precision == "tf32" and device.type != "cuda":
        raise SettingsError(f"got precision tf32 on {device.type}, expected fp32 or bf16: tf32 needs a CUDA device")


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Run networks within the block in a precision: "fp32" is IEEE's in every layer, on a GPU too.

    PyTorch computes convolutions on a GPU in TF32 unless it is told otherwise: 10 bits after the point instead of 23.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(_float32(precision == "tf32"))
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        yield


@contextmanager
def _float32(as_tf32: bool) -> Iterator[None]:
    """Set both of PyTorch's interfaces: libraries read the older one, which raises an error where the two differ."""
    backends: Any = torch.backends
    parts = backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul

    def choose(cudnn: bool, matmul: str, kinds: list[str]) -> None:
        backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)
        for part, kind in zip(parts, kinds, strict=True):
            part.fp32_precision = kind

    older, kinds = (True, "highest"), [part.fp32_precision for part in parts]
    with suppress(RuntimeError):  # the two differ already
        older = backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    choose(as_tf32, "high" if as_tf32 else "highest", ["tf32" if as_tf32 else "ieee"] * len(parts))
    try:
        yield
    finally:
        choose(*older, kinds)
