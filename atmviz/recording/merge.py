"""Merge recordings. Torch-free."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from atmviz.errors import RecordingFormatError, describe
from atmviz.files import clear_leftovers, temporary_folder
from atmviz.recording.array_files import ArrayFiles, atomic_writes, create_arrays, create_group
from atmviz.recording.layout import all_arrays
from atmviz.recording.store import Recording, open_recording
from atmviz.recording.writer import coordinates

# Attributes in which merged recordings may differ
_VARYING = {
    *("images", "image_root", "dataset", "sampling", "seed"),
    *("versions", "device", "checkpoint_path", "merged_from", "parts"),
}


def merge_recordings(paths: Sequence[str | Path], out: str | Path) -> Recording:
    """Write one recording of all images of several, in the order given, and return it.

    All must be complete and differ in nothing but their images. Of consecutive chunk-aligned parts of a list, the
    merged arrays equal those of recording the whole list at once.

    Raises:
        RecordingFormatError: a recording is incomplete or differs, or `out` holds something else.
    """
    if isinstance(paths, str | Path | Recording) or not paths:
        raise RecordingFormatError(f"got {describe(paths)}, expected the folders of several recordings")
    parts = [open_recording(path) for path in paths]
    target = Path(out)
    existing = _merged_before(target, paths)
    attrs = _merged_attributes(parts, paths)
    if not existing:
        _write_merged(parts, attrs, target)
        existing = _merged_before(target, paths)
    if not existing or {"parts": attrs["parts"], **existing.attrs} != attrs:  # an older one names no parts
        raise _exists(target)
    clear_leftovers(target.resolve().parent)
    return existing


def _merged_attributes(parts: Sequence[Recording], paths: Sequence[str | Path]) -> dict[str, Any]:
    first = parts[0]
    for part in parts:
        if not part.complete:
            raise RecordingFormatError(f"{part.path} is incomplete: finish recording it first")
        differing = [key for key in first.attrs if key not in _VARYING and part.attrs.get(key) != first.attrs[key]]
        if differing:
            raise RecordingFormatError(f"{part.path} differs from {first.path} in {', '.join(differing)}")
    try:
        root = os.path.commonpath([part.attrs["image_root"] for part in parts])
    except ValueError as error:
        raise RecordingFormatError(f"the image folders of {paths[0]} and others cannot be joined: {error}") from None
    names = [
        Path(os.path.relpath(Path(part.attrs["image_root"]) / name, root)).as_posix()
        for part in parts
        for name in part.attrs["images"]
    ]
    if len(set(names)) < len(names):
        raise RecordingFormatError(f"{max(names, key=names.count)} is in several of them: leave one of them out")
    unequal = {key for part in parts for key in _VARYING if part.attrs.get(key) != first.attrs.get(key)}
    return {
        **first.attrs,
        **dict.fromkeys(unequal),
        "dataset": "+".join(dict.fromkeys(part.attrs["dataset"] for part in parts)),
        "images": names,
        "image_root": root,
        "merged_from": [str(path) for path in paths],
        "parts": [images for part in parts for images in part.attrs.get("parts", [len(part.attrs["images"])])],
    }


def _write_merged(parts: Sequence[Recording], attrs: Mapping[str, Any], target: Path) -> None:
    for part in parts:
        if "counts" in part.quantities:
            for site in part.sites:
                part.counts(site.name)  # raises where a chunk is lost
    chunks = sum(part.chunks for part in parts)
    arrays = all_arrays(parts[0].quantities.values(), parts[0].sites, len(attrs["images"]), chunks)
    with temporary_folder(target.resolve().parent) as temporary:
        made = temporary / "made"
        with atomic_writes(made) as write:
            create_arrays(made, arrays, coordinates(attrs, parts[0].sites), write)
            files = ArrayFiles(made, arrays)
            for name, array in arrays.items():
                stored = chain.from_iterable(part.raw_rows(name) for part in parts)
                for chunk, rows in enumerate(_regrouped(stored, array.rows)):
                    files.write(name, chunk, rows, write)
            create_group(made, attrs, write)
        try:
            os.rename(made, target)
        except OSError:
            if not target.exists():  # else another process was first
                raise


def _regrouped(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield the rows of all blocks, `size` at a time; the last ones may be fewer."""
    rest: list[np.ndarray] = []
    for block in blocks:
        rows = np.concatenate([*rest, block])
        whole = len(rows) // size * size
        yield from np.split(rows[:whole], whole // size) if whole else ()
        rest = [rows[whole:]]
    if rest and len(rest[0]):
        yield rest[0]


def _merged_before(target: Path, paths: Sequence[str | Path]) -> Recording | None:
    """Return the recording that the same merge gave before; RecordingFormatError for anything else at `target`."""
    if not os.path.lexists(target):
        return None
    try:
        existing = open_recording(target)
    except RecordingFormatError:
        raise _exists(target) from None
    if existing.attrs.get("merged_from") != [str(path) for path in paths]:
        raise _exists(target)
    return existing


def _exists(target: Path) -> RecordingFormatError:
    return RecordingFormatError(f"{target} exists: choose another name for the merged recording")
