"""Errors a caller can put right. Every message says what was got, what was expected, what to do."""

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


class RecordingFormatError(AtmvizError):
    """A recording is missing, damaged, of another schema, or of another run."""


class RecipeError(AtmvizError):
    """A recipe has an unknown setting, a value of the wrong kind, or one that does not fit the data or the run."""


class TrainingError(AtmvizError):
    """A training run cannot start, go on, or be continued."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line; its class where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def printable(text: str) -> str:
    r"""The text with every sign that acts or cannot be shown (controls, bidi overrides, surrogates) as `\x1b`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def some_of(names: Iterable[str], limit: int) -> str:
    """Enough of a list for one line."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def shortened(text: str, limit: int = 80) -> str:
    """Enough of a text for one line."""
    return text if len(text) <= limit else f"{text[:limit]}..."
