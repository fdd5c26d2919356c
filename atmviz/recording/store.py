"""Recordings opened for reading. Torch-free.

Legend: N images, C channels, O distinct offsets per direction, S channels that share one; H/W grid in tokens.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atmviz.errors import DatasetError, LayerNotFoundError, RecordingFormatError, count, nearest, require_type
from atmviz.files import near_path
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId, find_layer
from atmviz.observe.site import AXES, sources_of
from atmviz.recording.array_files import ArrayFiles, read_description
from atmviz.recording.layout import (
    CHUNK_IMAGES,
    NOT_RECORDED,
    READABLE_SCHEMAS,
    RECORDED,
    SKIPPED,
    StoredQuantity,
    all_arrays,
    checked_attributes,
    chunks_of,
    short,
    stored_quantities,
)
from atmviz.recording.sites import RecordedSite

if TYPE_CHECKING:
    import xarray


def open_recording(recording: "Recording | str | Path") -> "Recording":
    """Open a recording for reading.

    Args:
        recording: Its folder. A recording that is open is returned as it is.

    Returns:
        The recording, opened without torch.

    Raises:
        SettingsError: something else than a folder.
        RecordingFormatError: there is none, it is damaged, or it has another schema version.
    """
    require_type(recording, Recording | str | Path, "a recording", "its folder, or what open_recording returns")
    return recording if isinstance(recording, Recording) else Recording(Path(recording))


class Recording:
    """A recording opened for reading. A layer is named "3_18", "3_last", by its module path or a `LayerId`.

    Attributes:
        attrs: What the recording says of itself: model, checkpoint, preprocessing, query, images, seed, versions. Only
            known keys, of the kinds that are written.
        trained: False for random weights, None where the origin of the weights is unknown.
        preprocessing: How its images were fitted to the network.
        sites: The recorded sites, in order. Sites that reuse offsets are aliases of their source.
        quantities: What is recorded of each site, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.attrs = read_description(path, "group")["attributes"]
            schema = self.attrs["schema_version"]
        except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
            damage = "" if isinstance(error, FileNotFoundError | NotADirectoryError) else f" ({type(error).__name__})"
            raise RecordingFormatError(
                f"no recording in {path}{damage}: expected a folder that atmviz recorded into"
                + ("" if path.exists() else near_path(path))
            ) from None
        if schema not in READABLE_SCHEMAS:
            versions = self.attrs.get("versions")
            maker = versions.get("atmviz") if isinstance(versions, dict) else None
            raise RecordingFormatError(
                f"{path} has schema {short(schema)}, expected {' or '.join(map(str, READABLE_SCHEMAS))}: "
                f"record again, or use the atmviz that made it ({short(maker or 'unknown')})"
            )
        try:
            self._describe()
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise RecordingFormatError(f"{path} is damaged ({short(error)}): record again") from None
        self._done = self._files.whole("done")
        self._status = self._finished(self._files.whole("status"))

    def _describe(self) -> None:
        """Read the attributes; KeyError, TypeError or ValueError where they are no recording's."""
        self.attrs = checked_attributes(self.attrs)
        self.trained: bool | None = self.attrs["checkpoint"]["trained"]
        self.sites = [RecordedSite.from_json(data) for data in self.attrs["layers"]]
        if len({len(site.branches) for site in self.sites}) > 1:
            raise ValueError("layers of unequal branches")
        stored = stored_quantities(self.attrs, self.sites)
        self.quantities: dict[str, StoredQuantity] = {quantity.name: quantity for quantity in stored}
        self.preprocessing = Preprocessing.from_json(self.attrs["preprocessing"])
        images = len(self.attrs["images"])
        chunks = least = chunks_of(images)
        if "merged_from" in self.attrs:  # the last chunk of each part may hold fewer images
            chunks = read_description(self.path / "done", "array")["shape"][0]
            if not least <= chunks <= images:
                raise ValueError(f"{chunks} chunks of {images} images")
        self._files = ArrayFiles(self.path, all_arrays(stored, self.sites, images, chunks))

    def _finished(self, status: np.ndarray) -> np.ndarray:
        """Return the status of each image; not recorded in unfinished chunks."""
        if not self.complete and "merged_from" in self.attrs:
            raise self._files.damaged("done")  # only complete recordings are merged
        finished = np.ones(len(status), bool) if self.complete else np.repeat(self._done, CHUNK_IMAGES)[: len(status)]
        if not np.isin(status[finished], (RECORDED, SKIPPED)).all():
            raise self._files.damaged("status")
        return np.where(finished, status, NOT_RECORDED)

    @property
    def layers(self) -> list[str]:
        """Names of the recorded layers, in order."""
        return [site.name for site in self.sites]

    @property
    def images(self) -> list[str]:
        """Names of the recorded images, in the order of every array, below `attrs["image_root"]`."""
        return [name for name, status in zip(self.attrs["images"], self._status, strict=True) if status == RECORDED]

    @property
    def part_indices(self) -> np.ndarray:
        """Index of each recorded image among those that were recorded with it, [N]: merging does not change it."""
        parts = self.attrs.get("parts", [len(self._status)])
        return np.concatenate([np.arange(images) for images in parts])[self._status == RECORDED]

    @property
    def skipped(self) -> list[str]:
        """Names of the images that could not be read."""
        return [name for name, status in zip(self.attrs["images"], self._status, strict=True) if status == SKIPPED]

    @property
    def complete(self) -> bool:
        """Whether every image was recorded or skipped."""
        return bool(self._done.all())

    @property
    def model(self) -> str:
        """Name of the network."""
        return str(self.attrs["model"])

    def __len__(self) -> int:
        """Return the number of recorded images."""
        return int((self._status == RECORDED).sum())

    def __repr__(self) -> str:
        state = "" if self.complete else f", incomplete: {len(self)} of {len(self._status)}"
        images = count(len(self), "image")
        return f"<Recording {self.path}: {self.model} on {self.attrs['dataset']}, {images}{state}>"

    def __getattr__(self, name: str) -> Any:
        near = nearest(name, [each for each in dir(type(self)) if not each.startswith("_")])
        raise AttributeError(f"a recording has no {name!r}{near}", name=name, obj=self)

    def summary(self) -> dict[str, Any]:
        """Return what the recording is, as plain values."""
        return {
            "recording": str(self.path),
            "model": self.model,
            "trained": self.trained,
            "dataset": self.attrs["dataset"],
            "images": len(self),
            "skipped": self.skipped,
            "complete": self.complete,
            "layers": self.layers,
        }

    def require_all(self) -> None:
        """Raise DatasetError if an image was skipped."""
        if self.skipped:
            raise DatasetError(
                f"{count(len(self.skipped), 'image')} of {self.path} could not be read, the first {self.skipped[0]}: "
                "replace them and record again, or allow unreadable images"
            )

    def site(self, layer: str | LayerId) -> RecordedSite:
        """Return the site of a layer; LayerNotFoundError lists the recorded layers."""
        try:
            return self.sites[self.layers.index(find_layer(layer, self.layers))]
        except LayerNotFoundError as error:
            raise LayerNotFoundError(f"{self.path}: {error}") from None

    def read(self, quantity: str, layer: str | LayerId | None = None) -> np.ndarray:
        """Return what is recorded of a layer: one row per image, or one per finished chunk of images.

        Args:
            quantity: A key of `quantities`, which gives unit and dimensions.
            layer: A layer; where it reuses offsets and the quantity is of offsets, its source is read. None for what no
                layer has a part in.

        Raises:
            LayerNotFoundError: no such layer.
            RecordingFormatError: no such quantity, or its array is damaged.
        """
        array, index = self._find(quantity, layer)
        rows = self._rows(array)
        return rows if index is None else rows[:, index]

    def _find(self, quantity: str, layer: str | LayerId | None) -> tuple[str, int | None]:
        """Return the array that holds a quantity of a layer, and the index along its second axis."""
        if quantity not in self.quantities:
            raise RecordingFormatError(
                f"no {quantity!r} in {self.path}: expected one of {', '.join(self.quantities)}; record again to add it"
            )
        stored = self.quantities[quantity]
        if stored.of == "image":
            return quantity, None
        if layer is None:
            raise LayerNotFoundError(f"{quantity} differs by layer: name one of {', '.join(self.layers)}")
        site = self.site(layer)
        member = site.source if stored.of == "source" else site.name
        if stored.separate:
            return f"{quantity}_{member}", None
        return quantity, list(stored.members(self.sites)).index(member)

    def offsets(self, layer: str | LayerId) -> np.ndarray:
        """Return offsets of the query token for every channel, [N, 2, C], float32, tokens (axis 1 is `axis`).

        With several samples per channel (Fig. 2, B), those of the first sample come first, [N, 2, samples * C].
        """
        return np.repeat(self.distinct_offsets(layer), self.site(layer).channels_per_offset, axis=2)

    def distinct_offsets(self, layer: str | LayerId) -> np.ndarray:
        """Return offsets of the query token as the network generates them, [N, 2, O], float32, tokens."""
        return self.read("offset", layer)

    def mean_abs_offset(self, layer: str | LayerId) -> np.ndarray:
        """Return the mean |offset| over all tokens, [N, 2], tokens."""
        return self.read("mean_abs_offset", layer)

    def outside_share(self, layer: str | LayerId) -> np.ndarray:
        """Return the fraction of all samples whose nearest token is outside the map, [N, 2]."""
        return self.read("outside_share", layer)

    def fusion(self, layer: str | LayerId) -> np.ndarray:
        """Return fusion weights, averaged over channels, [N, branches], in the order of `site(layer).branches`."""
        return self.read("fusion", layer)

    def counts(self, layer: str | LayerId) -> tuple[np.ndarray, np.ndarray]:
        """Return samples of all tokens by nearest integer offset: horizontal [2W + 1] and vertical [2H + 1], int64.

        Index k of an axis of n tokens stands for offset k - n; the first and the last entry also hold all beyond.

        Raises:
            RecordingFormatError: they do not add up to one sample per token, offset and image.
        """
        site = self.site(layer)
        index = self._find("counts", layer)[1]
        total = self._counts[index]
        middle = total.shape[1] // 2
        expected = len(self) * site.grid[0] * site.grid[1] * site.num_offsets
        if (total.sum(axis=1) != expected).any():
            raise self._files.damaged("counts")
        height, width = site.grid
        return total[0, middle - width : middle + width + 1], total[1, middle - height : middle + height + 1]

    def total(self, quantity: str, layer: str | LayerId) -> np.ndarray:
        """Return what is recorded of a layer chunk by chunk, summed over the finished chunks; see `read`.

        One chunk is in memory at a time.

        Raises:
            LayerNotFoundError, RecordingFormatError: see `read`.
        """
        array, index = self._find(quantity, layer)
        total = self._total(array)
        return total if index is None else total[index]

    def to_xarray(self) -> "xarray.Dataset":
        """Return all recorded images as an xarray Dataset with named axes; needs xarray.

        `offset_3_18` is there for every layer, also where it reuses the offsets of a source. `opened.sel(axis=
        "horizontal")`, `sel(layer="3_18")`, `sel(image=name)` choose along the axes.
        """
        try:
            import xarray
        except ImportError:
            raise RecordingFormatError(
                "xarray is not installed: install it, or use offsets(), counts() and so on"
            ) from None
        variables: dict[str, tuple] = {}
        for name, array in self._files.arrays.items():
            if name not in ("status", "done"):
                variable = (array.dims, self._rows(name), dict(array.about))
                variables |= dict.fromkeys((name, *array.aliases), variable)
        sources = list(sources_of(self.sites))
        branches = {site.branches for site in self.sites}
        coordinates = {"axis": list(AXES), "image": self.images, "layer": self.layers, "source": sources}
        coordinates |= {"branch": list(*branches)} if len(branches) == 1 else {}
        used = {dim for dims, *_ in variables.values() for dim in dims}
        return xarray.Dataset(
            variables, {name: values for name, values in coordinates.items() if name in used}, {"model": self.model}
        )

    @property
    def chunks(self) -> int:
        """Chunks of images."""
        return len(self._done)

    @property
    def chunk_images(self) -> list[list[str]] | None:
        """Names of the recorded images of each finished chunk; None where recordings of uneven chunks were merged."""
        if "merged_from" in self.attrs:
            return None
        names, recorded = self.attrs["images"], self._status == RECORDED
        starts = (np.flatnonzero(self._done) * CHUNK_IMAGES).tolist()
        return [
            [names[k] for k in range(start, min(start + CHUNK_IMAGES, len(names))) if recorded[k]] for start in starts
        ]

    def raw_rows(self, array: str) -> Iterator[np.ndarray]:
        """Yield the rows of an array of the layout as stored, chunk by chunk, all checked."""
        for chunk in range(self._files.chunks(array)):
            rows = self._files.read(array, chunk, finished=True)
            if self._files.arrays[array].per_image:
                status = self._status[chunk * CHUNK_IMAGES :][: len(rows)]
                self._files.require_finite(array, rows[status == RECORDED])
            yield rows

    def _rows(self, array: str) -> np.ndarray:
        """Return the rows of recorded images, or those of finished chunks."""
        stored, recorded = self._files.arrays[array], self._status == RECORDED
        chunks = np.unique(np.flatnonzero(recorded) // CHUNK_IMAGES) if stored.per_image else np.flatnonzero(self._done)
        parts = [np.empty((0, *stored.shape[1:]), stored.dtype)]
        for chunk in chunks.tolist():
            rows = self._files.read(array, chunk, finished=True)
            if stored.per_image:
                rows = rows[recorded[chunk * CHUNK_IMAGES :][: len(rows)]]
                self._files.require_finite(array, rows)
            parts.append(rows)
        return np.concatenate(parts)

    @cached_property
    def _counts(self) -> np.ndarray:
        """Samples by offset, of all sources."""
        return self._total("counts")

    def _total(self, array: str) -> np.ndarray:
        """Return the sum over finished chunks, one by one: all chunks of a large dataset would fill the memory."""
        stored = self._files.arrays[array]
        total = np.zeros(stored.shape[1:], stored.dtype)
        for chunk in np.flatnonzero(self._done).tolist():
            total += self._files.read(array, chunk, finished=True)[0]
        self._files.require_finite(array, total)
        return total
