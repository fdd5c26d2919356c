"""Read files of weights as data: tensors are described first and read later, and nothing in a file is run.

The content tells files of torch.save (zip archives and older pickles) from safetensors, whatever their names.
"""

import codecs
import json
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from torch import Tensor

from atmviz.checkpoints.archives import read_archive, read_old_pickles
from atmviz.checkpoints.pickles import UnknownNameError
from atmviz.checkpoints.stored import StoredTensor, named_items
from atmviz.errors import CheckpointError, join_limited, shorten, summarize
from atmviz.files import require_tensors

# Kinds of weights, by their names in safetensors
_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_INTEGERS = {"I32": "int32", "I64": "int64"}  # of counters and indices
_MAX_EXPANDED_BYTES = 2**30  # memory for tensors whose strides repeat values
_MAX_HEADER_BYTES = 2**25
# What a damaged file makes the readers raise
_DAMAGE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, RuntimeError),
    *(struct.error, zipfile.BadZipFile, BufferError, OSError),
)


def read_tensors(path: Path) -> tuple[Any, dict[str, str]]:
    """Read what a file of torch.save or safetensors holds.

    Returns:
        The content, with each tensor as a `StoredTensor`, and the metadata of safetensors. Mappings keep their text
        keys; objects other than plain values and containers are None.

    Raises:
        CheckpointError: the file may not be read, is another kind of file, is damaged, or would run code.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # pickletools warns of odd text
            return _read_by_content(file, path)
    except PermissionError:
        raise CheckpointError(f"no permission to read {path}: ask its owner, or change its mode") from None
    except UnknownNameError as error:
        raise CheckpointError(
            f"{path} wants to run {shorten(str(error))!r} when loaded: refused, nothing was run. Expected tensors "
            "and plain values; re-save its state dict, or get the file from its authors"
        ) from None
    except SafetensorError as error:
        raise _damaged(f"{path} is not a whole safetensors file", error) from None
    except _DAMAGE as error:
        raise _damaged(f"{path} is damaged or no checkpoint", error) from None


def _damaged(problem: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{problem} ({shorten(summarize(error), 200)}): copy or download it again")


def _read_by_content(file: BinaryIO, path: Path) -> tuple[Any, dict[str, str]]:
    head = file.read(512)
    header_bytes = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header_bytes <= path.stat().st_size - 8:
        return _read_safetensors(file, header_bytes)
    if head.removeprefix(codecs.BOM_UTF8)[:1] == b"{":
        raise CheckpointError(f"{path} is {_describe_json(file)}")
    require_tensors(head, path)
    return (read_archive(file, path) if head[:2] == b"PK" else read_old_pickles(file)), {}


def _read_safetensors(opened: BinaryIO, header_bytes: int) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    if header_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {header_bytes} bytes")
    try:
        str(opened.name).encode()
        path = opened.name
    except UnicodeEncodeError:  # the library takes UTF-8 names alone
        path = f"/dev/fd/{opened.fileno()}"
    file: Any = safe_open(path, framework="pt")

    def describe(name: str) -> StoredTensor:
        part = file.get_slice(name)
        kind = part.get_dtype()
        # Copied, because they lie in the file at any address and kernels for aligned memory round differently
        load = lambda: file.get_tensor(name).clone()  # noqa: E731
        return StoredTensor((_FLOATS | _INTEGERS).get(kind, kind), tuple(part.get_shape()), load)

    return named_items((name, describe(name)) for name in file.keys()), file.metadata() or {}  # noqa: SIM118


def _describe_json(file: BinaryIO) -> str:
    """Return what a JSON file beside weights is, and what to do."""
    file.seek(0)
    try:
        shards = sorted({str(name) for name in json.loads(file.read(2**24).decode("utf-8-sig"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "a JSON file, which describes a model without its weights: expected the file of weights beside it"
    named = shorten(join_limited(shards, 3), 200)
    if len(shards) == 1:
        return f"the index of one file of weights: give that, {named}"
    return f"the index of {len(shards)} files of weights ({named}): merge their tensors into one file"


def read_weights(state: Mapping[str, StoredTensor], path: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict: floats, or integers that count or index.

    Raises:
        CheckpointError: a tensor cannot be a weight, lies outside the file, or has values that are not finite.
    """
    if others := {name: tensor.kind for name, tensor in state.items() if not _may_be_weight(name, tensor)}:
        named = join_limited((f"{shorten(name)} ({kind})" for name, kind in others.items()), 5)
        raise CheckpointError(
            f"{path} has {len(others)} tensors that are no weights: {named}; expected float16, bfloat16, float32 or "
            "float64: convert it back, or take the file before it was quantized"
        )
    total, size = sum(tensor.nbytes for tensor in state.values()), path.stat().st_size
    if total > max(size, _MAX_EXPANDED_BYTES):
        raise CheckpointError(
            f"{path} has {size} bytes and tensors of {total}: it is no checkpoint of a network, take another"
        )
    try:
        weights = {name: tensor.load() for name, tensor in state.items()}
    except _DAMAGE as error:
        raise _damaged(f"{path} is damaged", error) from None
    floats = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
    if bad := [shorten(name) for name, tensor in floats.items() if not tensor.isfinite().all()]:
        raise CheckpointError(
            f"{path} has NaN or infinite values in {join_limited(bad, 12)}: use an earlier checkpoint"
        )
    return weights


def _may_be_weight(name: str, tensor: StoredTensor) -> bool:
    is_counter = tensor.kind in _INTEGERS.values() and not name.endswith((".weight", ".bias"))
    return is_counter or tensor.kind in _FLOATS.values()
