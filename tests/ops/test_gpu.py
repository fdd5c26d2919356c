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


def test_kernels_pass_through_the_interpreter():
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
        Path(__file__).with_name("interpreted_gpu.py"),
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 60


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
