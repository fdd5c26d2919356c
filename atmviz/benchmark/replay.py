"""Times what a GPU computes, without the time that Python takes to ask for it."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_CALLS = 20  # a graph holds at least so many, so that starting it does not count
_L2_SIZES = 4  # what the calls read is so many times as large as the L2 cache


def sets_beyond_cache(tensors: Sequence[Tensor]) -> int:
    """Return how many sets of such tensors are read in turns so that none is still in a GPU's L2 cache; 1 on a CPU."""
    device = tensors[0].device
    if device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return 1 + _L2_SIZES * cache // sum(tensor.nbytes for tensor in tensors)


def microseconds_on_gpu(calls: Sequence[Callable[[], Any]], device: torch.device, replays: int) -> float | None:
    """Return the time of one call, from replays of a CUDA graph: the median over the replays.

    Args:
        calls: The same computation on several sets of tensors. What they return is kept until the end, so that each
            call writes to memory of its own.
        device: The tensors' device.
        replays: Replays that are timed.

    Returns:
        Microseconds; None where the device is no GPU, or the calls cannot be captured.
    """
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        graph, kept = torch.cuda.CUDAGraph(), []
        warm = torch.cuda.Stream()
        warm.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm):  # as PyTorch asks for: what is made once must not be captured
            for _ in range(2):
                calls[0]()
        torch.cuda.current_stream().wait_stream(warm)
        try:
            with torch.cuda.graph(graph):
                for _ in range(-(-_CALLS // len(calls))):
                    kept += [_detached(call()) for call in calls]
        except RuntimeError:
            return None
        times = []
        for _ in range(2 + replays):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(1e3 * start.elapsed_time(end) / len(kept))
    return statistics.median(times[2:])


def _detached(results: Tensor | Sequence[Tensor | None]) -> list[Tensor]:
    """Return results without what autograd keeps of them."""
    several = [results] if isinstance(results, Tensor) else results
    return [result.detach() for result in several if result is not None]
