"""How settings are declared: frozen dataclasses whose fields carry help text and range, and are checked. Torch-free.

The command line makes one option of each field, so a type, default, range and help text stand in one place.
"""

import functools
import inspect
import math
import operator
import re
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from atmviz.errors import AtmvizError, SettingsError, describe, nearest

F = TypeVar("F", bound=Callable[..., Any])


def setting(
    default: Any,
    help: str,
    panel: str,
    low: float | None = None,
    high: float | None = None,
    flags: tuple[str, ...] = (),
    read: Callable[[Any], Any] | None = None,
) -> Any:
    """Return a dataclass field with what people need to know of it.

    Args:
        default: Its value when nobody says otherwise.
        help: One sentence.
        panel: Heading it is listed under.
        low, high: Smallest and largest number.
        flags: Names on the command line; without them the field's, with hyphens.
        read: Takes a value and returns it in the field's form, or raises an AtmvizError; in place of a check by type.
    """
    about = {"help": help, "panel": panel, "low": low, "high": high, "flags": flags, "read": read}
    return field(default=default, metadata=about)


def read_device(device: Any) -> str:
    """Return the name of a device; raise SettingsError for a name that no machine's device has."""
    name = str(device)
    if not re.fullmatch(r"auto|(cpu|mps)(:0)?|cuda(:\d{1,3})?", name):
        near = nearest(name.lower(), ("auto", "cpu", "cuda", "mps"))
        raise SettingsError(f"got device {describe(name)}, expected auto, cpu, cuda, cuda:N or mps{near}")
    return name


def settings_under(panel: str) -> Callable[..., Any]:
    """Return `setting` for the settings under one heading: it takes all but the panel."""

    def under(default: Any, help: str, low: float | None = None, high: float | None = None, **about: Any) -> Any:
        return setting(default, help, panel, low, high, **about)

    return under


def settings_of(kind: type, without: tuple[str, ...] = ()) -> list[Field]:
    """Return the fields of a settings dataclass that were declared with `setting`."""
    return [declared for declared in fields(kind) if "help" in declared.metadata and declared.name not in without]


class Settings:
    """Base of settings dataclasses: a field is converted to its type and checked once, whoever makes the object.

    Raises:
        SettingsError: a value of another type or outside its choices or range. Subclasses may set another error.
    """

    _error: ClassVar[type[AtmvizError]] = SettingsError

    def __post_init__(self) -> None:
        for declared in settings_of(type(self)):
            value = _checked(declared, getattr(self, declared.name), self._error)
            object.__setattr__(self, declared.name, value)


_INVALID = object()
_MAX_TEXT = 4096  # characters: the longest path
_KINDS: dict[Any, tuple[str, ...]] = {
    int: ("a whole number",),
    float: ("a finite number",),
    bool: ("true or false",),
    str: ("text",),
    Path: ("a path",),
    type(None): (),
    tuple[float, ...]: ("finite numbers, e.g. 8,11",),
}


def _checked(declared: Field, value: Any, error: type[AtmvizError]) -> Any:
    """Return the value of a field, converted to its type."""
    name, about = declared.name, declared.metadata
    kinds: Any = get_args(declared.type) if get_origin(declared.type) in (types.UnionType, Union) else (declared.type,)
    if about["read"] and not (value is None and type(None) in kinds):
        typed = about["read"](value)
        if typed == () and declared.default:
            raise error(f"got no {name}, expected one or more")
        return typed
    typed = next((v for kind in kinds if (v := _as_kind(value, kind)) is not _INVALID), _INVALID)
    if typed is _INVALID:
        *names, last = [text for kind in kinds for text in _KINDS.get(kind, get_args(kind))]
        expected = f"{', '.join(names)} or {last}" if names else last
        near = (
            nearest(value.lower(), [text for text in (*names, last) if " " not in text])
            if isinstance(value, str)
            else ""
        )
        raise error(f"got {name}: {describe(value)}, expected {expected}{near}")
    low, high = about["low"], about["high"]
    if low is not None and typed is not None and (typed < low or (high is not None and typed > high)):
        upper = "" if high is None else f", at most {high}"
        raise error(f"got {name}: {describe(value)}, expected {low} or more{upper}")
    return typed


def _as_kind(value: Any, kind: Any) -> Any:
    """Return the value as that kind, or `_INVALID`. YAML reads 1e-3 as text and 1 as a whole number."""
    with suppress(TypeError, ValueError, OverflowError):
        if get_origin(kind) is Literal:
            is_valid = value in get_args(kind)
        elif get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) and value else value
            is_valid = isinstance(parts, list | tuple | str)
            numbers = [float(part) for part in parts] if is_valid else []
            is_valid = is_valid and all(map(math.isfinite, numbers))
            value = tuple(int(number) if number.is_integer() else number for number in numbers)
        elif kind is float:
            is_valid = not isinstance(value, bool) and math.isfinite(value := float(value))
        elif kind is int:
            is_valid = not isinstance(value, bool)
            value = operator.index(value)
        elif kind is str:
            is_valid = isinstance(value, str) and 0 < len(value) <= _MAX_TEXT
        else:
            is_valid = isinstance(value, kind)
        return value if is_valid else _INVALID
    return _INVALID


def split_settings(values: Mapping[str, Any], *kinds: type) -> list[Any]:
    """Return one settings object of each kind, made of the keyword arguments of a call.

    A keyword that several kinds have goes to the first of them.

    Raises:
        TypeError: a keyword is a setting of none of the kinds.
        SettingsError: a value that a kind refuses.
    """
    rest = dict(values)
    settings = [
        kind(**{declared.name: rest.pop(declared.name) for declared in settings_of(kind) if declared.name in rest})
        for kind in kinds
    ]
    require_known(rest, {declared.name for kind in kinds for declared in settings_of(kind)})
    return settings


def require_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError, as for an argument that a function does not have, at the first name that is not known."""
    known = sorted(known)
    for name in names:
        if name not in known:
            raise TypeError(
                f"got an unexpected keyword argument {name!r}, expected one of {', '.join(known)}{nearest(name, known)}"
            )


def with_keywords(*kinds: type, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Show settings as keyword arguments in the signature of a function that takes them as `**settings`.

    The function then refuses other keywords. Those in `without` are not shown.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        shown = {p.name: p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD}
        known = {*shown, *(declared.name for kind in kinds for declared in settings_of(kind))}
        for declared in (declared for kind in kinds for declared in settings_of(kind, without)):
            parameter = inspect.Parameter(
                declared.name, inspect.Parameter.KEYWORD_ONLY, default=declared.default, annotation=declared.type
            )
            shown.setdefault(declared.name, parameter)

        @functools.wraps(function)
        def called(*args: Any, **given: Any) -> Any:
            require_known(given, known)
            return function(*args, **given)

        called.__signature__ = signature.replace(parameters=list(shown.values()))  # type: ignore[attr-defined]
        return called  # type: ignore[return-value]

    return decorate
