"""Only torchrun's variables, complete and sound, make a process one of several."""

import os

import pytest

from atmviz.processes import Process, available_cores, ignored_launcher, this_process

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}
OTHERS = {
    **{name: "7" for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")},
    **{name: "8" for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_NTASKS")},
}


@pytest.fixture
def environment(monkeypatch):
    """Sets these variables, and none other of a launcher."""

    def put(variables):
        for name in (*TORCHRUN, *OTHERS):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_a_process_of_torchrun_has_its_place(environment):
    environment({**TORCHRUN, **OTHERS})
    assert this_process() == Process(rank=5, world=8, local_rank=1, local_world=4)
    assert ignored_launcher() is None


@pytest.mark.parametrize("lacking", TORCHRUN)
def test_part_of_torchrun_s_variables_make_no_process_of_several(environment, lacking):
    environment({name: value for name, value in {**TORCHRUN, **OTHERS}.items() if name != lacking})
    assert this_process() == Process()
    assert ignored_launcher() == ("WORLD_SIZE=8" if lacking != "WORLD_SIZE" else "PMI_SIZE=8")


NONSENSE = {
    "RANK": ["x", "", "-1", "8", "9" * 20],
    "WORLD_SIZE": ["x", "", "-1", "0", "3", "9" * 5000],
    "LOCAL_RANK": ["x", "", "-1", "4", "9" * 20],
    "LOCAL_WORLD_SIZE": ["x", "", "-1", "0", "9"],
    "MASTER_PORT": ["x", "", "-1", "0", "65536"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values])
def test_nonsense_leaves_a_process_alone(environment, name, value):
    environment({**TORCHRUN, name: value})
    assert this_process() == Process()


@pytest.mark.parametrize(("size", "said"), [("1", False), ("0", False), ("x", False), ("-2", False), ("10", True)])
def test_a_launcher_of_several_is_named(environment, size, said):
    environment({"OMPI_COMM_WORLD_SIZE": size})
    assert ignored_launcher() == (f"OMPI_COMM_WORLD_SIZE={size}" if said else None)


def test_processes_of_a_machine_share_its_cores(environment, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10)))
    environment({"LOCAL_WORLD_SIZE": "4"})
    assert available_cores() == 10
    environment(TORCHRUN)
    assert available_cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert available_cores() == 1
