"""The Triton kernels: through Triton's interpreter on the CPU, and on a GPU where there is one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

from atmviz.ops import sample_along

BRANCHES = ("width", "height")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("file", ["interpreted_gpu.py", "interpreted_gpu_fusion.py"])
def test_kernels_pass_through_the_interpreter(file):
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("the interpreter of Triton 3.6 cannot loop with NumPy 2.4: needs one of them newer or older")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::DeprecationWarning",
        Path(__file__).with_name(file),
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert "skipped" not in done.stdout


# S, |O| and tokens of a line: the stages of T and L on maps of 224 px; those that make the same kernels are left out.
STAGES = [(2, 32, 56), (4, 32, 28), (4, 80, 14), (8, 64, 7), (2, 48, 56)]


@pytest.mark.parametrize(("shared", "offsets", "size"), STAGES)
def test_on_a_hopper_gpu_kernels_need_no_stack_and_load_whole_vectors(compile_for_sm90, shared, offsets, size):
    from atmviz.ops import gpu

    tensors = ("x", "offset", "out", "grad", "grad_x", "grad_offset")
    types = {**dict.fromkeys(tensors, "*bf16"), "sums": "*fp32"}
    tiles = {gpu._forward: gpu._forward_tile(size, offsets, shared), gpu._backward: gpu._backward_tile(offsets, shared)}
    for kernel, tile in tiles.items():
        code, stack = compile_for_sm90(kernel, types, REAL=gpu.tl.float32, **tile)
        assert stack == 0
        together = shared if kernel is gpu._forward else min(shared, 4)  # bfloat16 values that a thread loads at once
        assert {2: "LDG.E ", 4: "LDG.E.64 ", 8: "LDG.E.128 "}[together] in code
        assert "ATOM" not in code
        assert "RED" not in code


def test_on_a_hopper_gpu_the_weighted_sum_needs_no_stack_and_loads_whole_vectors(compile_for_sm90):
    from atmviz.ops import gpu_fusion

    maps = dict.fromkeys(("branches", "grad_branches"), ("*bf16",) * 3)
    types = {**maps, **dict.fromkeys(("out", "grad"), "*bf16"), **dict.fromkeys(("weights", "sums"), "*fp32")}
    _, settings = gpu_fusion._launch(torch.empty(2, 56, 56, 64).bfloat16(), torch.empty(2, 64, 3))
    del settings["sizes"]
    for kernel in (gpu_fusion._forward, gpu_fusion._backward):
        code, stack = compile_for_sm90(kernel, types, **settings)
        assert stack == 0
        assert "LDG.E.128 " in code
        assert "STG.E.128 " in code
        assert "ATOM" not in code


@pytest.mark.gpu
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "num_offsets"), [((2, 56, 56, 64), 32), ((2, 14, 14, 320), 80), ((1, 5, 7, 6), 2)])
@pytest.mark.parametrize("spread", [0.3, 4, 60])
def test_on_a_gpu_kernels_equal_the_reference(assert_equals_float64, branch, dtype, shape, num_offsets, spread):
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    offset = (spread * torch.randn(*shape[:3], num_offsets)).to(dtype)
    tokens, shifts = x.cuda().requires_grad_(), offset.cuda().requires_grad_()
    out = sample_along(tokens, shifts, branch)
    assert "sample_along" in str(out.grad_fn)
    results = (out.detach(), *torch.autograd.grad(out, (tokens, shifts), grad.cuda()))
    assert_equals_float64(results, x, offset, grad, {"height": 1, "width": 2}[branch])


def on_cuda(shape, num_offsets, spread, dtype=torch.float32, device="cuda"):
    """Features and offsets that learn, and a gradient of the output."""
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    offset = (spread * torch.randn(*shape[:3], num_offsets)).to(dtype)
    return x.to(device).requires_grad_(), offset.to(device).requires_grad_(), grad.to(device)


def both_ways(x, offset, grad, branch):
    out = sample_along(x, offset, branch)
    return (out.detach(), *torch.autograd.grad(out, (x, offset), grad))


@pytest.mark.gpu
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(
    ("shape", "num_offsets", "spread"),
    [
        ((2, 128, 128, 64), 32, 64),  # over the whole map
        ((1, 300, 300, 4), 2, 60),
        ((70_000, 1, 2, 2), 1, 1),  # more lines than a second dimension of programs could have
        ((70_000, 2, 1, 2), 1, 1),
    ],
)
def test_on_a_gpu_wide_offsets_long_lines_and_large_batches_equal_the_reference(
    assert_equals_float64, branch, shape, num_offsets, spread
):
    x, offset, grad = on_cuda(shape, num_offsets, spread)
    offset = ((256 * offset).round() / 256).detach().requires_grad_()  # positions are exact in float32
    results = both_ways(x, offset, grad, branch)
    axis = {"height": 1, "width": 2}[branch]
    assert_equals_float64(results, *(tensor.detach().cpu() for tensor in (x, offset, grad)), axis)


@pytest.mark.gpu
@pytest.mark.parametrize("branch", BRANCHES)
def test_on_a_gpu_two_runs_give_the_same_bits(branch):
    x, offset, grad = on_cuda((4, 56, 56, 64), 32, 20, torch.bfloat16)
    first = both_ways(x, offset, grad, branch)
    for _ in range(3):
        for one, other in zip(first, both_ways(x, offset, grad, branch), strict=True):
            assert torch.equal(one, other)


@pytest.mark.gpu
def test_on_a_second_gpu_kernels_run_where_the_tensors_are(assert_equals_float64):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x, offset, grad = on_cuda((2, 14, 14, 32), 8, 4, device="cuda:1")
    results = both_ways(x, offset, grad, "width")
    assert all(result.device == x.device for result in results)
    assert_equals_float64(results, *(tensor.detach().cpu() for tensor in (x, offset, grad)), 2)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # Inductor advises TF32, and uses deprecated parts of PyTorch
def test_on_a_gpu_forward_and_backward_are_recorded_in_cuda_graphs():
    x, offset, grad = on_cuda((2, 28, 28, 64), 16, 4)
    torch.compiler.reset()
    compiled = torch.compile(sample_along, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):  # warms up, records, replays
        out = compiled(x, offset, "width")
        results = [result.clone() for result in (out.detach(), *torch.autograd.grad(out, (x, offset), grad))]
    for result, eager in zip(results, both_ways(x, offset, grad, "width"), strict=True):
        assert torch.equal(result, eager)
