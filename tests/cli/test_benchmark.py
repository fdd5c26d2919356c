"""`atmviz benchmark`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from atmviz_cli.benchmark import benchmark

import atmviz.benchmark as library
from atmviz.benchmark import BASELINE, Timing
from atmviz.errors import AtmvizError


@pytest.fixture
def timed(monkeypatch):
    """Calls of the library, answered with two rows."""
    calls = []

    def answer(*arguments, wide=False):
        calls.append((*arguments, wide))
        yield Timing("forward", "a map", BASELINE, 20.0, (19.0, 21.0), 1.0)
        yield Timing("forward", "a map", "eager", 2.0, (1.9, 2.1), 10.0)

    monkeypatch.setattr(library, "benchmark_operator", answer)
    monkeypatch.setattr(library, "benchmark_model", answer)
    monkeypatch.setattr(library, "benchmark_record", answer)
    return calls


def test_table_names_machine_case_and_ratio(succeed, timed):
    result = succeed("benchmark", "op", "--device", "cpu")
    for text in ("forward: a map", "speed-up", "10.00", "1.90–2.10", "torch 2.", "date 20"):
        assert text in result.stdout
    ((model, size, batch_size, dtype, device, rounds, wide),) = timed
    assert (model, size, batch_size, str(dtype), str(device), rounds, wide) == (
        *("atmnet_xtiny", (224, 224), 8, "torch.float32", "cpu", 15, False),
    )


def test_json_is_one_object(succeed, timed):
    result = succeed("benchmark", "model", "--device", "cpu", "--size", "64", "--dtype", "bfloat16", "--json")
    data = json.loads(result.stdout)
    assert data["rows"][1] == {
        **{"operation": "forward", "case": "a map", "version": "eager", "milliseconds": 2.0, "quartiles": [1.9, 2.1]},
        **{"speedup": 10.0, "images": None, "peak_mb": None, "copy_fraction": None},
        **{"gpu_us": None, "gpu_speedup": None, "gb_per_s": None},
    }
    assert [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"operation"')] == data["rows"]
    assert data["machine"]["torch"]
    assert timed[0][1] == (64, 64)
    assert str(timed[0][3]) == "torch.bfloat16"


def test_recording_is_timed_in_float32_alone(succeed, refuse, timed):
    succeed("benchmark", "record", "-m", "atmnet_nano", "--images", "32", "--device", "cpu", "--rounds", "3")
    assert [str(one) for one in timed[0][:-1]] == ["atmnet_nano", "(224, 224)", "8", "cpu", "3", "32"]
    refuse(2, "expected float32", "benchmark", "record", "--dtype", "bfloat16")


def test_images_are_for_recording_alone(refuse, timed):
    refuse(2, "got --images for op", "benchmark", "op", "--images", "4")
    assert not timed


def test_rows_are_printed_as_they_are_measured(monkeypatch, capfd):
    def answer(*arguments, **settings):
        yield Timing("forward", "a map", BASELINE, 20.0, (19.0, 21.0), 1.0)
        raise AtmvizError("eager differs")

    monkeypatch.setattr(library, "benchmark_model", answer)
    with pytest.raises(AtmvizError):
        benchmark("model", device="cpu", as_json=True)
    assert json.loads(capfd.readouterr().out.splitlines()[1])["version"] == BASELINE


def test_wide_offsets_are_for_branches_alone(succeed, refuse, timed):
    succeed("benchmark", "op", "--spread", "wide", "--device", "cpu")
    assert timed[0][-1] is True
    refuse(2, "got --spread wide for model", "benchmark", "model", "--spread", "wide")


def test_branches_and_networks_are_timed_without_the_packages_of_recordings():
    """Machines with a GPU often have none of them, and no network to fetch them from."""
    code = """
import sys
for name in ("zarr", "numcodecs", "platformdirs", "accelerate", "torchmetrics", "pandas", "matplotlib", "sklearn"):
    sys.modules[name] = None
import cli.benchmark
from atmviz.benchmark import benchmark_model, benchmark_operator
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
