"""The Triton kernel of the summary through Triton's interpreter, on the CPU.

Triton must be imported with TRITON_INTERPRET=1, so `test_gpu_summary.py` runs this file in a process of its own.
"""

import pytest
import torch

from atmviz.ops import gpu_summary, summary


def assert_same(offset, monkeypatch):
    """The kernel beside the portable version: counts to the bit."""
    monkeypatch.setattr(summary, "has_kernels", lambda device: False)
    ours, expected = gpu_summary.summarize(offset), summary.summarize_offsets(offset)
    torch.testing.assert_close(ours[0], expected[0].double(), rtol=1e-6, atol=0, equal_nan=True)
    for counted, wanted in zip(ours[1:], expected[1:], strict=True):
        assert counted.dtype == wanted.dtype == torch.int64
        assert torch.equal(counted, wanted)
    assert ours[2].sum() == offset.numel()


@pytest.mark.parametrize(
    "shape", [(2, 5, 7, 2, 6), (1, 8, 3, 2, 19), (3, 1, 1, 2, 1), (0, 4, 4, 2, 3), (2, 4, 4, 2, 0)]
)
@pytest.mark.parametrize("spread", [0.4, 3, 100])
def test_the_kernel_counts_as_the_portable_version(shape, spread, monkeypatch):
    assert_same(spread * torch.randn(shape), monkeypatch)


def test_images_of_many_tiles_and_programs_are_summed_whole(monkeypatch):
    monkeypatch.setattr(gpu_summary, "_TILES", 2)
    monkeypatch.setattr(gpu_summary, "_MOST_PROGRAMS", 3)
    assert_same(5 * torch.randn(2, 20, 21, 2, 23), monkeypatch)


def test_halves_huge_offsets_and_nan_fall_as_in_the_portable_version(monkeypatch):
    values = [-0.5, 0.5, 1.5, 2.5, -1.5, -2.5, 1e30, -1e30, 3.0, float("inf"), -float("inf"), 0.49999997]
    assert_same(torch.tensor(values).expand(1, 3, 2, 2, -1).clone(), monkeypatch)
    offset = torch.zeros(2, 3, 3, 2, 4)
    offset[1, 2, 0, 1, 3] = float("nan")
    assert_same(offset, monkeypatch)


def test_two_runs_are_equal_to_the_bit():
    offset = 5 * torch.randn(2, 20, 21, 2, 23)
    for first, second in zip(gpu_summary.summarize(offset), gpu_summary.summarize(offset), strict=True):
        assert torch.equal(first, second)
