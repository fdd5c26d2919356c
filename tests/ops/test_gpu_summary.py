"""The Triton kernel of the summary: through the interpreter, compiled for a GPU, and on a GPU where there is one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

from atmviz.ops import summarize_offsets

COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from atmviz.ops.gpu_summary import _summarize as kernel

types = dict.fromkeys(kernel.arg_names, "i32") | {"offset": "*fp32", "distance": "*fp32"}
types |= {"outside": "*i32", "counts": "*i32", "TILE": "constexpr", "BINS": "constexpr"}
source = ASTSource(fn=kernel, signature=types, constexprs={"TILE": 1024, "BINS": 512})
print(compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"])
"""


def run(arguments, **environment):
    command, here = [sys.executable, *arguments], Path(__file__)
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, cwd=here.parents[2]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_kernel_passes_through_the_interpreter():
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.4"):
        pytest.skip("the interpreter of Triton 3.6 cannot loop with NumPy 2.4: needs one of them newer or older")
    file = Path(__file__).with_name("interpreted_gpu_summary.py")
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning"]
    printed = run(["-m", "pytest", *options, str(file)], TRITON_INTERPRET="1")
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 15


def test_the_kernel_compiles_for_an_h100_without_a_stack(tmp_path):
    pytest.importorskip("triton")
    ptx = run(["-c", COMPILE], TRITON_CACHE_DIR=str(tmp_path))
    assert ".target sm_90" in ptx
    assert "__local_depot" not in ptx


@pytest.mark.gpu
def test_on_a_gpu_counts_are_the_same_in_every_run():
    offset = 5 * torch.randn(8, 56, 56, 2, 32, device="cuda")
    first, second = summarize_offsets(offset), summarize_offsets(offset)
    assert all(map(torch.equal, first, second))
    for ours, theirs in zip(first[1:], summarize_offsets(offset.cpu())[1:], strict=True):
        assert torch.equal(ours.cpu(), theirs)
