"""Merge recordings. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atmviz.errors import RecordingFormatError
from atmviz.files import clear_leftovers, temporary_folder
from atmviz.recording.layout import all_arrays
from atmviz.recording.store import Recording, open_recording
from atmviz.recording.writer import create_group, open_zarr

# Attributes in which merged recordings may differ
_VARYING = {
    *("images", "image_root", "dataset", "sampling", "seed"),
    *("versions", "device", "checkpoint_path", "merged_from"),
}
_BYTES_TOGETHER = 2**24  # chunks are copied together up to this size: faster than one by one, and of bounded memory


def merge_recordings(paths: Sequence[str | Path], out: str | Path) -> Recording:
    """Write one recording of all images of several, in the order given, and return it.

    All must be complete and differ in nothing but their images. Of consecutive chunk-aligned parts of a list, the
    merged arrays equal those of recording the whole list at once.

    Raises:
        RecordingFormatError: a recording is incomplete or differs, or `out` holds something else.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise RecordingFormatError("got no recordings to merge, expected one or more")
    parts = [open_recording(path) for path in paths]
    target = Path(out)
    existing = _merged_before(target, paths)
    attrs = _merged_attributes(parts, paths)
    if not existing:
        _write_merged(parts, attrs, target)
        existing = _merged_before(target, paths)
    if not existing or existing.attrs != attrs:
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
        raise RecordingFormatError(f"the image folders of {paths[0]} ... cannot be joined: {error}") from None
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
    }


def _write_merged(parts: Sequence[Recording], attrs: Mapping[str, Any], target: Path) -> None:
    for part in parts:
        if "counts" in part.quantities:
            for site in part.sites:
                part.counts(site.name)  # raises where a chunk is lost
    with temporary_folder(target.resolve().parent) as temporary, open_zarr() as zarr:
        made, chunks = temporary / "made", sum(part.chunks for part in parts)
        stored = all_arrays(parts[0].quantities.values(), parts[0].sites, len(attrs["images"]), chunks)
        for name, array in create_group(zarr, made, attrs, parts[0].sites, stored).items():
            start = 0
            for part in parts:
                for rows in part.raw_rows(name, _BYTES_TOGETHER):
                    array[start : start + len(rows)] = rows
                    start += len(rows)
        try:
            os.rename(made, target)
        except OSError:
            if not target.exists():  # else another process was first
                raise


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
