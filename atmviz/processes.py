"""Rank of this process, and the number of processes that share work with it.

Only processes started by torchrun share work. Other launchers (an interactive `srun` shell, a pod, mpirun's shell)
leave their variables in the environment of every command, so those are ignored.
"""

import os
from typing import NamedTuple

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


class Process(NamedTuple):
    """Rank of a process among `world` processes, and `local_rank` among the `local_world` ones on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    def variables(self) -> dict[str, str]:
        """Return torchrun's variables for this rank; none for a process that works alone."""
        return dict(zip(_VARIABLES, map(str, self), strict=True)) if self.world > 1 else {}


def this_process() -> Process:
    """Return this process's rank from torchrun's variables; incomplete or invalid ones mean that it works alone."""
    try:
        process = Process(*(int(os.environ[name]) for name in _VARIABLES))
        port = int(os.environ["MASTER_PORT"]) if {"TORCHELASTIC_RUN_ID", "MASTER_ADDR"} <= os.environ.keys() else 0
    except (KeyError, ValueError):
        return Process()
    is_valid = 0 <= process.rank < process.world and 0 <= process.local_rank < process.local_world <= process.world
    return process if is_valid and 0 < port < 65536 else Process()


def ignored_launcher() -> str | None:
    """Return another launcher's variable that announces several processes, e.g. "PMI_SIZE=8"; None without one."""
    for name in _SIZES if this_process().world == 1 else ():
        size = os.environ.get(name, "")
        if size.isdecimal() and size.lstrip("0") not in ("", "1"):
            return f"{name}={size}"
    return None


def available_cores() -> int:
    """Return the number of cores for this process, at least 1; processes of one machine share them evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // this_process().local_world)
