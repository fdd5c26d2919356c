"""What the kernels are held against, and their code for a GPU that is not there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from atmviz.ops import cpu, mlp, sampling
from atmviz.ops.reference import sample_reference

TOLERANCE = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 1e-5, "atol": 2e-5},
    # Computed in float32, rounded once, so half a unit in the last place of the result.
    torch.float16: {"rtol": 2**-11, "atol": 2e-5},
    # Triton's interpreter cuts bfloat16 off instead of rounding.
    torch.bfloat16: {"rtol": 2**-7 if os.environ.get("TRITON_INTERPRET") else 2**-8, "atol": 2e-5},
}


@pytest.fixture
def assert_equals_float64():
    """Output and gradients of one call beside the reference in float64."""

    def check(results, x, offset, grad, axis):
        """Output, gradient of x, gradient of offset, each in its own dtype, beside the reference in float64."""
        x64, offset64 = x.double().requires_grad_(), offset.double().requires_grad_()
        out = sample_reference(x64, offset64, axis)
        expected = (out.detach(), *torch.autograd.grad(out, (x64, offset64), grad.double()))
        for result, exact, dtype in zip(results, expected, (x.dtype, x.dtype, offset.dtype), strict=True):
            assert result.dtype == dtype
            torch.testing.assert_close(result.cpu().double(), exact, **TOLERANCE[dtype])

    return check


@pytest.fixture
def results():
    """Output and gradients of a function of tensors, given the output's gradient."""

    def run(function, inputs, grad):
        out = function(*inputs)
        return (out, *torch.autograd.grad(out, inputs, grad.to(out.dtype)))

    return run


@pytest.fixture(params=["kernels", "no compiler"])
def with_kernels(request, monkeypatch):
    """Runs a test with the CPU kernels and without them."""
    wanted = request.param == "kernels"
    if wanted and cpu.library() is None:
        pytest.skip("no C++ compiler")
    for module in (sampling, mlp):
        monkeypatch.setattr(module, "has_kernels", lambda device: wanted)


@pytest.fixture
def compile_for_sm90(tmp_path, monkeypatch):
    """`compile_for_sm90(kernel, types, **constants)`: a Triton kernel's instructions on a Hopper GPU, and its stack.

    `types` has the arguments that are tensors, or tuples of tensors. Other arguments are integers.
    """
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    cuobjdump = shutil.which("cuobjdump", path=f"{tools}:{os.environ['PATH']}")
    if not cuobjdump or not (tools / "ptxas").exists():
        pytest.skip("this Triton comes without ptxas or cuobjdump")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def compiled(kernel, types, num_warps, **constants):
        names = kernel.arg_names
        signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
        constexprs = {(names.index(name),): value for name, value in constants.items()}
        # As for the networks' maps: addresses and strides are multiples of 16; the number of lines and tokens is not.
        odd = {*constants, *(kernel.params[i].name for i in range(len(names)) if kernel.params[i].do_not_specialize)}
        paths = [
            path
            for i, name in enumerate(names)
            if name not in odd
            for path in ([(i, j) for j in range(len(types[name]))] if type(types.get(name)) is tuple else [(i,)])
        ]
        source = ASTSource(kernel, signature, constexprs, {path: [["tt.divisibility", 16]] for path in paths})
        cubin = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps}).asm["cubin"]
        file = tmp_path / "kernel.cubin"
        file.write_bytes(cubin)

        def dump(what):
            return subprocess.run([cuobjdump, what, file], capture_output=True, check=True, text=True).stdout

        return dump("-sass"), int(re.search(r"STACK:(\d+)", dump("-res-usage"))[1])

    return compiled
