"""Recordings while they are filled: whole chunks of images, each marked done when it is complete. Torch-free."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
            "layers": [site.to_json() for site in sites],
            "quantities": [StoredQuantity.of(quantity, sites).to_json() for quantity in quantities],
        }
        attrs = _as_json(
            {"schema_version": SCHEMA_VERSION, **identity, **context, **described, "axes": AXES},
        )
        self.arrays = arrays_of(attrs, sites)
        if not is_recording(path):
            if path.exists() and not _is_unfilled(path, self.arrays, _aliases(attrs, sites)):
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
            for run in _adjacent(new):
                self._write_run([chunks[chunk] for chunk in run], run[0], [chunk for chunk in run if chunk in done])
        except (KeyError, FileNotFoundError, RecordingFormatError) as error:
            raise RecordingFormatError(
                f"{self.path} was moved or changed while it was recorded ({short(error)}): "
                "start again, and leave it where it is"
            ) from None

    def _write_run(self, chunks: Sequence[Rows], first: int, again: Sequence[int]) -> None:
        """Write adjacent chunks; those that are written again count as not done meanwhile."""
        done = slice(first, first + len(chunks))
        start = first * CHUNK_IMAGES
        images = slice(start, start + sum(len(rows["status"]) for rows in chunks))
        with open_zarr() as zarr:
            arrays = {}
            for name in self.arrays:
                for chunk in range(done.start, done.stop):
                    self._files.file(name, chunk)  # no link leads elsewhere
                arrays[name] = zarr.open_array(self.path / name, mode="r+", zarr_format=3)
            for chunk in again:
                arrays["done"][chunk] = False
            for name, array in self.arrays.items():
                if name != "done":
                    values = np.concatenate([rows[name] for rows in chunks])
                    arrays[name][images if array.per_image else done] = values
            arrays["done"][done] = True

    def _create(self, attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> None:
        """Put everything but the images' values in place, the description of the recording last.

        A process killed before leaves nothing that hinders the next one. Two processes at once write the same.
        """
        with temporary_folder(self.path) as temporary, open_zarr() as zarr:
            made = temporary / "made"
            create_group(zarr, made, attrs, sites)
            for file in sorted(
                file for folder in made.iterdir() if not folder.is_symlink() for file in folder.rglob("*")
            ):
                if file.is_file():
                    target = self.path / file.relative_to(made)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file, target)
            _link_aliases(self.path, attrs, sites)
            if not is_recording(self.path):  # else another process was first
                os.replace(made / "zarr.json", self.path / "zarr.json")


def arrays_of(
    attrs: Mapping[str, Any], sites: Sequence[RecordedSite], chunks: int | None = None
) -> dict[str, StoredArray]:
    """Return every array of a recording with these attributes; `chunks` where they are not of regular length."""
    images = len(attrs["images"])
    chunks = -(-images // CHUNK_IMAGES) if chunks is None else chunks
    return all_arrays(stored_quantities(attrs, sites), sites, images, chunks)


def create_group(
    zarr: ModuleType, path: Path, attrs: Mapping[str, Any], sites: Sequence[RecordedSite], chunks: int | None = None
) -> dict[str, "zarr.Array"]:
    """Create a recording without values, and return its arrays; the coordinates are complete."""
    group = zarr.create_group(path, attributes=dict(attrs), zarr_format=3)
    about = {"status": {"description": "0 not recorded, 1 recorded, 2 skipped because unreadable (its rows are NaN)"}}
    about |= {"done": {"description": "whether a chunk of images is complete"}}
    for quantity in stored_quantities(attrs, sites):
        info = quantity.info
        names = quantity.arrays(sites, len(attrs["images"]), 1)
        about |= {name: {"description": info.description, "units": info.unit} for name in names}
    made = {
        name: group.create_array(
            name,
            shape=array.shape,
            chunks=array.chunk_shape,
            dtype=array.dtype,
            fill_value=array.fill,
            dimension_names=array.dims,
            attributes=about[name],
            compressors=[{"name": "zstd", "configuration": {"level": 1, "checksum": True}}],
        )
        for name, array in arrays_of(attrs, sites, chunks).items()
    }
    layers, sources = [site.name for site in sites], list(sources_of(sites))
    for name, values in zip(COORDINATES, (list(AXES), list(attrs["images"]), layers, sources), strict=True):
        coordinate = group.create_array(name, shape=(len(values),), dtype=str, dimension_names=(name,))
        # a name that is not UTF-8 as text shows it; the attributes have its bytes
        coordinate[:] = np.array([os.fsencode(value).decode("utf-8", "replace") for value in values], dtype=object)
    _link_aliases(path, attrs, sites)
    return made


def _aliases(attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> dict[str, str]:
    """Names such as `offset_3_18`, and the array `offset_3_13` that each stands for."""
    separate = [q.info.name for q in stored_quantities(attrs, sites) if q.info.separate and q.info.of == "source"]
    return {f"{name}_{s.name}": f"{name}_{s.source}" for name in separate for s in sites if not s.is_source}


def _link_aliases(path: Path, attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> None:
    """Let `offset_3_18` lead to `offset_3_13`, for zarr and xarray; not where the file system has no links."""
    for alias, array in _aliases(attrs, sites).items():
        with suppress(OSError):
            (path / alias).symlink_to(array, target_is_directory=True)


def _is_unfilled(path: Path, arrays: Mapping[str, StoredArray], aliases: Mapping[str, str]) -> bool:
    """Whether a folder is empty, but for what creating a recording there has begun with."""
    if not path.is_dir():
        return False
    for child in path.iterdir():
        if child.is_symlink():
            expected = child.name in aliases and os.readlink(child) == aliases[child.name]
        else:
            known = (
                {"zarr.json"} if child.name in arrays else {"zarr.json", "c"} if child.name in COORDINATES else set()
            )
            leftover = child.name.startswith(".atmviz-")
            expected = child.is_dir() and (leftover or {inner.name for inner in child.iterdir()} <= known)
        if not expected:
            return False
    return True


def _adjacent(numbers: Sequence[int]) -> list[list[int]]:
    """Rising numbers in runs of consecutive ones."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _as_json(value: Any) -> Any:
    """Tuples as lists, as a JSON round trip leaves them."""
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


@contextmanager
def open_zarr() -> Iterator[ModuleType]:
    """Load zarr under its own settings, whatever the user has set for other programs."""
    try:
        import zarr
    except Exception as error:  # whatever a settings file of the user's makes its parser raise
        raise AtmvizError(
            f"zarr cannot be loaded ({summarize(error)}): look at its settings ($ZARR_CONFIG, ~/.config/zarr)"
        ) from None
    with zarr.config.set(zarr.config.defaults[0]):
        yield zarr
