"""Read files of weights as data: tensors are described first and read when they are wanted, and nothing acts.

Files of torch.save (zip archives and the older pickles) and of safetensors, told apart by what they hold. A pickle is
interpreted here and not by `pickle`: no name in it is imported, nothing is called, so that what it can cost is bounded.
`torch.load(weights_only=True)` takes the memory that a file declares, and refuses harmless values beside the weights.
"""

import codecs
import io
import json
import math
import mmap
import os
import pickletools
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atmviz.errors import CheckpointError, join_limited, shorten, summarize
from atmviz.files import foreign_content

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int32", "int64")  # of counters and indices
_EXPANDED_BYTES = 2**30  # to which tensors that repeat their values may grow
_MAX_STEPS = 5_000_000  # of a pickle: its opcodes, and the values that its calls are given
_MAX_HEADER = 2**25  # bytes
_MAX_DIMS = 8
_MAX_NAME = 1000  # characters of a tensor's

# torch's name of a storage's class -> its dtype
_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        **{"Half": "float16", "BFloat16": "bfloat16", "Float": "float32", "Double": "float64", "Bool": "bool"},
        **{"Char": "int8", "Byte": "uint8", "Short": "int16", "Int": "int32", "Long": "int64"},
        **{"ComplexFloat": "complex64", "ComplexDouble": "complex128"},
        **{"QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4"},
    }.items()
} | {"torch.storage.UntypedStorage": "uint8"}
_SAFETENSORS = {
    **{"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"},
    **{"I32": "int32", "I64": "int64"},
}
# How torch rebuilds tensors that no network here has as a weight
_OTHER_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_qtensor": "quantized",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
    "torch._utils._rebuild_device_tensor_from_numpy": "of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of another device",
}
# What training scripts leave beside the weights. It is passed over; any other name is refused.
_HARMLESS = {
    *("argparse.Namespace", "types.SimpleNamespace", "_codecs.encode", "copyreg._reconstructor"),
    *(f"builtins.{name}" for name in ("set", "frozenset", "bytearray", "bytes", "complex", "slice", "range", "object")),
    *(f"collections.{name}" for name in ("defaultdict", "Counter", "deque")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"pathlib.{one}Path" for one in ("", "Posix", "Windows", "PurePosix", "PureWindows")),
    *(f"pathlib._local.{one}Path" for one in ("", "Posix", "Windows", "PurePosix", "PureWindows")),
    *("numpy.dtype", "numpy.ndarray", "numpy.random.bit_generator.SeedSequence"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    *(f"numpy.random._pickle.__{one}_ctor" for one in ("randomstate", "generator", "bit_generator")),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
    *(f"numpy.random._{name.lower()}.{name}" for name in ("MT19937", "PCG64", "Philox", "SFC64")),
    *(f"numpy.{name}" for name in ("bool_", "bool", "str_", "bytes_", "float16", "float32", "float64")),
    *(f"numpy.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("torch.device", "torch.torch_version.TorchVersion", "torch.serialization._get_layout", "torch.Generator"),
    *(f"torch.per_{scheme}" for scheme in ("tensor_affine", "channel_affine", "channel_affine_float_qparams")),
    *("yacs.config.CfgNode", "easydict.EasyDict", "addict.addict.Dict", "mmcv.utils.config.ConfigDict"),
    *("mmengine.config.config.ConfigDict", "mmengine.logging.history_buffer.HistoryBuffer"),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata"),
    *("omegaconf.base.Metadata", "omegaconf.nodes.AnyNode", "typing.Any"),
    *("pytorch_lightning.utilities.parsing.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
    "lightning_fabric.utilities.data.AttributeDict",
} | {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # modules as protocol 2 writes them


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file describes it.

    Attributes:
        kind: Its dtype ("float32"), or what else it is ("sparse").
        shape: Sizes.
        load: Reads it.
        span: Values in the file from its first to its last one; fewer than it has where it repeats them.
    """

    kind: str
    shape: tuple[int, ...]
    load: Callable[[], Tensor]
    span: int = 0

    @property
    def nbytes(self) -> int:
        """Of what is read, or of all values where they repeat."""
        return max(math.prod(self.shape), self.span) * _dtype(self.kind).itemsize


def read_file(path: Path) -> tuple[Any, dict[str, str]]:
    """What a file of torch.save or safetensors holds, its tensors as `StoredTensor`, and its metadata.

    Mappings keep what has text for a key. Objects other than plain values and containers are None.

    Raises:
        CheckpointError: it may not be read, is something else, is damaged, or wants to run code.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # pickletools' own, of odd text
            head = file.read(512)
            length = int.from_bytes(head[:8], "little")
            if head[8:9] == b"{" and length <= path.stat().st_size - 8:
                return _read_safetensors(file, length)
            if problem := foreign_content(head):
                raise CheckpointError(f"{path} is {problem}")
            if head.removeprefix(codecs.BOM_UTF8)[:1] == b"{":
                raise CheckpointError(f"{path} is {_describe_json(file)}")
            if head[:1] not in b"P\x80" and head.isascii() and b"\0" not in head:
                raise CheckpointError(f"{path} is a text file, expected a checkpoint: copy or download it again")
            if head[:2] == b"PK":
                return _read_archive(file, path), {}
            return _read_old_pickles(file), {}
    except PermissionError:
        raise CheckpointError(f"no permission to read {path}: ask its owner, or change its mode") from None
    except _ForeignName as error:
        raise CheckpointError(
            f"{path} wants to run {shorten(str(error))!r} when loaded: refused, nothing was run. Expected tensors "
            "and plain values; re-save its state dict, or get the file from its authors"
        ) from None
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({shorten(summarize(error), 200)}): copy or download it again"
        ) from None
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({shorten(summarize(error), 200)}): copy or download it again"
        ) from None


def read_weights(state: Mapping[str, StoredTensor], path: Path) -> dict[str, Tensor]:
    """The tensors themselves, which are of floats, or integers that count or index.

    Raises:
        CheckpointError: not all can be weights, are within the file, or are finite.
    """
    others = {name: tensor.kind for name, tensor in state.items() if not _may_be_weight(name, tensor)}
    if others:
        named = join_limited((f"{shorten(name)} ({kind})" for name, kind in others.items()), 5)
        raise CheckpointError(
            f"{path} has {len(others)} tensors that are no weights: {named}; expected float16, bfloat16, float32 or "
            "float64: convert it back, or take the file before it was quantized"
        )
    total, size = sum(tensor.nbytes for tensor in state.values()), path.stat().st_size
    if total > max(size, _EXPANDED_BYTES):
        raise CheckpointError(
            f"{path} has {size} bytes and tensors of {total}: it is no checkpoint of a network, take another"
        )
    try:
        read = {name: tensor.load() for name, tensor in state.items()}
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} is damaged ({shorten(summarize(error), 200)}): copy or download it again"
        ) from None
    floats = {name: tensor for name, tensor in read.items() if tensor.is_floating_point()}
    bad = [shorten(name) for name, tensor in floats.items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"{path} has NaN or infinite values in {join_limited(bad, 12)}: use an earlier checkpoint"
        )
    return read


def _may_be_weight(name: str, tensor: StoredTensor) -> bool:
    counts = tensor.kind in _INTEGERS and not name.endswith((".weight", ".bias"))
    return tensor.kind in _FLOATS or counts


def _read_safetensors(opened: BinaryIO, header: int) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    if header > _MAX_HEADER:
        raise ValueError(f"a header of {header} bytes")
    try:
        str(opened.name).encode()
        place = opened.name
    except UnicodeEncodeError:  # a name the library cannot take
        place = f"/dev/fd/{opened.fileno()}"
    file: Any = safe_open(place, framework="pt")

    def describe(name: str) -> StoredTensor:
        part = file.get_slice(name)
        kind = part.get_dtype()
        # Copied: they lie in the file at any address, and kernels for aligned memory round differently.
        load = lambda: file.get_tensor(name).clone()  # noqa: E731
        return StoredTensor(_SAFETENSORS.get(kind, kind), tuple(part.get_shape()), load)

    return _texts((name, describe(name)) for name in file.keys()), file.metadata() or {}  # noqa: SIM118


def _describe_json(file: BinaryIO) -> str:
    """What a JSON file beside weights is, and what to do."""
    file.seek(0)
    try:
        shards = sorted({str(name) for name in json.loads(file.read(2**24).decode("utf-8-sig"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "a JSON file, which describes a model without its weights: expected the file of weights beside it"
    named = shorten(join_limited(shards, 3), 200)
    if len(shards) == 1:
        return f"the index of one file of weights: give that, {named}"
    return f"the index of {len(shards)} files of weights ({named}): merge their tensors into one file"


class _ForeignName(Exception):
    """A name in a pickle that is none of a harmless checkpoint's."""


_DAMAGE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, RuntimeError),
    *(struct.error, zipfile.BadZipFile, BufferError, OSError),
)


@dataclass(frozen=True)
class _Name:
    """A class or function that a pickle names."""

    text: str


class _Content:
    """The bytes of a file, also when its name is gone; one that shrinks meanwhile is an error, and no signal."""

    def __init__(self, file: BinaryIO) -> None:
        self.raw = io.FileIO(os.dup(file.fileno()), closefd=False)

    def __del__(self) -> None:
        os.close(self.raw.fileno())

    def fill(self, buffer: Any, start: int) -> None:
        self.raw.seek(start)
        view = memoryview(buffer).cast("B")
        while len(view):
            count = self.raw.readinto(view)
            if not count:
                raise ValueError("it ends early")
            view = view[count:]

    def read(self, start: int, length: int) -> bytearray:
        if start + length > os.fstat(self.raw.fileno()).st_size:
            raise ValueError("it ends early")
        found = bytearray(length)
        self.fill(found, start)
        return found


@dataclass
class _Storage:
    """Values in the file; `swapped` where this machine orders their bytes otherwise."""

    kind: str
    content: _Content
    start: int = 0
    nbytes: int = 0
    swapped: bool = False


def _read_archive(file: BinaryIO, path: Path) -> Any:
    """torch.save's zip archive: one pickle and one record for each storage, none compressed."""
    archive, content = zipfile.ZipFile(file), _Content(file)
    records = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if not pickles:
        kind = "a zip archive without a checkpoint of torch: unpack it, and give the file of weights"
        raise CheckpointError(f"{path} is {kind}")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in records:
        raise CheckpointError(f"{path} is a program (TorchScript), expected a state dict: save it from the network")

    def place_of(name: str) -> tuple[int, int]:
        """First byte and length of a record; not by zipfile, which refuses archives saved without checksums."""
        info = records[root + name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        lengths = struct.unpack("<HH", content.read(info.header_offset + 26, 4))
        return info.header_offset + 30 + sum(lengths), info.file_size

    order = bytes(content.read(*place_of("byteorder"))) if f"{root}byteorder" in records else b"little"
    storages: dict[str, _Storage] = {}

    def open_storage(saved: Any) -> _Storage:
        _, name, key = saved[:3]
        if _text(key) not in storages:
            place = place_of(f"data/{key}")
            storages[key] = _Storage(_STORAGES[name.text], content, *place, order.decode() != sys.byteorder)
        return storages[key]

    return _interpret(content.read(*place_of("data.pkl")), open_storage)


def _read_old_pickles(file: BinaryIO) -> Any:
    """What torch.save wrote before 1.6: five pickles, then the storages' lengths and values."""
    storages: dict[str, _Storage] = {}
    content = _Content(file)

    def open_storage(saved: Any) -> _Storage:
        _, name, key, _, _, view = saved
        if view is not None:
            raise ValueError("a view of a storage")
        return storages.setdefault(_text(key), _Storage(_STORAGES[name.text], content))

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, protocol, _system = (_interpret(data, open_storage) for _ in range(3))
        if (magic, protocol) != (0x1950A86A20F9469CFC6C, 1001):
            raise ValueError("no file of torch.save")
        found, keys = _interpret(data, open_storage), _interpret(data, open_storage)
        for key in keys:
            storage = storages[_text(key)]
            (length,) = struct.unpack("<q", data.read(8))
            storage.start, storage.nbytes = data.tell(), length * _dtype(storage.kind).itemsize
            data.seek(storage.start + storage.nbytes)
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text where a name belongs")
    return value


def _dtype(kind: str) -> torch.dtype:
    found = getattr(torch, kind, None)
    return found if isinstance(found, torch.dtype) else torch.uint8


def _interpret(source: Any, open_storage: Callable[[Any], _Storage]) -> Any:
    """The value of one pickle of protocols 2 to 5, as torch.save writes them.

    Raises:
        _ForeignName: it names something that a harmless checkpoint does not hold.
        ValueError, IndexError, KeyError, TypeError: it is none, or too long.
    """
    stack: list[Any] = []
    marked: list[list[Any]] = []
    memo: dict[int, Any] = {}
    steps = 0

    def spend(count: int) -> None:
        nonlocal steps
        steps += count
        if steps > _MAX_STEPS:
            raise ValueError(f"more than {_MAX_STEPS} steps")

    def since_mark() -> list[Any]:
        nonlocal stack
        found, stack = stack, marked.pop()
        return found

    value: Any
    for opcode, value, _ in pickletools.genops(source):
        spend(1)
        match opcode.name:
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case name if name in _VALUES:
                stack.append(value)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "MARK":
                marked.append(stack)
                stack = []
            case "TUPLE" | "FROZENSET":
                items = since_mark()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode.name[-1])
                if len(stack) < length:
                    raise IndexError("an empty stack")
                stack[-length:] = [tuple(stack[-length:])]
            case "SETITEM" | "SETITEMS":
                items = since_mark() if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                if isinstance(stack[-1], dict):
                    stack[-1].update(_texts(zip(items[::2], items[1::2], strict=True)))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = [stack.pop()] if opcode.name == "APPEND" else since_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "GLOBAL" | "STACK_GLOBAL":
                module, _, name = value.partition(" ") if value else (_text(stack.pop(-2)), "", _text(stack.pop()))
                stack.append(_known_name(f"{_PYTHON_2.get(module, module)}.{name}"))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack[-1] = _rebuild(stack[-1], arguments, spend)
            case "NEWOBJ_EX":
                stack[-3:] = [None]
            case "BUILD":
                stack.pop()  # attributes, of what has none here
            case "BINPERSID":
                stack[-1] = open_storage(stack[-1])
            case "STOP":
                return stack.pop()
            case "PROTO" | "FRAME":
                pass
            case name:
                raise ValueError(f"{name} in its pickle")
    raise EOFError


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _texts(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Only what has text for a key, which is all that state dicts have.

    Raises:
        ValueError: a tensor's name is absurdly long.
    """
    found = {key: value for key, value in pairs if isinstance(key, str)}
    for key, value in found.items():
        if isinstance(value, StoredTensor) and len(key) > _MAX_NAME:
            raise ValueError(f"a tensor's name of {len(key)} characters, expected at most {_MAX_NAME}")
    return found


def _known_name(text: str) -> _Name:
    known = (_HARMLESS, _STORAGES, _OTHER_TENSORS, _REBUILDS, {_TYPED})
    if len(text) > 200 or not any(text in names for names in known):
        raise _ForeignName(text)
    return _Name(text)


def _rebuild(function: Any, arguments: Any, spend: Callable[[int], None]) -> Any:
    """What a call in a pickle would give: a described tensor, a mapping, the one value of a wrapper, or None.

    What it is given is spent: a pickle may give the same long list to any number of calls.
    """
    if not isinstance(function, _Name):
        return None  # of an object passed over
    spend(len(arguments))
    spend(sum(len(one) for one in arguments if isinstance(one, list | tuple | dict)))
    if function.text == _TYPED:
        inner, _type, inner_arguments, _state = arguments
        return _rebuild(inner, inner_arguments, spend)
    if function.text in _OTHER_TENSORS:
        return StoredTensor(_OTHER_TENSORS[function.text], (), _refuse)
    return _REBUILDS.get(function.text, lambda *_: None)(*arguments)


def _tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
    """torch._utils._rebuild_tensor_v2, and _v3, whose storage has no dtype of its own."""
    kind = next((one.text.removeprefix("torch.") for one in rest if isinstance(one, _Name)), storage.kind)
    fits = len(shape) == len(stride) <= _MAX_DIMS
    if not fits or not all(type(one) is int and 0 <= one < 2**62 for one in (offset, *shape, *stride)):
        raise ValueError("a tensor without a shape")
    span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if 0 not in shape else 0

    def load() -> Tensor:
        values = torch.empty(span, dtype=_dtype(kind))
        if (offset + span) * values.itemsize > storage.nbytes:
            raise ValueError("a tensor outside its storage")
        if span:
            storage.content.fill(values.view(torch.uint8).numpy(), storage.start + offset * values.itemsize)
        if storage.swapped:
            values.untyped_storage().byteswap(values.dtype)
        view = values.as_strided(shape, stride)
        return view.clone() if view.numel() < span else view

    return StoredTensor(kind, tuple(shape), load, span)


def _refuse() -> Tensor:
    raise ValueError("a tensor that is no weight")


_REBUILDS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): _texts(pairs),
    "torch.Size": lambda sizes=(): sizes,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
}
_TYPED = "torch._tensor._rebuild_from_type_v2"  # calls another
