"""accelerate with explicit settings: variables of other launchers and users' accelerate settings have no effect."""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from typing import Any

import torch

from atmviz.data.loader import worker_error
from atmviz.errors import AtmvizError
from atmviz.processes import this_process

_TIMEOUT = timedelta(minutes=30)  # one process may record or save this much longer than the others
_LEAVE_S = 10.0
_SETTINGS = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "FORK_LAUNCHED", "USE_TORCH_XLA")
_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PMI_", "OMPI_", "MV2_", "MPI_LOCAL")


@contextmanager
def _plain_environment() -> Iterator[None]:
    """Hide accelerate's settings and all launchers' variables, except this process's rank, within the block."""
    process = this_process()
    hidden = {name: value for name, value in os.environ.items() if name.startswith((*_SETTINGS, *_LAUNCHERS))}
    added = process.variables() | {"USE_TORCH_XLA": "0"}
    if process.world > 1:  # accelerate would set it if missing, and needs one whole number
        hidden |= {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        added["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    for name in hidden:
        del os.environ[name]
    os.environ.update(added)
    try:
        yield
    finally:
        for name in [n for n in os.environ if n in added or n.startswith((*_SETTINGS, *_LAUNCHERS))]:
            del os.environ[name]
        os.environ.update(hidden)


with _plain_environment():
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import send_to_device as send_to_device


@contextmanager
def as_launched() -> Iterator[None]:
    """Run the block of a function that processes share: plain environment, failures of others as one line.

    Raises:
        AtmvizError: another process of the run has ended or does not answer, or a loader process was ended.
    """
    with _plain_environment():
        try:
            yield
        except (OSError, RuntimeError) as error:
            if this_process().world > 1 and (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
                raise AtmvizError(
                    "another process of this run has ended or does not answer: its own message says why; "
                    "the same command resumes"
                ) from None
            if known := worker_error(error):
                raise known from None
            raise


def join_processes(cpu: bool) -> PartialState:
    """Join the processes of one torchrun, waiting for them; a process alone joins none. Call it in `as_launched`."""
    alone = this_process().world == 1
    state = PartialState(cpu=cpu or not (alone or torch.cuda.is_available()), timeout=_TIMEOUT)
    if not alone:
        atexit.unregister(_leave_processes)  # registered by an earlier call: it needs to run once
        atexit.register(_leave_processes)
    return state


def _leave_processes() -> None:
    """Destroy the process group: its threads, if they still ran when Python ends, would abort the process.

    Work that another process left unfinished may never end, so this waits no longer than `_LEAVE_S`.
    """
    if torch.distributed.is_initialized():
        leaving = threading.Thread(target=torch.distributed.destroy_process_group, daemon=True)
        leaving.start()
        leaving.join(_LEAVE_S)


def new_accelerator(cpu: bool, precision: str) -> Accelerator:
    """Return a new accelerator for the CPU or a GPU; a process may create several. Call it in `as_launched`.

    Raises:
        ValueError: the device lacks the precision.
    """
    # accelerate would keep the device and precision of the process's first run
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    state = join_processes(cpu)
    return Accelerator(cpu=state.device.type == "cpu", mixed_precision=precision)


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process and how many there are; (0, 1) where none were joined."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather_all(items: list[Any]) -> list[Any]:
    """Return the items of all processes, in the order of ranks."""
    return [item for part in _parts(items) for item in part]


def gather_in_turn(items: list[Any]) -> list[Any]:
    """Return the items of all processes: the first one of each rank, the second one of each, and so on."""
    turns = zip_longest(*_parts(items), fillvalue=_MISSING)
    return [item for turn in turns for item in turn if item is not _MISSING]


_MISSING = object()


def _parts(items: list[Any]) -> list[list[Any]]:
    """Return the items of each process."""
    _, world = rank_and_world()
    parts = [items] * world
    if world > 1:
        torch.distributed.all_gather_object(parts, items)
    return parts
