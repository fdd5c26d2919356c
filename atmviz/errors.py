"""Errors the caller can put right. Each message says what was got, what was expected and what to do."""

from collections.abc import Iterable


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
