"""Timings of atmviz beside the released way of sampling: both in one process, in turns, on the same tensors."""

from atmviz.benchmark.model import benchmark_model
from atmviz.benchmark.operator import benchmark_operator
from atmviz.benchmark.record import benchmark_record
from atmviz.benchmark.timing import BASELINE, Timing, describe_machine

__all__ = ["BASELINE", "Timing", "benchmark_model", "benchmark_operator", "benchmark_record", "describe_machine"]
