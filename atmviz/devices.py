"""The device a network runs on."""

import torch

from atmviz.errors import AtmvizError, describe
from atmviz.processes import this_process


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of that name; "auto" takes CUDA, then MPS, then the CPU. Each process of torchrun gets a GPU.

    Raises:
        AtmvizError: this machine has no such device.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", this_process().local_rank % torch.cuda.device_count())
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        here = ["auto", "cpu", *(["cuda", *gpus] if gpus else []), *["mps"] * torch.backends.mps.is_available()]
        raise AtmvizError(f"got device {describe(str(name))}, expected one that is here: {', '.join(here)}")
    return device
