"""One branch stays ahead of the released code: ratios of one process, never absolute times."""

import statistics
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from atmviz.benchmark import BASELINE, benchmark_operator, operator
from atmviz.benchmark.operator import sample_by_deform_conv
from atmviz.benchmark.timing import measure
from atmviz.errors import AtmvizError
from atmviz.ops import cpu, sample_along
from atmviz.ops.reference import sample_reference

CPU = torch.device("cpu")


@pytest.mark.skipif(cpu.library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("branch", ["width", "height"])
def test_sampling_stays_well_ahead_of_deform_conv(branch, reaches):
    x, offset = torch.randn(2, 56, 56, 64, requires_grad=True), torch.randn(2, 56, 56, 32, requires_grad=True)
    weight, bias, grad = torch.randn(64, 64), torch.randn(64), torch.randn(2, 56, 56, 64)

    def ours():
        return F.linear(sample_along(x, offset, branch), weight, bias)

    def theirs():
        return sample_by_deform_conv(x, offset, branch, weight, bias)

    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    for goal, versions in (
        (3, {"ours": ours, "theirs": theirs}),
        (6, {"ours": lambda: ours().backward(grad), "theirs": lambda: theirs().backward(grad)}),
    ):

        def ratio(versions=versions):
            seconds = measure(versions, 7, CPU)
            return statistics.median(t / o for t, o in zip(seconds["theirs"], seconds["ours"], strict=True))

        assert reaches(ratio, goal)  # 10 and 20 where it was measured


def test_operator_rows_cover_both_ways_of_each_stage(uncompiled):
    rows = list(benchmark_operator("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=2))
    cases = {(row.operation, row.case) for row in rows}
    assert len(cases) == 4 * 2 * 2
    for expected in ("width 1×16×16×24, S = 2, float32", "height 1×2×2×96, S = 8, float32"):
        assert expected in {case for _, case in cases}
    for row in rows:
        assert row.quartiles[0] <= row.milliseconds <= row.quartiles[1]
        assert (row.speedup == 1) == (row.version == BASELINE)
        assert (row.copy_fraction is not None) == (row.version == "sampling alone" and row.operation == "forward")
        assert (row.gb_per_s is not None) == (row.version in ("sampling alone", "copy of x"))
        assert row.gpu_us is row.gpu_speedup is None  # needs a GPU
    versions = {row.version for row in rows}
    assert versions >= {"eager", "compiled", "reference compiled", "deform_conv2d alone, best layout"}


def test_sides_that_differ_are_not_timed(uncompiled, monkeypatch):
    monkeypatch.setattr(operator, "sample_along", lambda x, offset, branch: 1.001 * sample_along(x, offset, branch))
    with pytest.raises(
        AtmvizError, match=r"eager differs from the deform_conv2d baseline by .* expected rounding alone"
    ):
        next(benchmark_operator("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=2))


@pytest.mark.parametrize("branch", ["width", "height"])
@pytest.mark.parametrize("wide", [False, True])
def test_all_ways_of_sampling_alone_compute_the_same(branch, wide, monkeypatch):
    """tvdcn is stood in for by what its documentation says: one group of offsets for each few channels of a line."""

    def deform_conv1d(lines, ones, shifts, groups):
        assert ones.shape == (groups, 1, 1)
        x, offset = (tensor.transpose(1, 2)[:, None] for tensor in (lines, shifts))
        return sample_reference(x, offset, 2)[:, 0].transpose(1, 2)

    monkeypatch.setitem(sys.modules, "tvdcn", SimpleNamespace(deform_conv1d=deform_conv1d))
    tensors = operator._draw((2, 5, 7, 8), 4, branch, torch.float32, CPU, wide)
    own = torch.arange(7 if branch == "width" else 5).view((-1, 1) if branch == "width" else (-1, 1, 1))
    target = tensors.offset.detach() + own
    assert ((target >= -1e-5) & (target <= len(own) - 1 + 1e-5)).all() == wide
    ours, grad_x, grad_offset = tensors.sampling().train()
    theirs, grad_maps, grad_yx = tensors.sampling_by_deform_conv().train()
    torch.testing.assert_close(theirs.permute(0, 2, 3, 1), ours)
    torch.testing.assert_close(grad_maps.permute(0, 2, 3, 1), grad_x)
    along = grad_yx.unflatten(1, (4, 2, 2))[:, :, :, 1 if branch == "width" else 0].sum(2)
    torch.testing.assert_close(along.permute(0, 2, 3, 1), grad_offset, rtol=1e-4, atol=1e-5)
    lines, *_ = tensors.sampling_by_deform_conv1d().train()
    lines = lines.unflatten(0, (2, -1))  # [B, H, C, W] or [B, W, C, H]
    torch.testing.assert_close(lines.permute((0, 1, 3, 2) if branch == "width" else (0, 3, 1, 2)), ours)
