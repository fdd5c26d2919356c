"""The recording on disk: a zarr v3 group that says by itself what it is. Torch-free.

Legend: N images, G layers that generate offsets, L layers, O distinct offsets per direction, S channels sharing one,
n tokens along an axis, R the largest n. Axis 0 of every "axis" dimension is horizontal, axis 1 vertical.

    offset_<layer>   [N, 2, O]        float32  offsets of the query token, tokens; one array per generating layer
    mean_abs_offset  [N, G, 2]        float32  mean |offset| over all tokens, tokens
    outside_share    [N, G, 2]        float64  share of all samples whose nearest token is outside the map
    fusion           [N, L, branches] float32  fusion weights, averaged over channels
    counts           [chunks, G, 2, 2R + 1] int64  samples of all tokens by nearest integer offset -R ... R; a layer of
                                                   n tokens uses -n ... n, where -n and n hold all that is beyond
    status           [N]              uint8    0 not recorded, 1 recorded, 2 skipped (unreadable image)
    done             [chunks]         bool     written last: what a chunk of images holds is complete

Images are recorded in chunks of fixed size, each written whole. A recording killed at any moment keeps its finished
chunks; started again it records the others, with the same batches and so the same bits.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numcodecs.zstd import Zstd

from atmviz.errors import AtmvizError, DatasetError, LayerNotFoundError, RecordingFormatError, shorten, summarize
from atmviz.files import clear_leftovers, read_limited, temporary_folder
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId, find_layer
from atmviz.observe.site import AXES
from atmviz.recording.sites import MAX_SITES, RecordedSite

if TYPE_CHECKING:
    import zarr

SCHEMA_VERSION = 2
_READABLE = (1, 2)
CHUNK_IMAGES = 64
NOT_RECORDED, RECORDED, SKIPPED = 0, 1, 2
_DESCRIPTIONS = {
    "offset": "offsets of the query token, in tokens, positive to the right and down; axis: horizontal, vertical",
    "mean_abs_offset": "mean |offset| over all tokens, in tokens; source: generating layers in order of `layers`",
    "outside_share": "share of all samples whose nearest token is outside the map, 0 to 1; source as above",
    "fusion": "fusion weights averaged over channels; layer: `layers` in order, branch: their `branches`",
    "counts": "samples of all tokens by nearest integer offset; bin k is offset k minus the middle bin",
    "status": "0 not recorded, 1 recorded, 2 skipped because unreadable (its rows are NaN)",
    "done": "whether a chunk of images is complete",
}
# What recordings that are merged may differ in.
_VARYING = {
    *("images", "image_root", "dataset", "sampling", "seed"),
    *("versions", "device", "checkpoint_path", "merged_from"),
}
# What a recording must say of itself, and of what kind it is; see `_fits`.
_KINDS: dict[str, Any] = {
    "schema_version": int,
    **dict.fromkeys(("model", "query", "dataset", "image_root"), str),
    "checkpoint": {"sha256": str, "trained": (bool, None)},
    "preprocessing": dict,
    "input_size": [int],
    "images": [str],
    "layers": [dict],
}
# What it may say besides.
_OPTIONAL = {
    *("model_config", "seed", "sampling", "batch_size", "decoding", "axes"),
    *("checkpoint_path", "device", "versions", "merged_from"),
}
# Bounds for files that nobody vouches for, far above what a network or data set needs
_MOST_DESCRIPTION_BYTES = 2**28
_MOST_CHUNK_BYTES = 2**26
_CHUNKS_TOGETHER = 16  # when merging: faster than one by one, and of bounded memory


def open_recording(path: str | Path) -> "Recording":
    """Open a recording for reading.

    Raises:
        RecordingFormatError: there is none, it is damaged, or it has another schema version.
    """
    return Recording(Path(path))


class Recording:
    """A recording opened for reading; layers are named as everywhere (`"3_18"`, a `LayerId`).

    Attributes:
        attrs: What the recording says of itself: model, checkpoint, preprocessing, query, images, seed, versions.
            Known keys alone, and of the kinds that `record` writes.
        trained: False for seeded weights, None where nobody said.
        preprocessing: How its images were fitted to the network.
        sites: The recorded sites, in order; those that reuse offsets are aliases of their source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.attrs = _read_description(path, "group")["attributes"]
            schema = self.attrs["schema_version"]
        except PermissionError as error:
            raise _unreadable(error) from None
        except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise RecordingFormatError(
                f"no recording in {path} ({type(error).__name__}): expected a folder made by `atmviz record`"
            ) from None
        if schema not in _READABLE:
            versions = self.attrs.get("versions")
            maker = versions.get("atmviz") if isinstance(versions, dict) else None
            raise RecordingFormatError(
                f"{path} has schema {_short(schema)}, expected {' or '.join(map(str, _READABLE))}: "
                "record again, or use the atmviz that "
                f"made it ({_short(maker or 'unknown')})"
            )
        try:
            self.attrs = _checked(self.attrs)
            self.trained: bool | None = self.attrs["checkpoint"]["trained"]
            self.sites = [RecordedSite.from_json(data) for data in self.attrs["layers"]]
            if len({len(site.branches) for site in self.sites}) > 1:
                raise ValueError("layers of unequal branches")
            self.preprocessing = Preprocessing.from_json(self.attrs["preprocessing"])
            images = len(self.attrs["images"])
            chunks = -(-images // CHUNK_IMAGES)
            if "merged_from" in self.attrs:  # of parts whose last chunks need not be full
                chunks = _read_description(path / "done", "array")["shape"][0]
                if not -(-images // CHUNK_IMAGES) <= chunks <= images:
                    raise ValueError(f"{chunks} chunks of {images} images")
            self._files = _Files(path, _schema(images, self.sites, chunks))
        except PermissionError as error:
            raise _unreadable(error) from None
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise RecordingFormatError(f"{path} is damaged ({_short(error)}): record again") from None
        self._done = self._files.whole("done")
        self._status = self._finished(self._files.whole("status"))

    @property
    def images(self) -> list[str]:
        """Names of the recorded images, in the order of every array, below `attrs["image_root"]`."""
        return [name for name, status in zip(self.attrs["images"], self._status, strict=True) if status == RECORDED]

    @property
    def skipped(self) -> list[str]:
        """Names of the images that could not be read."""
        return [name for name, status in zip(self.attrs["images"], self._status, strict=True) if status == SKIPPED]

    @property
    def complete(self) -> bool:
        return bool(self._done.all())

    @property
    def model(self) -> str:
        return str(self.attrs["model"])

    def __len__(self) -> int:
        """Number of recorded images."""
        return int((self._status == RECORDED).sum())

    def require_all(self) -> None:
        """Raises DatasetError if an image was skipped."""
        if self.skipped:
            raise DatasetError(
                f"{len(self.skipped)} images of {self.path} could not be read, the first {self.skipped[0]}: "
                "replace them and record again, or go without --strict"
            )

    def __repr__(self) -> str:
        state = "" if self.complete else f", incomplete: {len(self)} of {len(self._status)} images"
        return f"<Recording {self.path}: {self.model} on {self.attrs['dataset']}, {len(self)} images{state}>"

    def site(self, layer: str | LayerId) -> RecordedSite:
        """Return what is known of a layer; raises LayerNotFoundError, listing the recorded layers."""
        names = [site.name for site in self.sites]
        try:
            return self.sites[names.index(find_layer(layer, names))]
        except LayerNotFoundError as error:
            raise LayerNotFoundError(f"{error} in {self.path}") from None

    def offsets(self, layer: str | LayerId) -> np.ndarray:
        """Offsets of the query token for every channel, [N, 2, C], float32, tokens (axis 1: horizontal, vertical).

        With several samples per channel (Fig. 2, B), those of the first sample come first, [N, 2, samples * C].
        """
        return np.repeat(self.distinct_offsets(layer), self.site(layer).channels_per_offset, axis=2)

    def distinct_offsets(self, layer: str | LayerId) -> np.ndarray:
        """Offsets of the query token as the network stores them, [N, 2, O], float32, tokens."""
        return self._rows(f"offset_{self.site(layer).source}")

    def mean_abs_offset(self, layer: str | LayerId) -> np.ndarray:
        """Mean |offset| over all tokens, [N, 2], tokens."""
        return self._rows("mean_abs_offset", self._sources.index(self.site(layer).source))

    def outside_share(self, layer: str | LayerId) -> np.ndarray:
        """Share of all samples whose nearest token is outside the map, [N, 2], 0 to 1."""
        return self._rows("outside_share", self._sources.index(self.site(layer).source))

    def fusion(self, layer: str | LayerId) -> np.ndarray:
        """Fusion weights, averaged over channels, [N, branches], in the order of `site(layer).branches`."""
        return self._rows("fusion", self.sites.index(self.site(layer)))

    def counts(self, layer: str | LayerId) -> tuple[np.ndarray, np.ndarray]:
        """Samples of all tokens by nearest integer offset: horizontal [2W + 1] and vertical [2H + 1], int64.

        Index k of n tokens' counts stands for offset k - n; the first and last entry hold all that is beyond.

        Raises:
            RecordingFormatError: they do not add up to one sample per token, offset and image.
        """
        info = self.site(layer)
        total = self._counts[self._sources.index(info.source)]
        middle = total.shape[1] // 2
        expected = len(self) * info.grid[0] * info.grid[1] * info.num_offsets
        if (total.sum(axis=1) != expected).any():
            raise self._files.damaged("counts")
        height, width = info.grid
        return total[0, middle - width : middle + width + 1], total[1, middle - height : middle + height + 1]

    def _finished(self, status: np.ndarray) -> np.ndarray:
        """The status of each image, as not recorded in chunks that were not finished."""
        finished = np.ones(len(status), bool)
        if not self.complete and "merged_from" in self.attrs:
            raise self._files.damaged("done")  # only complete recordings are merged
        if not self.complete:
            finished = np.repeat(self._done, CHUNK_IMAGES)[: len(status)]
        if not np.isin(status[finished], (RECORDED, SKIPPED)).all():
            raise self._files.damaged("status")
        return np.where(finished, status, NOT_RECORDED)

    @cached_property
    def _counts(self) -> np.ndarray:
        total = np.zeros(self._files.arrays["counts"].shape[1:], np.int64)
        for chunk in np.flatnonzero(self._done).tolist():
            total += self._files.read("counts", chunk)[0]
        return total

    @property
    def _sources(self) -> list[str]:
        return list(dict.fromkeys(info.source for info in self.sites))

    def _rows(self, array: str, index: int | None = None) -> np.ndarray:
        """The rows of recorded images, of one layer where the array holds several."""
        recorded = self._status == RECORDED
        parts = [np.empty((0, *self._files.arrays[array].shape[1:]), self._files.arrays[array].dtype)]
        for chunk in np.unique(np.flatnonzero(recorded) // CHUNK_IMAGES).tolist():
            rows = self._files.read(array, chunk)
            parts.append(rows[recorded[chunk * CHUNK_IMAGES :][: len(rows)]])
            self._require_finite(array, parts[-1])
        values = np.concatenate(parts)
        return values if index is None else values[:, index]

    def _require_finite(self, array: str, recorded: np.ndarray) -> None:
        if not np.isfinite(recorded).all():  # NaN where nothing was written
            raise self._files.damaged(array)


@dataclass(frozen=True)
class _Array:
    """An array of the schema: its chunks hold `rows` of its first axis and all of the others, each in a file."""

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    fill: float
    rows: int

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (self.rows, *self.shape[1:])

    def described_by(self, found: Mapping[str, Any]) -> bool:
        """Whether zarr's metadata are those that the array is created with."""
        values, packing = found["codecs"]
        return (
            found["shape"] == list(self.shape)
            and found["data_type"] == self.dtype
            and found["fill_value"] == ("NaN" if np.isnan(self.fill) else self.fill)
            and found["chunk_grid"] == {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}}
            and found["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
            and values in ({"name": "bytes"}, {"name": "bytes", "configuration": {"endian": "little"}})
            and packing["name"] == "zstd"
        )


def _schema(images: int, layers: Sequence[RecordedSite], chunks: int) -> dict[str, _Array]:
    """Every array; unwritten values read as NaN (floats), 0 or False."""
    sources = {info.source: info for info in layers}
    reach = max(max(info.grid) for info in layers)
    many, nan = min(CHUNK_IMAGES, images), float("nan")
    per_source = (images, len(sources), 2), ("image", "source", "axis")
    fusion = (images, len(layers), len(layers[0].branches)), ("image", "layer", "branch")
    counts = (chunks, len(sources), 2, 2 * reach + 1), ("chunk", "source", "axis", "bin")
    offsets = {
        f"offset_{source}": _Array(
            (images, 2, info.num_offsets), ("image", "axis", f"offset_index_{source}"), "float32", nan, many
        )
        for source, info in sources.items()
    }
    return {
        **offsets,
        "mean_abs_offset": _Array(*per_source, "float32", nan, many),
        "outside_share": _Array(*per_source, "float64", nan, many),
        "fusion": _Array(*fusion, "float32", nan, many),
        "counts": _Array(*counts, "int64", 0, 1),
        "status": _Array((images,), ("image",), "uint8", NOT_RECORDED, many),
        "done": _Array((chunks,), ("chunk",), "bool", False, 1),
    }


class _Files:
    """The arrays of a recording as they lie on disk, read as the schema says that they were written.

    Read by zarr, files could choose codecs, sizes and places themselves: theirs may be anybody's.
    """

    def __init__(self, path: Path, arrays: Mapping[str, _Array]) -> None:
        self.path, self.arrays = path, arrays
        self._root = path.resolve()
        self._described: set[str] = set()
        for name, array in arrays.items():
            if math.prod(array.chunk_shape) * np.dtype(array.dtype).itemsize > _MOST_CHUNK_BYTES:
                raise ValueError(f"chunks of {name} above {_MOST_CHUNK_BYTES:,} bytes")

    def whole(self, name: str) -> np.ndarray:
        """All rows; in the time that the chunks there take, however many the recording claims."""
        array = self.arrays[name]
        values = np.full(array.shape, array.fill, array.dtype)
        values[: array.rows] = self.read(name, 0)  # sees also whether the array may be read
        try:
            there = set(os.listdir(self._root / name / "c"))
        except FileNotFoundError:
            there = set()
        except PermissionError as error:
            raise _unreadable(error) from None
        for chunk in range(1, self.chunks(name)):
            if str(chunk) in there:
                values[chunk * array.rows : (chunk + 1) * array.rows] = self.read(name, chunk)
        return values

    def read_many(self, name: str, chunks: Iterable[int]) -> np.ndarray:
        return np.concatenate([self.read(name, chunk) for chunk in chunks])

    def chunks(self, name: str) -> int:
        return -(-self.arrays[name].shape[0] // self.arrays[name].rows)

    def read(self, name: str, chunk: int) -> np.ndarray:
        """The rows of one chunk; the fill value where nothing was written.

        Raises:
            RecordingFormatError: its file is damaged, or may not be read.
        """
        array = self.arrays[name]
        try:
            if name not in self._described:
                if not array.described_by(_read_description(self._root / name, "array")):
                    raise ValueError("not as atmviz makes it")
                self._described.add(name)
            values = np.full(array.chunk_shape, array.fill, "uint8" if array.dtype == "bool" else array.dtype)
            with suppress(FileNotFoundError):
                packed = read_limited(self.file(name, chunk), values.nbytes + values.nbytes // 64 + 1024)
                Zstd().decode(packed, out=values)
        except PermissionError as error:
            raise _unreadable(error) from None
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self.damaged(name, error) from None
        return values[: array.shape[0] - chunk * array.rows].astype(array.dtype, copy=False)

    def file(self, name: str, chunk: int) -> Path:
        """Raises RecordingFormatError where a link leads elsewhere."""
        file = self._root.joinpath(name, "c", str(chunk), *["0"] * (len(self.arrays[name].shape) - 1))
        if Path(os.path.realpath(file)) != file:
            raise self.damaged(name, OSError("a link"))
        return file

    def damaged(self, name: str, error: Exception | None = None) -> RecordingFormatError:
        reason = f" ({_short(error)})" if error else ""
        return RecordingFormatError(f"array {name!r} in {self.path} is damaged{reason}: delete it and record again")


class RecordingWriter:
    """Creates a recording, or continues one of the same identity.

    Args:
        path: Folder of the recording.
        identity: Attributes that make two recordings the same (model, checkpoint, preprocessing, images, ...).
        context: Attributes that may differ between the runs that fill it (versions, device, paths).
        layers: The layers to record.

    Raises:
        RecordingFormatError: `path` holds something else, or a recording of another identity.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, Any], context: Mapping[str, Any], layers: Sequence[RecordedSite]
    ) -> None:
        self.path = path = path.resolve()
        self.layers = list(layers)
        attrs = _as_json(
            {
                "schema_version": SCHEMA_VERSION,
                **identity,
                **context,
                "layers": [info.to_json() for info in layers],
                "axes": AXES,
            }
        )
        schema = _schema(len(attrs["images"]), self.layers, -(-len(attrs["images"]) // CHUNK_IMAGES))
        if not is_recording(path):
            if path.exists() and not _is_unfilled(path, schema):
                raise RecordingFormatError(f"{path} exists and is no recording: choose another --out")
            self._create(attrs)
        found = Recording(path).attrs
        differing = [key for key in ("schema_version", *identity, "layers") if found.get(key) != attrs[key]]
        if "merged_from" in found:  # its chunks are not regular: none could be written again
            raise RecordingFormatError(f"{path} holds a merged recording: choose another --out")
        if differing:
            shown = ", ".join(_difference(key, found.get(key), attrs[key]) for key in differing)
            raise RecordingFormatError(f"{path} holds another recording ({shown}): choose another --out")
        self._files = _Files(path, schema)
        clear_leftovers(path)

    @property
    def finished(self) -> np.ndarray:
        """Which chunks need no recording, [chunks]; one with an unreadable image is tried again."""
        status, done = self._files.whole("status"), self._files.whole("done")
        done[np.flatnonzero(status == SKIPPED) // CHUNK_IMAGES] = False
        return done

    def write_chunks(self, chunks: Mapping[int, Mapping[str, np.ndarray]]) -> None:
        """Write all arrays of some chunks of images, then mark these done.

        A chunk that holds the same images already, tried again or by another process, is left as it is.

        Args:
            chunks: Arrays by name, by index of the chunk; per-image arrays cover all images of the chunk, "counts" its
                sum. Neighbours are written together, in little more time than one.

        Raises:
            RecordingFormatError: the recording is not there any more.
        """
        try:
            done = {c: self._files.read("status", c) for c in chunks if self._files.read("done", c)[0]}
            new = [c for c in sorted(chunks) if c not in done or (done[c] != chunks[c]["status"]).any()]
            for run in _neighbours(new):
                self._write_run([chunks[chunk] for chunk in run], run[0], [chunk for chunk in run if chunk in done])
        except (KeyError, FileNotFoundError, RecordingFormatError) as error:
            raise RecordingFormatError(
                f"{self.path} was moved or changed while it was recorded ({_short(error)}): "
                "start again, and leave it where it is"
            ) from None

    def _write_run(self, chunks: Sequence[Mapping[str, np.ndarray]], first: int, again: Sequence[int]) -> None:
        """Write consecutive chunks; those that are written again count as not done while they are."""
        done = slice(first, first + len(chunks))
        start = first * CHUNK_IMAGES
        images = slice(start, start + sum(len(rows["status"]) for rows in chunks))
        with _zarr() as zarr:
            arrays = {}
            for name in self._files.arrays:
                for chunk in range(done.start, done.stop):
                    self._files.file(name, chunk)  # no link leads elsewhere
                arrays[name] = zarr.open_array(self.path / name, mode="r+", zarr_format=3)
            for chunk in again:
                arrays["done"][chunk] = False
            for name in chunks[0]:
                if name == "counts":
                    arrays[name][done] = np.stack([rows[name] for rows in chunks])
                else:
                    arrays[name][images] = np.concatenate([rows[name] for rows in chunks])
            arrays["done"][done] = True

    def _create(self, attrs: Mapping[str, Any]) -> None:
        """Put the description of every array in place, that of the recording last.

        Whoever is killed before is no hindrance, and two who do it at once write the same.
        """
        with temporary_folder(self.path) as temporary, _zarr() as zarr:
            made = temporary / "made"
            group = zarr.create_group(made, attributes=dict(attrs), zarr_format=3)
            create_arrays(group, len(attrs["images"]), self.layers)
            for description in sorted(made.glob("*/zarr.json")):
                (self.path / description.parent.name).mkdir(exist_ok=True)
                os.replace(description, self.path / description.relative_to(made))
            if not is_recording(self.path):  # else another process was first
                os.replace(made / "zarr.json", self.path / "zarr.json")


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    """Rising numbers in runs of consecutive ones."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def create_arrays(
    group: "zarr.Group", images: int, layers: Sequence[RecordedSite], chunks: int | None = None
) -> dict[str, "zarr.Array"]:
    """Allocate every array of the schema."""
    schema = _schema(images, layers, -(-images // CHUNK_IMAGES) if chunks is None else chunks)
    return {
        name: group.create_array(
            name,
            shape=array.shape,
            chunks=array.chunk_shape,
            dtype=array.dtype,
            fill_value=array.fill,
            dimension_names=array.dims,
            attributes={"description": _DESCRIPTIONS["offset" if name.startswith("offset_") else name]},
            compressors=[{"name": "zstd", "configuration": {"level": 1, "checksum": True}}],
        )
        for name, array in schema.items()
    }


def _is_unfilled(path: Path, schema: Mapping[str, _Array]) -> bool:
    """Whether a folder is empty, but for what creating a recording there has begun with."""
    return path.is_dir() and all(
        child.name in schema and child.is_dir() and {inner.name for inner in child.iterdir()} <= {"zarr.json"}
        for child in path.iterdir()
        if not (child.name.startswith(".atmviz-") and child.is_dir())
    )


def merge_recordings(paths: Sequence[str | Path], out: str | Path) -> Recording:
    """One recording of all images of several, in the order given.

    They must be complete and differ in nothing but their images. Of consecutive chunk-aligned parts of a list, the
    merged arrays equal those of recording the whole list at once.

    Raises:
        RecordingFormatError: one is incomplete or differs, or `out` is there and not what this would give.
    """
    parts = [open_recording(path) for path in paths]
    target = Path(out)
    there = _merged_before(target, paths)
    for part in parts:
        if not part.complete:
            raise RecordingFormatError(f"{part.path} is incomplete: run its `atmviz record` command again first")
        differing = [
            key for key in parts[0].attrs if key not in _VARYING and part.attrs.get(key) != parts[0].attrs[key]
        ]
        if differing:
            raise RecordingFormatError(f"{part.path} differs from {parts[0].path} in {', '.join(differing)}")
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
    unequal = {key for part in parts for key in _VARYING if part.attrs.get(key) != parts[0].attrs.get(key)}
    attrs = {
        **parts[0].attrs,
        **dict.fromkeys(unequal),
        "dataset": "+".join(dict.fromkeys(part.attrs["dataset"] for part in parts)),
        "images": names,
        "image_root": root,
        "merged_from": [str(path) for path in paths],
    }
    if not there:
        _write_merged(parts, attrs, target)
        there = _merged_before(target, paths)
    if not there or there.attrs != attrs:
        raise _exists(target)
    clear_leftovers(target.resolve().parent)
    return there


def _write_merged(parts: Sequence[Recording], attrs: Mapping[str, Any], target: Path) -> None:
    with temporary_folder(target.resolve().parent) as temporary, _zarr() as zarr:
        group = zarr.create_group(temporary / "made", attributes=dict(attrs), zarr_format=3)
        arrays = create_arrays(group, len(attrs["images"]), parts[0].sites, sum(len(part._done) for part in parts))
        for part in parts:
            for info in part.sites:
                part.counts(info.name)  # all there
        for name, array in arrays.items():
            start = 0
            for part in parts:
                chunks = range(part._files.chunks(name))
                for first in chunks[::_CHUNKS_TOGETHER]:
                    rows = part._files.read_many(name, chunks[first : first + _CHUNKS_TOGETHER])
                    if name not in ("counts", "done"):
                        status = part._status[first * CHUNK_IMAGES :][: len(rows)]
                        part._require_finite(name, rows[status == RECORDED])
                    array[start : start + len(rows)] = rows
                    start += len(rows)
        try:
            os.rename(temporary / "made", target)
        except OSError:
            if not target.exists():  # else another process was first
                raise


def _merged_before(target: Path, paths: Sequence[str | Path]) -> Recording | None:
    """The recording that the same merge gave before; raises RecordingFormatError for anything else at `target`."""
    if not os.path.lexists(target):
        return None
    try:
        there = open_recording(target)
    except RecordingFormatError:
        raise _exists(target) from None
    if there.attrs.get("merged_from") != [str(path) for path in paths]:
        raise _exists(target)
    return there


def _exists(target: Path) -> RecordingFormatError:
    return RecordingFormatError(f"{target} exists: choose another name for the merged recording")


@contextmanager
def _zarr() -> Iterator[ModuleType]:
    """zarr under its own settings, whatever the user has set for other programs."""
    try:
        import zarr
    except Exception as error:  # whatever a settings file of the user's makes its parser raise
        raise AtmvizError(
            f"zarr cannot be loaded ({summarize(error)}): look at its settings ($ZARR_CONFIG, ~/.config/zarr)"
        ) from None
    with zarr.config.set(zarr.config.defaults[0]):
        yield zarr


def is_recording(path: Path) -> bool:
    """Whether a folder looks like a recording, whatever its schema or state."""
    return (path / "zarr.json").is_file()


def _read_description(folder: Path, kind: str) -> dict[str, Any]:
    """What zarr's file says of a "group" or an "array"."""
    found = json.loads(read_limited(folder / "zarr.json", _MOST_DESCRIPTION_BYTES), parse_constant=_refuse)
    if found["node_type"] != kind or found["zarr_format"] != 3:
        raise ValueError(f"no {kind} of zarr 3")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _checked(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The known keys; raises KeyError or ValueError where one is missing or of another kind."""
    if missing := _KINDS.keys() - attrs.keys():
        raise KeyError(f"no {', '.join(sorted(missing))}")
    for key, kind in _KINDS.items():
        if not _fits(attrs[key], kind):
            raise ValueError(f"{key} is {_short(attrs[key])}")
    if not _fits(attrs.get("merged_from", []), [str]):
        raise ValueError(f"merged_from is {_short(attrs['merged_from'])}")
    if len(attrs["input_size"]) != 2 or not attrs["images"] or not 1 <= len(attrs["layers"]) <= MAX_SITES:
        raise ValueError("no images, no layers or no input size")
    known = {key: value for key, value in attrs.items() if key in _KINDS or key in _OPTIONAL}
    if not _is_flat({**known, "images": None}, 6):
        raise ValueError("nested too deeply")
    return known


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a kind: a class, {key: kind} of some keys, [kind] of any length, one of (a, b)."""
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_fits(value.get(key), one) for key, one in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(one, kind[0]) for one in value)
    if isinstance(kind, tuple):
        return any(_fits(value, one) for one in kind)
    return value is None if kind is None else type(value) is kind  # True is no number


def _is_flat(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_flat(one, depth - 1) for one in inner)


def _short(value: Any) -> str:
    """What fits into one line of an error."""
    return type(value).__name__ if isinstance(value, dict | list) else shorten(" ".join(str(value).split()))


def _unreadable(error: OSError) -> RecordingFormatError:
    return RecordingFormatError(f"cannot read {error.filename} ({error.strerror}): allow it to be read")


def _as_json(value: Any) -> Any:
    """Tuples as lists, as a JSON round trip leaves them."""
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _difference(key: str, there: Any, here: Any) -> str:
    """`size is [64, 64] there and [96, 96] here`, in a few words; of lists of one length, the first difference."""
    if isinstance(there, dict) and isinstance(here, dict):
        inner = next(one for one in {**there, **here} if there.get(one) != here.get(one))
        return _difference(f"{key} {inner}", there.get(inner), here.get(inner))
    if isinstance(there, list) and isinstance(here, list):
        if len(there) != len(here):
            there, here = f"{len(there)} entries", f"{len(here)} entries"
        else:
            there, here = next(pair for pair in zip(there, here, strict=True) if pair[0] != pair[1])
            return _difference(key, there, here)
    return f"{key} is {_short(there)} there and {_short(here)} here"
