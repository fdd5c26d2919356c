"""Which of several processes this is.

Only processes that torchrun started share work. What other launchers leave in the environment (an interactive `srun`
shell, a pod, mpirun's shell) is there for every command, and says nothing of this one.
"""

import os
from typing import NamedTuple

_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


class Place(NamedTuple):
    """A process is number `rank` of `world`, and number `local_rank` of the `local_world` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    def variables(self) -> dict[str, str]:
        """The place as torchrun's variables say it; nothing for a process alone."""
        return dict(zip(_PLACE, map(str, self), strict=True)) if self.world > 1 else {}


def this_process() -> Place:
    """This process's place, from torchrun's variables where they are complete and sound; else it is alone."""
    try:
        place = Place(*(int(os.environ[name]) for name in _PLACE))
        port = int(os.environ["MASTER_PORT"]) if {"TORCHELASTIC_RUN_ID", "MASTER_ADDR"} <= os.environ.keys() else 0
    except (KeyError, ValueError):
        return Place()
    sound = 0 <= place.rank < place.world and 0 <= place.local_rank < place.local_world <= place.world
    return place if sound and 0 < port < 65536 else Place()


def ignored_launcher() -> str | None:
    """The variable of another launcher that speaks of several processes, as "PMI_SIZE=8"; None without one."""
    for name in _SIZES if this_process().world == 1 else ():
        size = os.environ.get(name, "")
        if size.isdecimal() and size.lstrip("0") not in ("", "1"):
            return f"{name}={size}"
    return None


def available_cores() -> int:
    """The processor cores for this process, at least 1; processes of one machine share them evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // this_process().local_world)
