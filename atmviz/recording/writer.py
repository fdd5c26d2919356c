"""Write recordings: whole chunks of images, each marked done when it is complete. Torch-free."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from atmviz.errors import AtmvizError, RecordingFormatError, summarize
from atmviz.files import clear_leftovers, temporary_folder
from atmviz.observe.site import AXES, sources_of
from atmviz.recording.layout import (
    CHUNK_IMAGES,
    COORDINATES,
    SCHEMA_VERSION,
    SKIPPED,
    ArrayFiles,
    StoredArray,
    StoredQuantity,
    all_arrays,
    chunks_of,
    difference,
    is_recording,
    short,
    stored_quantities,
)
from atmviz.recording.quantities import QUANTITIES, Quantity
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording

if TYPE_CHECKING:
    import zarr

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
        self.arrays = all_arrays(stored_quantities(attrs, sites), sites, images, chunks_of(images))
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

    def write_chunks(self, chunks: Mapping[int, Rows]) -> None:
        """Write all arrays of some chunks of images, then mark these done.

        A chunk that already holds the same images, tried again or by another process, is left as it is. Adjacent chunks
        are written together, in little more time than one.

        Args:
            chunks: Every array but "done", by index of the chunk.

        Raises:
            RecordingFormatError: the recording is not there any more.
        """
        try:
            done = {c: self._files.read("status", c) for c in chunks if self._files.read("done", c)[0]}
            new = [c for c in sorted(chunks) if c not in done or (done[c] != chunks[c]["status"]).any()]
            for run in np.split(new, np.flatnonzero(np.diff(new) != 1) + 1) if new else []:
                self._write_run({chunk: chunks[chunk] for chunk in run.tolist()}, done.keys())
        except (KeyError, FileNotFoundError, RecordingFormatError) as error:
            raise RecordingFormatError(
                f"{self.path} was moved or changed while it was recorded ({short(error)}): "
                "start again, and leave it where it is"
            ) from None

    def _write_run(self, chunks: Mapping[int, Rows], done: Set[int]) -> None:
        """Write adjacent chunks; those that are done already count as not done meanwhile."""
        written = slice(min(chunks), max(chunks) + 1)
        start = written.start * CHUNK_IMAGES
        images = slice(start, start + sum(len(rows["status"]) for rows in chunks.values()))
        with open_zarr() as zarr:
            for name, chunk in product(self.arrays, chunks):  # no link leads elsewhere
                self._files.require_described(name)
                self._files.file(name, chunk)
            arrays = {name: zarr.open_array(self.path / name, mode="r+", zarr_format=3) for name in self.arrays}
            for chunk in done & chunks.keys():
                arrays["done"][chunk] = False
            for name, array in self.arrays.items():
                if name != "done":
                    values = np.concatenate([rows[name] for rows in chunks.values()])
                    arrays[name][images if array.per_image else written] = values
            arrays["done"][written] = True

    def _create(self, attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> None:
        """Write everything but the images' values, the description of the recording last.

        A process killed before that does not hinder the next. Two processes at once write the same.
        """
        with temporary_folder(self.path) as temporary, open_zarr() as zarr:
            made = temporary / "made"
            create_group(zarr, made, attrs, sites, self.arrays)
            for file in sorted(made.rglob("*")):
                if file.is_file() and file.parent != made:
                    target = self.path / file.relative_to(made)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file, target)
            _link_aliases(self.path, self.arrays)
            if not is_recording(self.path):  # else another process was first
                os.replace(made / "zarr.json", self.path / "zarr.json")


def create_group(
    zarr: ModuleType,
    path: Path,
    attrs: Mapping[str, Any],
    sites: Sequence[RecordedSite],
    arrays: Mapping[str, StoredArray],
) -> dict[str, "zarr.Array"]:
    """Create a recording without values, and return its arrays; the coordinates are complete."""
    group = zarr.create_group(path, attributes=dict(attrs), zarr_format=3)
    made = {
        name: group.create_array(
            name,
            shape=array.shape,
            chunks=array.chunk_shape,
            dtype=array.dtype,
            fill_value=array.fill,
            dimension_names=array.dims,
            attributes=dict(array.about),
            compressors=[{"name": "zstd", "configuration": {"level": 1, "checksum": True}}],
        )
        for name, array in arrays.items()
    }
    layers, sources = [site.name for site in sites], list(sources_of(sites))
    for name, values in zip(COORDINATES, (list(AXES), list(attrs["images"]), layers, sources), strict=True):
        coordinate = group.create_array(name, shape=(len(values),), dtype=str, dimension_names=(name,))
        # a name that is not UTF-8 as text shows it; the attributes have its bytes
        coordinate[:] = np.array([os.fsencode(value).decode("utf-8", "replace") for value in values], dtype=object)
    _link_aliases(path, arrays)
    return made


def _link_aliases(path: Path, arrays: Mapping[str, StoredArray]) -> None:
    """Let `offset_3_18` lead to `offset_3_13`, for zarr and xarray; not where the file system has no links."""
    for name, array in arrays.items():
        for alias in array.aliases:
            with suppress(OSError):
                (path / alias).symlink_to(name, target_is_directory=True)


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


@contextmanager
def open_zarr() -> Iterator[ModuleType]:
    """Load zarr with its default settings; the user's are for other programs."""
    try:
        import zarr
    except Exception as error:  # whatever a settings file of the user's makes its parser raise
        raise AtmvizError(
            f"zarr cannot be loaded ({summarize(error)}): look at its settings ($ZARR_CONFIG, ~/.config/zarr)"
        ) from None
    with zarr.config.set(zarr.config.defaults[0]):
        yield zarr
