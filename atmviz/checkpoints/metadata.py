"""Read the metadata of this project's safetensors files: network, settings, notes of the training run.

A file may set only known settings, each within its range; nothing else reaches a constructor.
"""

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import timm

from atmviz.architecture import CROP_RANGE, FORMER_NAMES, RANGES, Architecture, FusionMode, OffsetMode, is_architecture
from atmviz.errors import AtmvizError, CheckpointError, shorten, summarize
from atmviz.variants import VARIANTS

TRAINING_INFO = "about"  # key of the training run's notes
_MAX_NAME = 200  # characters, of classes and datasets
_MAX_DEPTH = 8  # of a recipe, whose settings are plain values and lists of them
_MAX_INTEGER = 2**63  # a float holds what is below
# Allowed values of settings: of any network, of dense ones, of ATMNets, and of each ATMNet stage
_RANGES = {name: range(low, high + 1) for name, (low, high) in RANGES.items()}
_SETTINGS: dict[str, Sequence[Any]] = {"num_classes": range(100_001)}
_DENSE_SETTINGS: dict[str, Sequence[Any]] = {
    **{name: _RANGES[name] for name in ("dim", "box_samples")},
    **{"min_size": range(32, 4097), "max_size": range(32, 8193)},
}
_ATM_SETTINGS: dict[str, Sequence[Any]] = {
    **{"offset_mode": get_args(OffsetMode), "fusion": get_args(FusionMode), "peg": (False, True)},
    **{name: _RANGES[name] for name in ("num_samples", "channels_per_offset")},
    **{"offset_interval": range(1, 65), "in_chans": range(1, 257), "out_norms": (False, True)},
}
_STAGE_SETTINGS: dict[str, Sequence[Any]] = {
    **{"depths": range(2, 65), "dims": range(4, 2049), "mlp_ratios": range(1, 17), "num_offsets": range(1, 2049)},
}


def read_architecture(text: str, path: Path) -> Architecture:
    """Read a network's name: a variant, or a head around a variant or another timm model.

    Raises:
        CheckpointError: it is no network that can be built here.
    """
    try:
        architecture = Architecture.parse(text[:_MAX_NAME]) if is_architecture(text) else None
    except AtmvizError:
        architecture = None
    if architecture is None or (architecture.backbone not in VARIANTS and not timm.is_model(architecture.backbone)):
        raise CheckpointError(
            f"{path} is of {shorten(text)!r}, expected one of {', '.join(VARIANTS)}, also within a head: update atmviz"
        )
    return architecture


def read_config(text: str, architecture: Architecture, path: Path) -> dict[str, Any]:
    """Read a network's settings; files may use the former names of some.

    Raises:
        CheckpointError: it is not a JSON object of known settings within their ranges.
    """
    config = {FORMER_NAMES.get(name, name): value for name, value in _read_json(text, path).items()}
    return require_settings(config, architecture, path)


def read_training_info(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Read the notes of a training run: known entries within their ranges, and numbers.

    Raises:
        CheckpointError: it is no JSON object, or an entry is of another type or out of range.
    """
    info = _read_json(metadata.get(TRAINING_INFO, "{}"), path)
    if wrong := next((name for name, value in info.items() if not _is_valid_info(name, value)), None):
        raise _damaged(path, f"{shorten(wrong)} is {reprlib.repr(info[wrong])}")
    return info


def _read_json(text: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, shorten(summarize(error))) from None
    if not isinstance(values, dict):
        raise _damaged(path, f"a {type(values).__name__} where settings belong")
    return values


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} has damaged metadata ({reason}): train or convert it again")


def require_settings(config: dict[str, Any], architecture: Architecture, path: Path) -> dict[str, Any]:
    """Return the settings, each known for this network and within its range.

    Raises:
        CheckpointError: a setting is unknown, of another type or out of range.
    """
    known = {
        **_SETTINGS,
        **(_DENSE_SETTINGS if architecture.head else {}),
        **(_ATM_SETTINGS | _STAGE_SETTINGS if architecture.backbone in VARIANTS else {}),
    }
    for name, value in config.items():
        values = value if name in _STAGE_SETTINGS and isinstance(value, list) else [value]
        right_length = len(values) == (4 if name in _STAGE_SETTINGS else 1)
        if not right_length or not all(_is_allowed(item, known.get(name, ())) for item in values):
            raise CheckpointError(
                f"{path} has damaged metadata or is of a newer atmviz (got {shorten(name)} {reprlib.repr(value)} "
                f"for {architecture}): train or convert it again"
            )
    return config


def _is_allowed(value: Any, allowed: Sequence[Any]) -> bool:
    """Whether the value is among the allowed ones and of their type: True is not 1."""
    return bool(allowed) and type(value) is type(allowed[0]) and value in allowed


def _is_valid_info(name: str, value: Any) -> bool:
    match name:
        case "dataset":
            return _is_name(value)
        case "image_size":
            return type(value) is int and value in _RANGES["image_size"]
        case "crop_pct":
            return type(value) in (int, float) and CROP_RANGE[0] <= value <= CROP_RANGE[1]
        case "classes":
            listed = isinstance(value, list) and 1 <= len(value) <= 100_000
            return listed and all(_is_name(label) for label in value) and len({*value}) == len(value)
        case "recipe":
            return isinstance(value, dict) and _is_flat(value, _MAX_DEPTH)
    is_number = type(value) is float or (type(value) is int and abs(value) < _MAX_INTEGER)
    return _is_name(name) and (value is None or is_number)


def _is_flat(value: Any, depth: int) -> bool:
    """Whether JSON is nested at most so deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_flat(item, depth - 1) for item in inner)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME
