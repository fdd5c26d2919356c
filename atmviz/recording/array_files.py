"""Read and write the files of a recording: the metadata and chunks of zarr v3. Torch-free.

Files are of unknown origin. zarr itself lets a file choose codecs, sizes and paths; here each array must be stored as
it is declared. zarr and xarray open what is written.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from atmviz.errors import RecordingFormatError, reason_of
from atmviz.files import read_limited, temporary_folder
from atmviz.recording.layout import ZSTD, StoredArray, short

Write = Callable[[Path, bytes], None]
"""Writes a file; see `atomic_writes`."""

_DESCRIPTION = "zarr.json"
_MAX_DESCRIPTION_BYTES = 2**28  # far above what a data set needs


class ArrayFiles:
    """Reads and writes the chunks of a recording's arrays; each must be stored as it is declared."""

    def __init__(self, path: Path, arrays: Mapping[str, StoredArray]) -> None:
        self.path, self.arrays = path, arrays
        self._root = path.resolve()
        self._described: set[str] = set()

    def whole(self, name: str) -> np.ndarray:
        """Return all rows, in the time that the existing chunk files take, however many the recording claims."""
        array = self.arrays[name]
        values = np.full(array.shape, array.fill, array.dtype)
        values[: array.rows] = self.read(name, 0)  # fails where the array may not be read
        try:
            existing = set(os.listdir(self._root / name / "c"))
        except FileNotFoundError:
            existing = set()
        except PermissionError as error:
            raise _unreadable(error) from None
        for chunk in range(1, self.chunks(name)):
            if str(chunk) in existing:
                values[chunk * array.rows : (chunk + 1) * array.rows] = self.read(name, chunk)
        return values

    def chunks(self, name: str) -> int:
        """Return the number of chunks of an array."""
        return -(-self.arrays[name].shape[0] // self.arrays[name].rows)

    def read(self, name: str, chunk: int, *, finished: bool = False) -> np.ndarray:
        """Return the rows of one chunk; the fill value where nothing was written.

        Args:
            name: The array.
            chunk: Index of the chunk.
            finished: Whether the chunk was written whole: then its file must be there.

        Raises:
            RecordingFormatError: its file is damaged or lost, or may not be read.
        """
        array = self.arrays[name]
        self._require_described(name)
        try:
            values = np.full(array.chunk_shape, array.fill, "uint8" if array.dtype == "bool" else array.dtype)
            with suppress(*() if finished else (FileNotFoundError,)):
                packed = _read(self._file(name, chunk), values.nbytes + values.nbytes // 64 + 1024)
                _zstd().decode(packed, out=values)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self.damaged(name, error) from None
        return values[: array.shape[0] - chunk * array.rows].astype(array.dtype, copy=False)

    def _require_described(self, name: str) -> None:
        """Raise RecordingFormatError if zarr's metadata of an array are not those that it is created with."""
        if name in self._described:
            return
        try:
            if not self.arrays[name].described_by(read_description(self._root / name, "array")):
                raise ValueError("not as atmviz makes it")
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self.damaged(name, error) from None
        self._described.add(name)

    def write(self, name: str, chunk: int, rows: np.ndarray, write: Write) -> None:
        """Write the rows of one chunk; the last chunk of an array may have fewer than the others."""
        array = self.arrays[name]
        self._require_described(name)
        values = np.full(array.chunk_shape, array.fill, np.dtype(array.dtype).newbyteorder("<"))
        values[: len(rows)] = rows
        write(self._file(name, chunk), _zstd().encode(values))

    def _file(self, name: str, chunk: int) -> Path:
        """Return the file of a chunk; RecordingFormatError where a link leads elsewhere."""
        file = self._root.joinpath(name, "c", str(chunk), *["0"] * (len(self.arrays[name].shape) - 1))
        if Path(os.path.realpath(file)) != file:
            raise self.damaged(name, OSError("a link"))
        return file

    def require_finite(self, name: str, rows: np.ndarray) -> None:
        """Raise RecordingFormatError if rows of recorded images hold NaN, as where nothing was written."""
        if not np.isfinite(rows).all():
            raise self.damaged(name)

    def damaged(self, name: str, error: Exception | None = None) -> RecordingFormatError:
        """Return the error for an array that cannot be read."""
        reason = f" ({short(reason_of(error))})" if error else ""
        return RecordingFormatError(f"array {name!r} in {self.path} is damaged{reason}: delete it and record again")


@contextmanager
def atomic_writes(path: Path) -> Iterator[Write]:
    """Give a function that writes files below a folder atomically, and makes their folders."""
    with temporary_folder(path) as temporary:

        def write(file: Path, content: bytes) -> None:
            part = temporary / file.name
            part.write_bytes(content)
            file.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, file)

        yield write


def create_arrays(
    path: Path, arrays: Mapping[str, StoredArray], coordinates: Mapping[str, Sequence[str]], write: Write
) -> None:
    """Write the metadata of arrays, links to them by their aliases, and coordinates with their values."""
    from numcodecs.vlen import VLenUTF8

    for name, array in arrays.items():
        write(path / name / _DESCRIPTION, _json(array.description()))
        for alias in array.aliases:  # `offset_3_18` leads to `offset_3_13`, where the file system has links
            with suppress(OSError):
                (path / alias).symlink_to(name, target_is_directory=True)
    for name, texts in coordinates.items():
        array = StoredArray((len(texts),), (name,), "string", "", len(texts))
        write(path / name / _DESCRIPTION, _json(array.description()))
        # a name that is not UTF-8 as text shows it; the attributes have its bytes
        readable = [os.fsencode(text).decode("utf-8", "replace") for text in texts]
        write(path / name / "c" / "0", _zstd().encode(VLenUTF8().encode(np.array(readable, object))))


def create_group(path: Path, attributes: Mapping[str, Any], write: Write) -> None:
    """Write the attributes of a recording: from then on it is one."""
    write(path / _DESCRIPTION, _json({"attributes": attributes, "zarr_format": 3, "node_type": "group"}))


def read_description(folder: Path, kind: str) -> dict[str, Any]:
    """Return the metadata of a "group" or an "array".

    Raises:
        RecordingFormatError: the file may not be read.
        ValueError: it describes another kind, or is a link.
    """
    file = folder / _DESCRIPTION
    if file.is_symlink():
        raise ValueError(f"{_DESCRIPTION} is a link")
    description = json.loads(_read(file, _MAX_DESCRIPTION_BYTES), parse_constant=_refuse)
    if description["node_type"] != kind or description["zarr_format"] != 3:
        raise ValueError(f"no {kind} of zarr 3")
    return description


@cache
def _zstd() -> Any:
    """Return the compressor of chunks; commands that open no recording do without its package."""
    from numcodecs.zstd import Zstd

    return Zstd(**ZSTD)


def is_recording(path: Path) -> bool:
    """Whether a folder looks like a recording, of whatever schema or state."""
    return (path / _DESCRIPTION).is_file()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, allow_nan=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_limited(path, limit)
    except PermissionError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> RecordingFormatError:
    return RecordingFormatError(f"cannot read {error.filename} ({error.strerror}): allow it to be read")
