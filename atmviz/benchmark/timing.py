"""How versions of one computation are timed and compared."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atmviz.benchmark.replay import microseconds_on_gpu
from atmviz.errors import AtmvizError

BASELINE = "deform_conv2d baseline"
# Largest accepted difference of two versions, relative to the largest value: they add in another order
_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Timing:
    """One version of one computation, timed.

    Attributes:
        operation: What was computed, such as "forward".
        case: Shapes and settings.
        version: "deform_conv2d baseline", "eager", "compiled", or a lower bound such as "linear alone".
        milliseconds: Median over the rounds; on a GPU with the time that Python takes to ask for it.
        quartiles: First and third quartile, ms.
        speedup: Median over the rounds of the reference version's time divided by this version's in the same round.
        images: Images per call; None for a single branch.
        peak_mb: Largest memory that one call allocated on a GPU.
        copy_fraction: Bytes moved per second, as a fraction of what a copy of the input reaches.
        gpu_us: Time of one call on a GPU alone, microseconds: the median over replays of a CUDA graph, whose calls read
            and write other tensors in turns, beyond what the L2 cache holds. None where it is not measured.
        gpu_speedup: The reference version's `gpu_us` divided by this version's.
        gb_per_s: Bytes that must be moved, read and written, per second; for what is bound by memory.
    """

    operation: str
    case: str
    version: str
    milliseconds: float
    quartiles: tuple[float, float]
    speedup: float
    images: int | None = None
    peak_mb: float | None = None
    copy_fraction: float | None = None
    gpu_us: float | None = None
    gpu_speedup: float | None = None
    gb_per_s: float | None = None


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Device, threads, versions and date of a measurement."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    cpus = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else (cpus or [platform.machine()])[0],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def time_versions(
    operation: str,
    case: str,
    versions: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: torch.device,
    reference: str = BASELINE,
    images: int | None = None,
    rotated: Mapping[str, Sequence[Callable[[], Any]]] | None = None,
) -> list[Timing]:
    """Time all versions in turns.

    Args:
        operation, case, images: See `Timing`.
        versions: Functions to call, by name.
        rounds: Timed calls of each version.
        device: Device to wait for before the clock is read.
        reference: Version that the speed-ups are relative to.
        rotated: The same functions on several sets of tensors, for their time on a GPU alone.
    """
    seconds = measure(versions, rounds, device)
    on_gpu = {name: microseconds_on_gpu(calls, device, rounds) for name, calls in (rotated or {}).items()}
    timings = []
    for name, times in seconds.items():
        low, median, high = statistics.quantiles((1e3 * s for s in times), n=4, method="inclusive")
        speedup = statistics.median(other / this for other, this in zip(seconds[reference], times, strict=True))
        peak = _peak_mb(versions[name], device)
        this, other = on_gpu.get(name), on_gpu.get(reference)
        faster = other / this if this and other else None
        row = Timing(operation, case, name, median, (low, high), speedup, images, peak)
        timings.append(replace(row, gpu_us=this, gpu_speedup=faster))
    return timings


def measure(versions: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each version in each round: two calls to warm up, then all versions in turns."""
    for version in versions.values():
        version(), version()
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(rounds):
        for name, version in versions.items():
            _synchronize(device)
            start = time.perf_counter()
            version()
            _synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def require_same(results: Mapping[str, Sequence[Tensor]]) -> None:
    """Check that all versions return the tensors of the first one, up to rounding.

    Raises:
        AtmvizError: a version differs by more.
    """
    (reference, expected), *others = results.items()
    for name, tensors in others:
        for actual, wanted in zip(tensors, expected, strict=True):
            scale = wanted.abs().max().item()
            difference = (actual.double() - wanted.double()).abs().max().item()
            if not difference <= _ROUNDING[actual.dtype] * scale:
                raise AtmvizError(
                    f"{name} differs from the {reference} by {difference:.2g} of {scale:.2g}: expected rounding alone; "
                    "please report it with this machine's versions"
                )


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_mb(version: Callable[[], Any], device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    version()
    _synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20
