"""Errors the caller can put right. Each message says what was got, what was expected and what to do."""

import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class AtmvizError(Exception):
    """Something the caller can put right; the command line prints it as one line."""


class CheckpointError(AtmvizError):
    """A checkpoint cannot be read, is unsafe, or does not fit the network."""


class DatasetError(AtmvizError):
    """A dataset folder or an image is missing, empty or unreadable."""


class LayerNotFoundError(AtmvizError):
    """A layer pattern names no layer of the model or recording."""


class QueryError(AtmvizError):
    """A query cannot be read or lies outside the image."""


class SettingsError(AtmvizError, ValueError):
    """A setting has a value that cannot be used, or two settings exclude each other."""


class RecordingFormatError(AtmvizError):
    """A recording is missing, damaged, of another schema, or of another run."""


class RecipeError(AtmvizError):
    """A recipe has an unknown setting, a value of the wrong kind, or one that does not fit the data or the run."""


class TrainingError(AtmvizError):
    """A training run cannot start or resume."""


def summarize(error: BaseException) -> str:
    """Return the first line of an error's message, or its class name where the message is empty."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return why a file operation failed, e.g. "Permission denied", without the path; for other errors, a summary."""
    return getattr(error, "strerror", None) or summarize(error)


def printable(text: str) -> str:
    r"""Return the text with control, bidirectional and surrogate characters escaped, as `\x1b`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def join_limited(names: Iterable[str], limit: int) -> str:
    """Join the first `limit` names with commas and count the rest.

    >>> join_limited(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def shorten(text: str, limit: int = 80) -> str:
    """Return the text, cut after `limit` characters."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known name that is nearest, or nothing.

    >>> nearest("layer", ["layers", "limit"])
    '; did you mean layers?'
    """
    matches = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {matches[0]}?" if matches else ""


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "image"), count(5000, "image")
    ('1 image', '5,000 images')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def describe(value: Any) -> str:
    """Return a short text for a value that was not expected: a plain value itself, the type of any other.

    >>> describe("3_18"), describe([3, 1]), describe(AtmvizError())
    ("'3_18'", '[3, 1]', 'AtmvizError')
    """
    is_plain = isinstance(value, str | int | float | tuple | list | dict | set | None)
    return reprlib.repr(value) if is_plain else str(value) if isinstance(value, Path) else type(value).__name__


def require_type(value: Any, types: Any, role: str, expected: str) -> None:
    """Raise SettingsError if the value of an argument has none of the types."""
    if not isinstance(value, types):
        raise SettingsError(f"got {describe(value)} as {role}, expected {expected}")
