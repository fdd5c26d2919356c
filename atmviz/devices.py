"""The device a network runs on."""

import torch

from atmviz.errors import AtmvizError, summarize
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
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("networks do not run on it")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = summarize(error).split(". ")[0].split(" [")[0]
        raise AtmvizError(f"no device {str(name)!r} here ({reason}); expected auto, cpu, cuda, cuda:N or mps") from None
    return device
