"""Converts the values of recipe settings to their types. Torch-free."""

import contextlib
import difflib
import math
import reprlib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from atmviz.errors import RecipeError, shorten

_MAX_TEXT = 4096  # characters in a setting: the longest path


def typed_values(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to their settings' types: YAML reads 1e-3 as text and 1 as an integer.

    Raises:
        RecipeError: a setting is unknown (the nearest is named), or a value has another type.
    """
    typed = {}
    for key, value in values.items():
        if key not in hints:
            name = shorten(str(key))
            raise RecipeError(f"no recipe setting {name!r}: a printed recipe lists them all{nearest(name, hints)}")
        kinds = get_args(hints[key]) if get_origin(hints[key]) in (types.UnionType, Union) else (hints[key],)
        typed[key] = next((v for kind in kinds if (v := _as_kind(value, kind)) is not _INVALID), _INVALID)
        if typed[key] is _INVALID:
            names = [" or ".join(get_args(k)) if get_origin(k) is Literal else _KINDS[k] for k in kinds]
            raise RecipeError(f"got {key}: {reprlib.repr(value)}, expected {' or '.join(names)}")
    return typed


_INVALID = object()
_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    tuple[int, ...]: "whole numbers, e.g. 8,11",
}


def _as_kind(value: Any, kind: Any) -> Any:
    """Return the value as that kind, or `_INVALID`."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if get_origin(kind) is Literal:
            is_valid = value in get_args(kind)
        elif get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) and value else value
            is_valid = isinstance(parts, list | tuple | str)
            value = tuple(int(part) for part in parts) if is_valid else value
        elif kind is float and not isinstance(value, bool) and isinstance(value, int | float | str):
            is_valid = math.isfinite(value := float(value))
        elif kind is str:
            is_valid = isinstance(value, str) and 0 < len(value) <= _MAX_TEXT
        else:
            is_valid = type(value) is kind
        return value if is_valid else _INVALID
    return _INVALID


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known name that is nearest, or nothing."""
    matches = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {matches[0]}?" if matches else ""
