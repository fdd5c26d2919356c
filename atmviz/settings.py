"""How settings are declared: frozen dataclasses whose fields carry help text and range. Torch-free.

The command line makes one option of each field, so a type, default, range and help text stand in one place.
"""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from atmviz.errors import SettingsError, shorten

F = TypeVar("F", bound=Callable[..., Any])


def setting(
    default: Any,
    help: str,
    panel: str,
    low: float | None = None,
    high: float | None = None,
    flags: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field with what people need to know of it.

    Args:
        default: Its value when nobody says otherwise.
        help: One sentence.
        panel: Heading it is listed under.
        low, high: Smallest and largest number.
        flags: Names on the command line; without them its own, with hyphens.
    """
    return field(default=default, metadata={"help": help, "panel": panel, "low": low, "high": high, "flags": flags})


def as_tuple(values: Sequence[str] | str) -> tuple[str, ...]:
    """Return several texts as they are, and a single one as the only one of several."""
    return (values,) if isinstance(values, str) else tuple(values)


def settings_of(kind: type, without: tuple[str, ...] = ()) -> list[Field]:
    """Return the fields of a settings dataclass that were declared with `setting`."""
    return [declared for declared in fields(kind) if "help" in declared.metadata and declared.name not in without]


def require_ranges(settings: Any, error: type[Exception] = ValueError) -> None:
    """Raise `error` if a setting is not one of its choices, or a number lies outside its range."""
    hints = get_type_hints(type(settings))
    for declared in settings_of(type(settings)):
        value, low, high = getattr(settings, declared.name), declared.metadata["low"], declared.metadata["high"]
        choices = _choices(hints[declared.name])
        if choices and value not in choices:
            shown = ", ".join(str(choice) for choice in choices if choice is not None)
            raise error(f"got {declared.name}: {shorten(str(value))}, expected one of {shown}")
        if value is None or low is None:
            continue
        whole = hints[declared.name] in (int, int | None)
        if isinstance(value, int if whole else int | float) and low <= value <= (value if high is None else high):
            continue
        upper = "" if high is None else f", at most {high}"
        kind = ", a whole number" if whole else ""
        raise error(f"got {declared.name}: {shorten(str(value))}, expected {low} or more{upper}{kind}")


def _choices(hint: Any) -> tuple[Any, ...]:
    """Return the values that a Literal, or a Literal or None, allows; none for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    kinds = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else ()
    literals = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    return (*literals, None) if literals and type(None) in kinds else ()


def split_settings(values: Mapping[str, Any], *kinds: type) -> list[Any]:
    """Return one settings object of each kind, made of the keyword arguments of a call.

    A keyword that several kinds have goes to the first of them.

    Raises:
        TypeError: a keyword is a setting of none of the kinds.
        SettingsError: a value that a kind refuses.
    """
    rest = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    settings: list[Any] = []
    for kind in kinds:
        values_of_kind = {
            declared.name: rest.pop(declared.name) for declared in settings_of(kind) if declared.name in rest
        }
        try:
            settings.append(kind(**values_of_kind))
            require_ranges(settings[-1])
        except ValueError as error:
            raise SettingsError(str(error)) from None
    if rest:
        known = {declared.name for kind in kinds for declared in settings_of(kind)}
        raise TypeError(f"got setting {min(rest)!r}, expected one of {', '.join(sorted(known))}")
    return settings


def with_keywords(*kinds: type, without: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Show settings as keyword arguments in the signature of a function that takes them as `**settings`."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
        parameters += [
            inspect.Parameter(
                declared.name, inspect.Parameter.KEYWORD_ONLY, default=declared.default, annotation=declared.type
            )
            for kind in kinds
            for declared in settings_of(kind, without)
        ]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return decorate
