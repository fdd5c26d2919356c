"""How a recording lies on disk: one zarr v3 group, described by its attributes. Torch-free.

    offset_<source>   [N, 2, O] and so on, one array for each quantity (`recording.quantities`) or for each of its sites
    status            [N]       uint8   0 not recorded, 1 recorded, 2 skipped because the image could not be read
    done              [chunks]  bool    whether a chunk of images is complete; written last

Images are recorded in chunks of fixed size, each written whole. The coordinates `axis`, `image`, `layer` and `source`,
and links such as `offset_3_18` to the array of its source, are for xarray; atmviz reads the attributes instead.

`recording.array_files` reads and writes the files.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args, get_type_hints

import numpy as np

from atmviz.errors import shorten
from atmviz.observe.site import AXES, sources_of
from atmviz.recording.label_quantities import HITS, MAPS, MOMENTS, POSITIONS
from atmviz.recording.quantities import QUANTITIES, Quantity, QuantityInfo
from atmviz.recording.sites import MAX_SITES, RecordedSite

SCHEMA_VERSION = 2
READABLE_SCHEMAS = (1, 2)
CHUNK_IMAGES = 64
NOT_RECORDED, RECORDED, SKIPPED = 0, 1, 2
# Bounds for files of unknown origin, far above what a network or data set needs
_MAX_CHUNK_BYTES = 2**28
_MAX_QUANTITIES = 100
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DTYPES = ("float32", "float64", "int64", "int32", "int16", "uint8", "bool")
COORDINATES = ("axis", "image", "layer", "source")
ZSTD = {"level": 1, "checksum": True}  # compression of chunks
# Metadata of an array that decide where and how its values are stored
_LAID_OUT_BY = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value")

# Attributes that a recording must have, with their kinds; see `_fits`
KINDS: dict[str, Any] = {
    "schema_version": int,
    **dict.fromkeys(("model", "query", "dataset", "image_root"), str),
    "checkpoint": {
        **{"sha256": str, "trained": (bool, None), "seed": (int, None)},
        **dict.fromkeys(("layout", "weights"), (str, None)),
    },
    "preprocessing": dict,
    "input_size": [int],
    "images": [str],
    "layers": [dict],
}
# Attributes that it may have
_OPTIONAL = {
    *("quantities", "model_config", "seed", "sampling", "batch_size", "precision", "decoding", "axes"),
    *("checkpoint_path", "device", "versions", "merged_from", "parts", "labels", "masks"),
}

_OPTIONAL_KINDS = {
    **dict.fromkeys(("sampling", "versions"), (dict, None)),
    **dict.fromkeys(("labels", "masks", "precision", "checkpoint_path", "device"), (str, None)),
}


def chunks_of(images: int) -> int:
    """Return the number of chunks that images recorded together make."""
    return -(-images // CHUNK_IMAGES)


@dataclass(frozen=True)
class StoredQuantity(QuantityInfo):
    """A quantity with the shape of each of its arrays: one array, or one per site where they are separate."""

    shapes: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of_sites(cls, quantity: Quantity, sites: Sequence[RecordedSite]) -> "StoredQuantity":
        """Lay out a quantity for the sites of a recording."""
        groups = [[site] for site in quantity.members(sites).values()] if quantity.separate else [list(sites)]
        info = {field.name: getattr(quantity, field.name) for field in fields(QuantityInfo)}
        return cls(**info, shapes=tuple(quantity.shape(group) for group in groups))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StoredQuantity":
        """Read the fields of a stored quantity; KeyError, TypeError or ValueError for anything else."""
        quantity = cls(**{field.name: data[field.name] for field in fields(cls)})
        quantity = replace(quantity, dims=tuple(quantity.dims), shapes=tuple(map(tuple, quantity.shapes)))
        if wrong := quantity._unsound():
            raise ValueError(f"quantity {short(quantity.name)} has {wrong}")
        return quantity

    def _unsound(self) -> str:
        """Say which field has what it cannot have, and what is expected; "" for none."""
        hints = get_type_hints(QuantityInfo)
        sizes = [size for shape in self.shapes for size in shape]
        named = isinstance(self.name, str) and _NAME.fullmatch(self.name)
        sound = {
            "name": (named and self.name not in (*COORDINATES, "status", "done"), "small letters, digits and _"),
            "unit": (isinstance(self.unit, str), "a text"),
            "description": (isinstance(self.description, str), "a text"),
            "dims": (all(isinstance(dim, str) for dim in self.dims), "texts"),
            "dtype": (self.dtype in _DTYPES, f"one of {', '.join(_DTYPES)}"),
            "per": (self.per in get_args(hints["per"]), "image or chunk"),
            "of": (self.of in get_args(hints["of"]), "source, site or image"),
            "separate": (type(self.separate) is bool and not (self.separate and self.of == "image"), "True or False"),
            "shapes": (
                all(len(shape) == len(self.dims) for shape in self.shapes)
                and all(type(size) is int and 0 < size <= _MAX_CHUNK_BYTES for size in sizes),
                "one size for each of its dims",
            ),
        }
        bad = next((name for name, (is_sound, _) in sound.items() if not is_sound), None)
        return f"{bad} {short(getattr(self, bad))}, expected {sound[bad][1]}" if bad else ""

    def arrays(self, sites: Sequence[RecordedSite], images: int, chunks: int) -> dict[str, "StoredArray"]:
        """Return its arrays by name; unwritten values read as NaN, 0 or False."""
        members, aliases = self.members(sites), dict[str, list[str]]()
        if self.separate:
            for site in sites:
                if self.of == "source" and not site.is_source:
                    aliases.setdefault(f"{self.name}_{site.source}", []).append(f"{self.name}_{site.name}")
            laid_out = {
                f"{self.name}_{member}": (shape, tuple(dim.replace("{source}", member) for dim in self.dims))
                for member, shape in zip(members, self.shapes, strict=True)
            }
        else:
            (shape,) = self.shapes
            each = [] if self.of == "image" else ["layer" if self.of == "site" else "source"]
            laid_out = {self.name: ((*([len(members)] if each else []), *shape), (*each, *self.dims))}
        length, rows = (images, min(CHUNK_IMAGES, images)) if self.per == "image" else (chunks, 1)
        fill = math.nan if self.dtype.startswith("float") else False if self.dtype == "bool" else 0
        about = {"description": self.description, "units": self.unit}
        return {
            name: StoredArray(
                (length, *shape), (self.per, *dims), self.dtype, fill, rows, about, tuple(aliases.get(name, ()))
            )
            for name, (shape, dims) in laid_out.items()
        }


@dataclass(frozen=True)
class StoredArray:
    """An array: each of its chunk files holds `rows` of the first axis and all of the others.

    Attributes:
        about: Its attributes in zarr.
        aliases: Other names of the array: links to it.
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    fill: float | str
    rows: int
    about: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of what one file holds."""
        return (self.rows, *self.shape[1:])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of what one file holds, before it is packed."""
        return math.prod(self.chunk_shape) * np.dtype(self.dtype).itemsize

    @property
    def per_image(self) -> bool:
        """Whether it has a row for each image, and not for each chunk of images."""
        return self.dims[0] == "image"

    def description(self) -> dict[str, Any]:
        """Return zarr's metadata of the array: the content of its zarr.json."""
        values: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
        zstd = {"name": "zstd", "configuration": ZSTD}
        return {
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN" if self.fill != self.fill else self.fill,
            "codecs": [{"name": "vlen-utf8"} if self.dtype == "string" else values, zstd],
            "attributes": dict(self.about),
            "dimension_names": list(self.dims),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }

    def described_by(self, description: Mapping[str, Any]) -> bool:
        """Whether zarr's metadata, of unknown origin, lay out the array as `description` does."""
        expected, (values, packing) = self.description(), description["codecs"]
        return (
            all(description[key] == expected[key] for key in _LAID_OUT_BY)
            and values in ({"name": "bytes"}, expected["codecs"][0])
            and packing["name"] == "zstd"
        )


def all_arrays(
    quantities: Iterable[StoredQuantity], sites: Sequence[RecordedSite], images: int, chunks: int
) -> dict[str, StoredArray]:
    """Return every array of a recording by name.

    Raises:
        ValueError: two arrays or links would have one name, a dimension two sizes, or a chunk too many bytes.
    """
    status = {"description": "0 not recorded, 1 recorded, 2 skipped because unreadable (its rows are NaN)"}
    done = {"description": "whether a chunk of images is complete"}
    arrays = {
        "status": StoredArray((images,), ("image",), "uint8", NOT_RECORDED, min(CHUNK_IMAGES, images), status),
        "done": StoredArray((chunks,), ("chunk",), "bool", False, 1, done),
    }
    taken = {*arrays, *COORDINATES}
    for quantity in quantities:
        more = quantity.arrays(sites, images, chunks)
        names = {*more, *(alias for array in more.values() for alias in array.aliases)}
        if twice := names & taken:
            raise ValueError(f"two arrays named {min(twice)}")
        arrays |= more
        taken |= names
    sizes = {"axis": len(AXES), "layer": len(sites), "source": len(sources_of(sites)), "branch": len(sites[0].branches)}
    for name, array in arrays.items():
        if array.chunk_bytes > _MAX_CHUNK_BYTES:
            raise ValueError(
                f"64 images make more than {_MAX_CHUNK_BYTES:,} bytes of {name}: record them smaller, or keep less"
            )
        for dim, size in zip(array.dims, array.shape, strict=True):  # as xarray needs them
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"dim {short(dim)} has {size} entries in {name}, {sizes[dim]} elsewhere: rename it")
            if array.dims.count(dim) > 1 or dim in taken - {*COORDINATES}:
                raise ValueError(f"dim {short(dim)} of {name} is another dim or an array too: rename it")
    return arrays


def stored_quantities(attrs: Mapping[str, Any], sites: Sequence[RecordedSite]) -> list[StoredQuantity]:
    """Return what a recording holds; those of schema 1 hold `QUANTITIES`."""
    if attrs["schema_version"] == 1:
        return [StoredQuantity.of_sites(quantity, sites) for quantity in QUANTITIES]
    described = attrs["quantities"]
    if not _fits(described, [dict]) or len(described) > _MAX_QUANTITIES:
        raise ValueError(f"quantities are {short(described)}")
    quantities = [StoredQuantity.from_json(quantity) for quantity in described]
    names = [quantity.name for quantity in quantities]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two quantities named {twice[0]}")
    ours = (*QUANTITIES, *MOMENTS, *HITS, POSITIONS, MAPS)
    laid_out = {quantity.name: _layout(StoredQuantity.of_sites(quantity, sites)) for quantity in ours}
    for quantity in quantities:
        if _layout(quantity) != laid_out.get(quantity.name, _layout(quantity)):
            raise ValueError(f"quantity {quantity.name} is not laid out as atmviz does: give it another name")
    return quantities


def _layout(quantity: StoredQuantity) -> StoredQuantity:
    """Return a quantity without what is only told of it."""
    return replace(quantity, unit="", description="")


def checked_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known keys; KeyError or ValueError where one is missing or of another kind.

    Recordings that name no precision were made in float32.
    """
    if missing := KINDS.keys() - attrs.keys():
        raise KeyError(f"no {', '.join(sorted(missing))}")
    for key, kind in {**KINDS, **_OPTIONAL_KINDS}.items():
        if not _fits(attrs.get(key), kind):
            raise ValueError(f"{key} is {short(attrs[key])}")
    if not _fits(attrs.get("merged_from", []), [str]):
        raise ValueError(f"merged_from is {short(attrs['merged_from'])}")
    parts = attrs.get("parts", [len(attrs["images"])])
    if not _fits(parts, [int]) or min(parts, default=0) < 1 or sum(parts) != len(attrs["images"]):
        raise ValueError(f"parts is {short(parts)}")
    if len(attrs["input_size"]) != 2 or not attrs["images"] or not 1 <= len(attrs["layers"]) <= MAX_SITES:
        raise ValueError("no images, no layers or no input size")
    known = {key: value for key, value in attrs.items() if key in KINDS or key in _OPTIONAL}
    if not _is_flat({**known, "images": None}, 6):
        raise ValueError("nested too deeply")
    return {"precision": "fp32", **known}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a kind: a class, {key: kind} of some keys, [kind] of any length, one of (a, b)."""
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_fits(value.get(key), inner) for key, inner in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(item, kind[0]) for item in value)
    if isinstance(kind, tuple):
        return any(_fits(value, option) for option in kind)
    return value is None if kind is None else type(value) is kind  # True is no number


def _is_flat(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_flat(item, depth - 1) for item in inner)


def short(value: Any) -> str:
    """Return a value as text that fits into one line of an error."""
    return type(value).__name__ if isinstance(value, dict | list) else shorten(" ".join(str(value).split()))


def difference(key: str, there: Any, here: Any) -> str:
    """Say how two values of JSON differ: `size is [64, 64] there and [96, 96] here`; of lists the first difference."""
    if isinstance(there, dict) and isinstance(here, dict):
        was, now = ({name: values.get(name, "absent") for name in {**there, **here}} for values in (there, here))
        inner = next(name for name in was if was[name] != now[name])
        return difference(f"{key} {inner}", was[inner], now[inner])
    if isinstance(there, list) and isinstance(here, list):
        if len(there) != len(here):
            key, there, here = f"the number of {key}", len(there), len(here)
        else:
            there, here = next(pair for pair in zip(there, here, strict=True) if pair[0] != pair[1])
            return difference(key, there, here)
    return f"{key} is {short(there)} there and {short(here)} here"
