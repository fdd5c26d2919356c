"""`atmviz benchmark`."""

import json

import pytest

import atmviz.benchmark as library
from atmviz.benchmark import BASELINE, Timing


@pytest.fixture
def timed(monkeypatch):
    """Calls of the library, answered with two rows."""
    calls = []

    def answer(*arguments):
        calls.append(arguments)
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
    ((model, size, batch_size, dtype, device, rounds),) = timed
    assert (model, size, batch_size, str(dtype), str(device), rounds) == (
        *("atmnet_xtiny", (224, 224), 8, "torch.float32", "cpu", 15),
    )


def test_json_is_one_object(succeed, timed):
    result = succeed("benchmark", "model", "--device", "cpu", "--size", "64", "--dtype", "bfloat16", "--json")
    data = json.loads(result.stdout)
    assert data["rows"][1] == {
        **{"operation": "forward", "case": "a map", "version": "eager", "milliseconds": 2.0, "quartiles": [1.9, 2.1]},
        **{"speedup": 10.0, "images": None, "peak_mb": None, "copy_fraction": None},
    }
    assert data["machine"]["torch"]
    assert timed[0][1] == (64, 64)
    assert str(timed[0][3]) == "torch.bfloat16"


def test_recording_is_timed_in_float32_alone(succeed, refuse, timed):
    succeed("benchmark", "record", "-m", "atmnet_nano", "--images", "32", "--device", "cpu", "--rounds", "3")
    assert [str(one) for one in timed[0]] == ["atmnet_nano", "(224, 224)", "8", "cpu", "3", "32"]
    refuse(2, "expected float32", "benchmark", "record", "--dtype", "bfloat16")


def test_images_are_for_recording_alone(refuse, timed):
    refuse(2, "got --images for op", "benchmark", "op", "--images", "4")
    assert not timed
