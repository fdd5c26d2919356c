"""Write recordings: whole chunks of images, each marked done when it is complete. Torch-free."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from atmviz.errors import RecordingFormatError, SettingsError
from atmviz.files import clear_leftovers
from atmviz.observe.site import AXES, sources_of
from atmviz.recording.array_files import ArrayFiles, atomic_writes, create_arrays, create_group, is_recording
from atmviz.recording.layout import (
    CHUNK_IMAGES,
    COORDINATES,
    SCHEMA_VERSION,
    SKIPPED,
    StoredArray,
    StoredQuantity,
    all_arrays,
    chunks_of,
    difference,
    short,
    stored_quantities,
)
from atmviz.recording.quantities import QUANTITIES, Quantity
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording

Rows = Mapping[str, np.ndarray]
"""Arrays of one chunk by name: a row per image, or the one row of an array per chunk."""


class RecordingWriter:
    """Creates a recording, or continues one of the same identity.

    Args:
        path: Folder of the recording.
        identity: Attributes that make two recordings the same (model, checkpoint, preprocessing, images, ...).
        context: Attributes that may differ between the runs that fill it (versions, device, paths).
        sites: The sites to record.
        quantities: What to record of them.

    Raises:
        SettingsError: two quantities do not go together, or a quantity is too large.
        RecordingFormatError: `path` holds something else, or a recording of another identity.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        context: Mapping[str, Any],
        sites: Sequence[RecordedSite],
        quantities: Sequence[Quantity] = QUANTITIES,
    ) -> None:
        self.path = path = path.resolve()
        described = {
            "layers": [asdict(site) for site in sites],
            "quantities": [asdict(StoredQuantity.of_sites(quantity, sites)) for quantity in quantities],
        }
        attrs = {"schema_version": SCHEMA_VERSION, **identity, **context, **described, "axes": AXES}
        attrs = json.loads(json.dumps(attrs))  # as they will be read
        images = len(attrs["images"])
        try:
            self.arrays = all_arrays(stored_quantities(attrs, sites), sites, images, chunks_of(images))
        except ValueError as error:
            raise SettingsError(
                f"cannot record {', '.join(quantity.name for quantity in quantities)}: {error}"
            ) from None
        if not is_recording(path):
            if path.exists() and not _is_unfilled(path, self.arrays):
                raise RecordingFormatError(f"{path} exists and is no recording: choose another folder")
            self._create(attrs, sites)
        existing = Recording(path).attrs
        if "merged_from" in existing:  # its chunks are not regular: none could be written again
            raise RecordingFormatError(f"{path} holds a merged recording: choose another folder")
        keys = ("schema_version", *identity, *described)
        if differing := [key for key in keys if existing.get(key) != attrs[key]]:
            shown = ", ".join(difference(key, existing.get(key), attrs[key]) for key in differing)
            raise RecordingFormatError(f"{path} holds another recording ({shown}): choose another folder")
        self._files = ArrayFiles(path, self.arrays)
        clear_leftovers(path)

    @property
    def finished(self) -> np.ndarray:
        """Which chunks need no recording, [chunks]; a chunk with an unreadable image is tried again."""
        status, done = self._files.whole("status"), self._files.whole("done")
        done[np.flatnonzero(status == SKIPPED) // CHUNK_IMAGES] = False
        return done

    def write_chunk(self, chunk: int, rows: Rows) -> None:
        """Write all arrays of a chunk of images, then mark it done.

        A chunk that already holds the same images, tried again or by another process, is left as it is.

        Args:
            chunk: Index of the chunk.
            rows: Every array but "done".

        Raises:
            RecordingFormatError: the recording is not there any more.
        """
        try:
            if not is_recording(self.path):
                raise FileNotFoundError("it is gone")
            done = self._files.read("done", chunk)[0]
            if done and (self._files.read("status", chunk) == rows["status"]).all():
                return
            with atomic_writes(self.path) as write:
                if done:  # it does not count while it is replaced
                    self._files.write("done", chunk, np.array([False]), write)
                for name, values in rows.items():
                    self._files.write(name, chunk, values, write)
                self._files.write("done", chunk, np.array([True]), write)
        except (FileNotFoundError, RecordingFormatError) as error:
            raise RecordingFormatError(
                f"{self.path} was moved or changed while it was recorded ({short(error)}): "
                "start again, and leave it where it is"
            ) from None

    def _create(self, attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> None:
        """Write everything but the images' values, the description of the recording last.

        A process killed before that does not hinder the next. Two processes at once write the same.
        """
        with atomic_writes(self.path) as write:
            create_arrays(self.path, self.arrays, coordinates(attrs, sites), write)
            if not is_recording(self.path):  # else another process was first
                create_group(self.path, attrs, write)


def coordinates(attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> dict[str, list[str]]:
    """Return the coordinates of a recording of sites, by name."""
    values = list(AXES), list(attrs["images"]), [site.name for site in sites], list(sources_of(sites))
    return dict(zip(COORDINATES, values, strict=True))


def _is_unfilled(path: Path, arrays: Mapping[str, StoredArray]) -> bool:
    """Whether a folder is empty, but for what creating a recording there has begun with."""
    aliases = {alias: name for name, array in arrays.items() for alias in array.aliases}
    contents = {**dict.fromkeys(arrays, ("zarr.json",)), **dict.fromkeys(COORDINATES, ("zarr.json", "c"))}

    def is_ours(child: Path) -> bool:
        if child.is_symlink():
            return os.readlink(child) == aliases.get(child.name)
        leftover, known = child.name.startswith(".atmviz-"), contents.get(child.name, ())
        return child.is_dir() and (leftover or all(inner.name in known for inner in child.iterdir()))

    return path.is_dir() and all(map(is_ours, path.iterdir()))
