"""Versions are timed in turns."""

import torch

from atmviz.benchmark.timing import measure

CPU = torch.device("cpu")


def test_measure_times_all_versions_in_turns():
    called = []
    seconds = measure({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3, CPU)
    assert called == ["a", "a", "b", "b", *["a", "b"] * 3]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
