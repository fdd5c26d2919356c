"""Interpret pickles of torch.save without importing or calling anything they name, at a bounded cost.

`torch.load(weights_only=True)` allocates as much memory as a file declares, and refuses harmless values beside the
weights; both are why it is not used here.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from atmviz.checkpoints.stored import StoredTensor, dtype_of, named_items

if TYPE_CHECKING:
    from atmviz.checkpoints.archives import FileContent

_MAX_STEPS = 5_000_000  # opcodes of a pickle, and values that its calls are given
_MAX_DIMS = 8

# torch's name of a storage's class -> its dtype
STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        **{"Half": "float16", "BFloat16": "bfloat16", "Float": "float32", "Double": "float64", "Bool": "bool"},
        **{"Char": "int8", "Byte": "uint8", "Short": "int16", "Int": "int32", "Long": "int64"},
        **{"ComplexFloat": "complex64", "ComplexDouble": "complex128"},
        **{"QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4"},
    }.items()
} | {"torch.storage.UntypedStorage": "uint8"}
# Functions that rebuild tensors which cannot be weights here
_OTHER_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_qtensor": "quantized",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
    "torch._utils._rebuild_device_tensor_from_numpy": "of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of another device",
}
# Classes that training scripts save beside the weights; their objects are skipped
_HARMLESS = {
    *("argparse.Namespace", "types.SimpleNamespace", "_codecs.encode", "copyreg._reconstructor"),
    *(f"builtins.{name}" for name in ("set", "frozenset", "bytearray", "bytes", "complex", "slice", "range", "object")),
    *(f"collections.{name}" for name in ("defaultdict", "Counter", "deque")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"pathlib.{system}Path" for system in ("", "Posix", "Windows", "PurePosix", "PureWindows")),
    *(f"pathlib._local.{system}Path" for system in ("", "Posix", "Windows", "PurePosix", "PureWindows")),
    *("numpy.dtype", "numpy.ndarray", "numpy.random.bit_generator.SeedSequence"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("randomstate", "generator", "bit_generator")),
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
_PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # modules as protocol 2 writes them


class UnknownNameError(Exception):
    """A pickle names a class or function that is not known to be harmless."""


@dataclass(frozen=True)
class _Name:
    """The name of a class or function in a pickle."""

    text: str


@dataclass
class Storage:
    """Values in a file; `swapped` where this machine has the other byte order."""

    kind: str
    content: "FileContent"
    start: int = 0
    nbytes: int = 0
    swapped: bool = False


def require_text(value: Any) -> str:
    """Return the value if it is text.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError("no text where a name belongs")
    return value


def interpret(source: Any, open_storage: Callable[[Any], Storage]) -> Any:
    """Return the value of one pickle of protocol 2 to 5, as torch.save writes them.

    Args:
        source: Bytes, or a file at the start of the pickle.
        open_storage: Called with what the pickle says of a storage.

    Raises:
        UnknownNameError: it names something that a harmless checkpoint does not hold.
        ValueError, IndexError, KeyError, TypeError: it is damaged, or takes too many steps.
    """
    return _Interpreter(open_storage).run(source)


class _Interpreter:
    """The stack machine of a pickle."""

    def __init__(self, open_storage: Callable[[Any], Storage]) -> None:
        self.open_storage = open_storage
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def run(self, source: Any) -> Any:
        for opcode, value, _ in pickletools.genops(source):
            self.spend(1)
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name not in _OPCODES:
                raise ValueError(f"{opcode.name} in its pickle")
            _OPCODES[opcode.name](self, value)
        raise EOFError

    def spend(self, count: int) -> None:
        self.steps += count
        if self.steps > _MAX_STEPS:
            raise ValueError(f"more than {_MAX_STEPS} steps")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, value: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, value: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def join(self, length: int) -> None:
        if len(self.stack) < length:
            raise IndexError("an empty stack")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def set_items(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(named_items(zip(items[::2], items[1::2], strict=True)))

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def push_name(self, value: str | None) -> None:
        if value:
            module, _, name = value.partition(" ")
        else:
            module, name = require_text(self.stack.pop(-2)), require_text(self.stack.pop())
        self.push(_known_name(f"{_PYTHON_2_MODULES.get(module, module)}.{name}"))

    def call(self, value: Any) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.rebuild(self.stack[-1], arguments)

    def call_with_keywords(self, value: Any) -> None:
        self.stack[-3:] = [None]

    def push_storage(self, value: Any) -> None:
        self.stack[-1] = self.open_storage(self.stack[-1])

    def rebuild(self, function: Any, arguments: Any) -> Any:
        """Return what a call gives: a described tensor, a mapping, the value inside a wrapper, or None.

        Arguments count as steps, because a pickle may give one long list to any number of calls.
        """
        if not isinstance(function, _Name):
            return None  # the object was skipped
        self.spend(len(arguments))
        self.spend(sum(len(value) for value in arguments if isinstance(value, list | tuple | dict)))
        if function.text == _TYPED:
            inner, _type, inner_arguments, _state = arguments
            return self.rebuild(inner, inner_arguments)
        return _CALLS[function.text](*arguments)


_VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_OPCODES: dict[str, Callable[[_Interpreter, Any], object]] = {
    **dict.fromkeys(_VALUES, _Interpreter.push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Interpreter.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    **dict.fromkeys(("TUPLE", "FROZENSET"), lambda machine, _: machine.push(tuple(machine.pop_to_mark()))),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Interpreter.push_name),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Interpreter.call),
    "MEMOIZE": _Interpreter.memoize,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "MARK": _Interpreter.mark,
    "TUPLE1": lambda machine, _: machine.join(1),
    "TUPLE2": lambda machine, _: machine.join(2),
    "TUPLE3": lambda machine, _: machine.join(3),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "NEWOBJ_EX": _Interpreter.call_with_keywords,
    "BUILD": lambda machine, _: machine.stack.pop(),  # the attributes of an object that was skipped
    "BINPERSID": _Interpreter.push_storage,
}


def _known_name(text: str) -> _Name:
    if text not in _CALLS and text != _TYPED:
        raise UnknownNameError(text)
    return _Name(text)


def _describe_tensor(storage: Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
    """Describe the tensor of torch._utils._rebuild_tensor, _v2, or _v3, whose storage has no dtype."""
    kind = next((value.text.removeprefix("torch.") for value in rest if isinstance(value, _Name)), storage.kind)
    fits = len(shape) == len(stride) <= _MAX_DIMS
    if not fits or not all(type(size) is int and 0 <= size < 2**62 for size in (offset, *shape, *stride)):
        raise ValueError("a tensor without a shape")
    span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if 0 not in shape else 0

    def load() -> Tensor:
        values = torch.empty(span, dtype=dtype_of(kind))
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


def _describe_other(kind: str, *arguments: Any) -> StoredTensor:
    return StoredTensor(kind, (), _refuse)


# All names that a pickle may call, and what it gets; any other name is refused
_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys((*_HARMLESS, *STORAGES), lambda *_: None),
    **{name: partial(_describe_other, kind) for name, kind in _OTHER_TENSORS.items()},
    "collections.OrderedDict": lambda pairs=(): named_items(pairs),
    "torch.Size": lambda sizes=(): sizes,
    "torch._utils._rebuild_tensor": _describe_tensor,
    "torch._utils._rebuild_tensor_v2": _describe_tensor,
    "torch._utils._rebuild_tensor_v3": _describe_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
}
_TYPED = "torch._tensor._rebuild_from_type_v2"  # calls another of these functions
