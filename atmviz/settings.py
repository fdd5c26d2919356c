"""How settings are declared: frozen dataclasses whose fields carry help text and range. Torch-free.

The command line makes one option of each field, so a type, default, range and help text stand in one place.
"""

from dataclasses import Field, field, fields
from typing import Any

from atmviz.errors import shorten


def setting(
    default: Any,
    help: str,
    panel: str,
    low: float | None = None,
    high: float | None = None,
    flags: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with what people need to know of it.

    Args:
        default: Its value when nobody says otherwise.
        help: One sentence.
        panel: Heading it is listed under.
        low, high: Least and greatest number.
        flags: Names on the command line; without them its own, with hyphens.
    """
    return field(default=default, metadata={"help": help, "panel": panel, "low": low, "high": high, "flags": flags})


def settings_of(kind: type, without: tuple[str, ...] = ()) -> list[Field]:
    """The fields of a settings dataclass that were declared with `setting`."""
    return [one for one in fields(kind) if "help" in one.metadata and one.name not in without]


def require_ranges(settings: Any, error: type[Exception] = ValueError) -> None:
    """Raises `error` if a number of a settings dataclass lies outside the range declared for it."""
    for declared in settings_of(type(settings)):
        value, low, high = getattr(settings, declared.name), declared.metadata["low"], declared.metadata["high"]
        if value is None or low is None or low <= value <= (float("inf") if high is None else high):
            continue
        upper = "" if high is None else f", at most {high}"
        raise error(f"got {declared.name}: {shorten(str(value))}, expected {low} or more{upper}")
