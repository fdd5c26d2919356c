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

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from atmviz.errors import DatasetError, LayerNotFoundError, RecordingFormatError
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId, describe_layers

SCHEMA_VERSION = 1
CHUNK_IMAGES = 64
AXES = ("horizontal", "vertical")
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
_REQUIRED_ATTRS = {
    "model",
    "checkpoint",
    "preprocessing",
    "input_size",
    "query",
    "dataset",
    "images",
    "image_root",
    "layers",
}


@dataclass(frozen=True)
class LayerInfo:
    """What a recording knows of one ATM layer; map_size and query are (rows, columns), num_offsets is O."""

    layer: LayerId
    source: LayerId
    module: str
    channels: int
    num_offsets: int
    share: int
    map_size: tuple[int, int]
    query: tuple[int, int]
    branches: tuple[str, ...]

    @property
    def title(self) -> str:
        """`layer_3_18 (offsets of 3_13)`."""
        return self.layer.title + ("" if self.layer == self.source else f" (offsets of {self.source})")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "layer": str(self.layer), "source": str(self.source)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LayerInfo":
        return cls(
            layer=LayerId.parse(data["layer"]),
            source=LayerId.parse(data["source"]),
            module=data["module"],
            channels=data["channels"],
            num_offsets=data["num_offsets"],
            share=data["share"],
            map_size=tuple(data["map_size"]),
            query=tuple(data["query"]),
            branches=tuple(data["branches"]),
        )


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
        trained: False for seeded weights, None where nobody said.
        preprocessing: How its images were fitted to the network.
        layers: One `LayerInfo` per recorded layer, in order; layers that reuse offsets are aliases of their source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._group = zarr.open_group(path, mode="r")
            self.attrs: dict[str, Any] = dict(self._group.attrs)
            schema = self.attrs["schema_version"]
        except (FileNotFoundError, KeyError, ValueError, TypeError, OSError) as error:
            raise RecordingFormatError(
                f"no recording in {path} ({type(error).__name__}): expected a folder made by `atmviz record`"
            ) from None
        if schema != SCHEMA_VERSION:
            raise RecordingFormatError(
                f"{path} has schema {schema}, expected {SCHEMA_VERSION}: record again, or use the atmviz that made it "
                f"({self.attrs.get('versions', {}).get('atmviz', 'unknown')})"
            )
        try:
            if missing := _REQUIRED_ATTRS - self.attrs.keys():
                raise KeyError(f"no {', '.join(sorted(missing))}")
            self.trained: bool | None = self.attrs["checkpoint"]["trained"]
            self.layers = [LayerInfo.from_json(data) for data in self.attrs["layers"]]
            self.preprocessing = Preprocessing.from_json(self.attrs["preprocessing"])
            self._done = self._read("done")
            self._status = self._finished(self._read("status"))
            if len(self.attrs["images"]) != len(self._status):
                raise ValueError(f"{len(self.attrs['images'])} image names for {len(self._status)} images")
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingFormatError(f"{path} is damaged ({error}): record again") from None

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

    def info(self, layer: str | LayerId) -> LayerInfo:
        """Raises LayerNotFoundError, listing the recorded layers."""
        try:
            wanted = LayerId.parse(str(layer))
            return next(info for info in self.layers if info.layer == wanted)
        except (ValueError, StopIteration):
            raise LayerNotFoundError(
                f"no layer {str(layer)!r} in {self.path}: expected one of "
                + describe_layers([info.layer for info in self.layers])
            ) from None

    def offsets(self, layer: str | LayerId) -> np.ndarray:
        """Offsets of the query token for every channel, [N, 2, C], float32, tokens (axis 1: horizontal, vertical).

        With several samples per channel (Fig. 2, B), those of the first sample come first, [N, 2, samples * C].
        """
        return np.repeat(self.distinct_offsets(layer), self.info(layer).share, axis=2)

    def distinct_offsets(self, layer: str | LayerId) -> np.ndarray:
        """Offsets of the query token as the network stores them, [N, 2, O], float32, tokens."""
        return self._rows(f"offset_{self.info(layer).source}")

    def mean_abs_offset(self, layer: str | LayerId) -> np.ndarray:
        """Mean |offset| over all tokens, [N, 2], tokens."""
        return self._rows("mean_abs_offset", self._sources.index(self.info(layer).source))

    def outside_share(self, layer: str | LayerId) -> np.ndarray:
        """Share of all samples whose nearest token is outside the map, [N, 2], 0 to 1."""
        return self._rows("outside_share", self._sources.index(self.info(layer).source))

    def fusion(self, layer: str | LayerId) -> np.ndarray:
        """Fusion weights, averaged over channels, [N, branches], in the order of `info(layer).branches`."""
        return self._rows("fusion", self.layers.index(self.info(layer)))

    def counts(self, layer: str | LayerId) -> tuple[np.ndarray, np.ndarray]:
        """Samples of all tokens by nearest integer offset: horizontal [2W + 1] and vertical [2H + 1], int64.

        Index k of n tokens' counts stands for offset k - n; the first and last entry hold all that is beyond.

        Raises:
            RecordingFormatError: they do not add up to one sample per token, offset and image.
        """
        info = self.info(layer)
        total = self._counts[self._sources.index(info.source)]
        middle = total.shape[1] // 2
        expected = len(self) * info.map_size[0] * info.map_size[1] * info.num_offsets
        if (total.sum(axis=1) != expected).any():
            raise self._damaged("counts")
        height, width = info.map_size
        return total[0, middle - width : middle + width + 1], total[1, middle - height : middle + height + 1]

    def _finished(self, status: np.ndarray) -> np.ndarray:
        """The status of each image, as not recorded in chunks that were not finished."""
        finished = np.ones(len(status), bool)
        if not self.complete and "merged_from" in self.attrs:
            raise self._damaged("done")  # only complete recordings are merged
        if not self.complete:
            finished = np.repeat(self._done, CHUNK_IMAGES)[: len(status)]
        if (status[finished] == NOT_RECORDED).any():
            raise self._damaged("status")
        return np.where(finished, status, NOT_RECORDED)

    @cached_property
    def _counts(self) -> np.ndarray:
        return self._read("counts")[self._done].sum(axis=0)

    @property
    def _sources(self) -> list[LayerId]:
        return list(dict.fromkeys(info.source for info in self.layers))

    def _rows(self, array: str, index: int | None = None) -> np.ndarray:
        """The rows of recorded images, of one layer where the array holds several."""
        values = self._read(array)[self._status == RECORDED]
        if not np.isfinite(values).all():
            raise self._damaged(array)
        return values if index is None else values[:, index]

    def _read(self, array: str) -> np.ndarray:
        try:
            return np.asarray(_array(self._group, array)[...])
        except Exception as error:  # whatever a damaged chunk makes zarr's codecs raise
            raise self._damaged(array, error) from None

    def _damaged(self, array: str, error: Exception | None = None) -> RecordingFormatError:
        reason = f" ({type(error).__name__})" if error else ""
        return RecordingFormatError(f"array {array!r} in {self.path} is damaged{reason}: delete it and record again")


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
        self, path: Path, identity: Mapping[str, Any], context: Mapping[str, Any], layers: Sequence[LayerInfo]
    ) -> None:
        self.path = path = path.resolve()
        self.layers = list(layers)
        attrs = {
            "schema_version": SCHEMA_VERSION,
            **identity,
            **context,
            "layers": [info.to_json() for info in layers],
            "axes": list(AXES),
        }
        attrs = _as_json(attrs)
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            self._create(attrs)
        elif not is_recording(path):
            raise RecordingFormatError(f"{path} exists and is no recording: choose another --out")
        found = Recording(path).attrs
        differing = [key for key in ("schema_version", *identity, "layers") if _as_json(found.get(key)) != attrs[key]]
        if "merged_from" in found:  # its chunks are not regular: none could be written again
            raise RecordingFormatError(f"{path} holds a merged recording: choose another --out")
        if differing:
            shown = ", ".join(_difference(key, found.get(key), attrs[key]) for key in differing)
            raise RecordingFormatError(f"{path} holds another recording ({shown}): choose another --out")
        self._group = zarr.open_group(path, mode="r+")

    @property
    def finished(self) -> np.ndarray:
        """Which chunks need no recording, [chunks]; one with an unreadable image is tried again."""
        status = np.asarray(_array(self._group, "status")[:])
        done = np.array(_array(self._group, "done")[:])
        done[np.flatnonzero(status == SKIPPED) // CHUNK_IMAGES] = False
        return done

    def write_chunks(self, chunks: Mapping[int, Mapping[str, np.ndarray]]) -> None:
        """Write all arrays of some chunks of images, then mark these done.

        Args:
            chunks: Arrays by name, by index of the chunk; per-image arrays cover all images of the chunk, "counts" its
                sum. Neighbours are written together, in little more time than one.
        """
        for run in _neighbours(sorted(chunks)):
            done = slice(run[0], run[-1] + 1)
            _array(self._group, "done")[done] = False  # where chunks are tried again
            for name in chunks[run[0]]:
                values = [chunks[chunk][name] for chunk in run]
                if name == "counts":
                    _array(self._group, name)[done] = np.stack(values)
                else:
                    start = run[0] * CHUNK_IMAGES
                    _array(self._group, name)[start : start + sum(map(len, values))] = np.concatenate(values)
            _array(self._group, "done")[done] = True

    def _create(self, attrs: Mapping[str, Any]) -> None:
        """Create under another name and move into place, so that no half-made recording can be met."""
        with _folder_beside(self.path) as temporary:
            group = zarr.create_group(temporary, attributes=dict(attrs))
            create_arrays(group, len(attrs["images"]), self.layers)
            if self.path.exists():  # empty, and perhaps somebody's current folder: it stays the same folder
                for child in sorted(temporary.iterdir(), key=lambda child: child.name == "zarr.json"):
                    os.rename(child, self.path / child.name)
                return
            try:
                os.rename(temporary, self.path)
            except OSError:
                if not is_recording(self.path):  # else another process was first
                    raise


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    """Rising numbers in runs of consecutive ones."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def create_arrays(group: zarr.Group, images: int, layers: Sequence[LayerInfo], chunks: int | None = None) -> None:
    """Allocate every array of the schema; unwritten values read as NaN (floats), 0 or False."""
    chunks = -(-images // CHUNK_IMAGES) if chunks is None else chunks
    sources = {info.source: info for info in layers}
    reach = max(max(info.map_size) for info in layers)
    branches = len(layers[0].branches)
    nan = float("nan")

    def create(name: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str, fill: Any, first: int) -> None:
        kind = "offset" if name.startswith("offset_") else name
        group.create_array(
            name,
            shape=shape,
            chunks=(first, *shape[1:]),
            dtype=dtype,
            fill_value=fill,
            dimension_names=dims,
            attributes={"description": _DESCRIPTIONS[kind]},
            compressors=[ZstdCodec(level=1, checksum=True)],
        )

    many = min(CHUNK_IMAGES, images)
    for source, info in sources.items():
        own = (images, 2, info.num_offsets)
        create(f"offset_{source}", own, ("image", "axis", f"offset_index_{source}"), "float32", nan, many)
    per_source = (images, len(sources), 2)
    create("mean_abs_offset", per_source, ("image", "source", "axis"), "float32", nan, many)
    create("outside_share", per_source, ("image", "source", "axis"), "float64", nan, many)
    create("fusion", (images, len(layers), branches), ("image", "layer", "branch"), "float32", nan, many)
    counts = (chunks, len(sources), 2, 2 * reach + 1)
    create("counts", counts, ("chunk", "source", "axis", "bin"), "int64", 0, 1)
    create("status", (images,), ("image",), "uint8", NOT_RECORDED, many)
    create("done", (chunks,), ("chunk",), "bool", False, 1)


def merge_recordings(paths: Sequence[str | Path], out: str | Path) -> Recording:
    """One recording of all images of several, in the order given.

    They must be complete and differ in nothing but their images. Of consecutive chunk-aligned parts of a list, the
    merged arrays equal those of recording the whole list at once.

    Raises:
        RecordingFormatError: one is incomplete or differs, or `out` exists.
    """
    parts = [open_recording(path) for path in paths]
    target = Path(out)
    if target.exists():
        raise RecordingFormatError(f"{target} exists: choose another name for the merged recording")
    for part in parts:
        if not part.complete:
            raise RecordingFormatError(f"{part.path} is incomplete: run its `atmviz record` command again first")
        differing = [
            key for key in parts[0].attrs if key not in _VARYING and part.attrs.get(key) != parts[0].attrs[key]
        ]
        if differing:
            raise RecordingFormatError(f"{part.path} differs from {parts[0].path} in {', '.join(differing)}")
    root = os.path.commonpath([part.attrs["image_root"] for part in parts])
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
    with _folder_beside(target.resolve()) as temporary:
        group = zarr.create_group(temporary, attributes=attrs)
        create_arrays(group, len(names), parts[0].layers, sum(len(part._done) for part in parts))
        starts = {"image": 0, "chunk": 0}
        for part in parts:
            for name, array in group.arrays():
                start = starts["chunk" if name in ("counts", "done") else "image"]
                values = part._read(name)
                array[start : start + len(values)] = values
            starts["image"] += len(part._status)
            starts["chunk"] += len(part._done)
        os.rename(temporary, target)
    return open_recording(target)


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """The name of a new folder beside `path`, to be moved onto it when whole; what was not moved is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_recording(path: Path) -> bool:
    """Whether a folder looks like a recording, whatever its schema or state."""
    return (path / "zarr.json").is_file()


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


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
    there, here = (text if len(text) <= 80 else text[:77] + "..." for text in (str(there), str(here)))
    return f"{key} is {there} there and {here} here"
