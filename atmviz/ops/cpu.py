"""Builds the CPU kernels of `kernels.cpp` once per machine, and calls them."""

import ctypes
import errno
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atmviz.files import cache_folder, temporary_folder

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
_INSTRUCTIONS = {"AVX512": ("-march=x86-64-v4",), "AVX2": ("-march=x86-64-v3",)}
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_COLUMNS_TOGETHER = 8  # adjacent columns that a thread walks side by side
_TOKENS_TOGETHER = 64  # tokens of an image that a thread sums at once
_LOG = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """Load the compiled kernels; the first use builds them in two seconds and keeps them in the user's cache.

    None without a C++ compiler ($CXX, g++ or clang++) or outside Linux; the reference then does the work.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))), None)
    if sys.platform != "linux" or not compiler:
        return None
    flags = (*_FLAGS, *_INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ()))
    key = hashlib.sha256(repr((_SOURCE.read_bytes(), compiler, flags)).encode()).hexdigest()[:16]
    try:
        with _safe_folder() as folder:
            built = folder / f"{key}.so"
            if not (_is_safe(built) and _is_complete(built)):
                _build(compiler, flags, built)
            os.utime(built)  # when it was last used
            return ctypes.CDLL(str(built))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(error) if isinstance(error, OSError) else error.stderr.strip() or f"{compiler} failed"
        _LOG.warning("the CPU kernels cannot be built or loaded (%s): sampling runs slower", reason.splitlines()[-1])
        return None


@contextmanager
def _safe_folder() -> Iterator[Path]:
    """Yield this user's folder of kernels in the cache, or a temporary one if other users could write to that.

    Raises:
        OSError: there is no safe folder.
    """
    folder = (cache_folder() / f"kernels-{os.geteuid()}").resolve()
    folder.mkdir(0o700, exist_ok=True)
    if _is_safe(folder):
        yield folder
        return
    _LOG.warning(
        "other users can write to %s or a folder above it: the CPU kernels are rebuilt in each run (two seconds); "
        "remove that permission (chmod go-w), or choose another $ATMVIZ_CACHE",
        folder,
    )
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name).resolve()
        if not _is_safe(temporary):
            raise PermissionError(errno.EPERM, "other users can write there", name)
        yield temporary


def _is_safe(path: Path) -> bool:
    """Whether only this user and root can change or replace the file or folder at a path."""
    for part in (*reversed(path.parents), path):
        try:
            status = part.lstat()
        except FileNotFoundError:
            return False
        # In a sticky folder such as /tmp, other users can add files but not change those of this user.
        writable = status.st_mode & 0o022 and not (status.st_mode & stat.S_ISVTX and part != path)
        if stat.S_ISLNK(status.st_mode) or status.st_uid not in (0, os.geteuid()) or writable:
            return False
    return True


def _is_complete(built: Path) -> bool:
    """Whether a library ends in its checksum: loading one truncated by a full disk would crash the process."""
    content = built.read_bytes() if built.is_file() else b""
    return content[-_CHECKSUM_BYTES:] == hashlib.sha256(content[:-_CHECKSUM_BYTES]).digest()


def _build(compiler: str, flags: Iterable[str], built: Path) -> None:
    with temporary_folder(built.parent) as folder:
        compiled, linked = folder / "kernels.o", folder / "kernels.so"
        run = partial(subprocess.run, check=True, capture_output=True, encoding="utf-8", errors="replace")
        run([compiler, *flags, "-c", _SOURCE, "-o", compiled])
        # Linked without OpenMP: PyTorch's is used at load time, so both share one pool of threads.
        run([compiler, "-shared", compiled, "-o", linked])
        with linked.open("r+b") as file:  # loaders ignore bytes beyond those that the file's header names
            checksum = hashlib.sha256(file.read()).digest()
            file.write(checksum)
        linked.chmod(0o755)  # whatever the umask is: other users must not write it
        os.replace(linked, built)


def forward(x: Tensor, offset: Tensor, axis: int) -> Tensor:
    """Compute `sample_along` of tokens [B, H, W, C] and offsets [B, H, W, O] along axis 1 (H) or 2 (W), unchecked."""
    dtype = _arithmetic(x, offset)
    tokens, shifts = x.to(dtype).contiguous(), readable(offset.to(dtype))
    out = torch.empty_like(tokens)
    if x.numel():
        layouts = [_layout(tensor, axis) for tensor in (tokens, shifts)]
        _run("forward", dtype, tokens, shifts, out, _grid(tokens, shifts, axis), *layouts)
    return out.to(x.dtype)


def backward(grad: Tensor, x: Tensor, offset: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return gradients of x and offset, in their shapes and dtypes, from that of the output, [B, H, W, C]."""
    dtype = _arithmetic(x, offset)
    tokens, shifts, grad = x.to(dtype).contiguous(), readable(offset.to(dtype)), grad.to(dtype).contiguous()
    grad_x, grad_offset = torch.empty_like(tokens), torch.empty(offset.shape, dtype=dtype)
    if x.numel():
        layouts = [_layout(tensor, axis) for tensor in (tokens, shifts, grad_offset)]
        grid = _grid(tokens, shifts, axis)
        _run("backward", dtype, tokens, shifts, grad, grad_x, grad_offset, grid, *layouts)
    return grad_x.to(x.dtype), grad_offset.to(offset.dtype)


def weighted_sum(branches: list[Tensor], weights: Tensor) -> Tensor:
    """Add token maps [B, H, W, C], each multiplied by its weights of [B, C, branches]."""
    tokens, by_branch, dtype = _mixable(branches, weights)
    out = torch.empty_like(tokens[0])
    if out.numel():
        _run("weighted_sum", dtype, tokens, by_branch, out, _branches(tokens))
    return out.to(torch.promote_types(branches[0].dtype, weights.dtype))


def weighted_sum_backward(grad: Tensor, branches: list[Tensor], weights: Tensor) -> list[Tensor]:
    """Return gradients of the branches, then of their weights, in their shapes and dtypes, from that of the sum."""
    tokens, by_branch, dtype = _mixable(branches, weights)
    grad, grad_branches = grad.to(dtype).contiguous(), [torch.empty_like(tensor) for tensor in tokens]
    runs = -(-grad.shape[1] * grad.shape[2] // _TOKENS_TOGETHER)
    grad_weights = torch.empty(len(grad), runs, *by_branch.shape[1:], dtype=dtype)
    if grad.numel():
        tensors = (tokens, by_branch, grad, grad_branches, grad_weights)
        _run("weighted_sum_backward", dtype, *tensors, _branches(tokens))
    grad_branches = [gradient.to(tensor.dtype) for gradient, tensor in zip(grad_branches, branches, strict=True)]
    return [*grad_branches, grad_weights.sum(1).transpose(1, 2).to(weights.dtype).contiguous()]


def gelu_with_gradient(x: Tensor, grad: Tensor, out: Tensor) -> None:
    """Fill `out` with GELU(x) and turn `grad`, its gradient, into that of x; all contiguous and of one dtype."""
    _run("gelu_with_gradient", x.dtype, x, grad, out, x.numel())


def summarize(offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `summarize_offsets` of float32 offsets [B, H, W, 2, O]."""
    offset = offset.contiguous()
    batch, height, width, _, offsets = offset.shape
    reach = max(height, width)
    sums = torch.zeros(batch, 2, dtype=torch.float64)
    outside, counts = torch.zeros(batch, 2, dtype=torch.int64), torch.zeros(2, 2 * reach + 1, dtype=torch.int64)
    _run("summarize", offset.dtype, offset, sums, outside, counts, (batch, height, width, offsets, reach))
    return sums, outside, counts


def _arithmetic(x: Tensor, offset: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x.dtype, offset.dtype), torch.float32)


def _mixable(branches: Sequence[Tensor], weights: Tensor) -> tuple[list[Tensor], Tensor, torch.dtype]:
    """Convert branches, and weights to [B, branches, C], to what the kernels read."""
    dtype = _arithmetic(weights, branches[0])
    tokens = [tensor.to(dtype).contiguous() for tensor in branches]
    return tokens, weights.to(dtype).transpose(1, 2).contiguous(), dtype


def readable(offset: Tensor) -> Tensor:
    """Make channels adjacent; a view of one direction's offsets already is, and is not copied."""
    return offset if offset.stride(-1) == 1 else offset.contiguous()


def _run(name: str, dtype: torch.dtype, *arguments: Tensor | list[Tensor] | tuple[int, ...] | int) -> None:
    """Call a kernel for float32 or float64, on as many threads as PyTorch uses."""
    kernel = getattr(library(), f"{name}_{'double' if dtype == torch.float64 else 'float'}")
    kernel(*map(_as_c, arguments), torch.get_num_threads())


def _as_c(argument: Tensor | list[Tensor] | tuple[int, ...] | int) -> Any:
    """Pass a tensor by its address, a list by an array of addresses, integers as 64-bit ones."""
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, list):
        return (ctypes.c_void_p * len(argument))(*(tensor.data_ptr() for tensor in argument))
    if isinstance(argument, tuple):
        return (ctypes.c_int64 * len(argument))(*argument)
    return ctypes.c_int64(argument)


def _branches(tokens: Sequence[Tensor]) -> tuple[int, ...]:
    """The fields of `Branches` in kernels.cpp."""
    batch, height, width, channels = tokens[0].shape
    return batch, height * width, channels, len(tokens), _TOKENS_TOGETHER


def _grid(x: Tensor, offset: Tensor, axis: int) -> tuple[int, ...]:
    """The fields of `Grid` in kernels.cpp."""
    offsets = offset.shape[3]
    together = _COLUMNS_TOGETHER if axis == 1 else 1
    return x.shape[0], x.shape[3 - axis], x.shape[axis], offsets, x.shape[3] // offsets, together


def _layout(tensor: Tensor, axis: int) -> tuple[int, ...]:
    """The fields of `Strides` in kernels.cpp."""
    return tensor.stride(0), tensor.stride(3 - axis), tensor.stride(axis)
