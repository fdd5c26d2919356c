"""accelerate, told everything: neither other launchers' variables nor users' settings of it change what is done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from atmviz.data.loader import worker_error
from atmviz.errors import AtmvizError
from atmviz.processes import this_process

# Of one process for another: as long as one may record or save more than the others
_TIMEOUT = timedelta(minutes=30)
_SETTINGS = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "FORK_LAUNCHED", "USE_TORCH_XLA")
_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PMI_", "OMPI_", "MV2_", "MPI_LOCAL")


@contextmanager
def _plain_environment() -> Iterator[None]:
    """Within the block the environment holds no setting of accelerate, and of launchers only this process's place."""
    place = this_process()
    hidden = {name: value for name, value in os.environ.items() if name.startswith((*_SETTINGS, *_LAUNCHERS))}
    own = place.variables() | {"USE_TORCH_XLA": "0"}
    if place.world > 1:  # which accelerate would set without it, and reads as one whole number
        hidden |= {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        own["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    for name in hidden:
        del os.environ[name]
    os.environ.update(own)
    try:
        yield
    finally:
        for name in [one for one in os.environ if one in own or one.startswith((*_SETTINGS, *_LAUNCHERS))]:
            del os.environ[name]
        os.environ.update(hidden)


with _plain_environment():
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import send_to_device as send_to_device


@contextmanager
def as_launched() -> Iterator[None]:
    """For a function that processes share: a plain environment, and errors of other processes as one line.

    Raises:
        AtmvizError: another process of the run has ended or does not answer, or one that loads images was ended.
    """
    with _plain_environment():
        try:
            yield
        except (OSError, RuntimeError) as error:
            if this_process().world > 1 and (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
                raise AtmvizError(
                    "another process of this run has ended or does not answer: its own message says why; "
                    "the same command goes on"
                ) from None
            if known := worker_error(error):
                raise known from None
            raise


def join_processes(cpu: bool) -> PartialState:
    """This process among those of one torchrun, or alone; waits for the others. Within `as_launched`."""
    alone = this_process().world == 1
    return PartialState(cpu=cpu or not (alone or torch.cuda.is_available()), timeout=_TIMEOUT)


def new_accelerator(cpu: bool, precision: str) -> Accelerator:
    """accelerate's training loop on the CPU or a GPU; as often as wanted. Within `as_launched`.

    Raises:
        ValueError: the device lacks the precision.
    """
    # accelerate keeps device and precision of the process's first run; a second may have others.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    state = join_processes(cpu)
    return Accelerator(cpu=state.device.type == "cpu", mixed_precision=precision)


def gather_all(items: list[Any]) -> list[Any]:
    """The items of all processes, in their order."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return items
    parts: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
