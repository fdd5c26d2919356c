"""Write checkpoints as safetensors under this project's names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from atmviz.checkpoints.averaged import WeightChoice
from atmviz.checkpoints.load import build
from atmviz.checkpoints.metadata import TRAINING_INFO
from atmviz.checkpoints.origin import Checkpoint, Origin, origin_of
from atmviz.checkpoints.read import read_checkpoint
from atmviz.errors import CheckpointError, reason_of
from atmviz.files import atomic_path, find_checkpoint
from atmviz.hub import is_hub_address


def convert_checkpoint(source: str | Path, target: str | Path, weights: WeightChoice | None = None) -> Origin:
    """Write a checkpoint of any layout as safetensors, atomically, with its configuration as metadata.

    Args:
        source: The checkpoint, the name of a bundled one, or an address on the Hub.
        target: A name ending in .safetensors.
        weights: "ema" or "model"; None takes averaged weights where the file has them.

    Returns:
        The origin of the weights in `source`.

    Raises:
        ValueError: the target has another suffix.
        CheckpointError: the source cannot be read or does not fit its network, or the target cannot be written.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"got {target}, expected a name ending in .safetensors")
    is_remote = is_hub_address(source)
    checkpoint = read_checkpoint(source if is_remote else find_checkpoint(source, random=False), weights)
    origin = origin_of(build(checkpoint))  # checks that the file fits
    name = str(origin.path) if is_remote else os.fsencode(source.name).decode("utf-8", "replace")
    write_converted(target, Checkpoint(origin, checkpoint.state), name)
    return origin


def write_converted(target: Path, checkpoint: Checkpoint, name: str) -> None:
    """Write weights as safetensors, atomically, with their origin as metadata.

    Args:
        target: A name ending in .safetensors.
        checkpoint: The weights.
        name: What they are converted from.

    Raises:
        CheckpointError: the file cannot be written.
    """
    origin = checkpoint.origin
    metadata = {"source": name, "source_sha256": origin.sha256}
    if origin.weights:
        metadata["weights"] = origin.weights
    metadata |= _describe(origin.model, origin.config, origin.training_info)
    try:
        _write(target, checkpoint.state, metadata)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot write {target} ({reason_of(error)}): choose another path") from None


def write_checkpoint(
    path: Path,
    model: str,
    config: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Tensor]],
    training_info: Mapping[str, Any],
) -> None:
    """Write the weights of a training run as safetensors, atomically.

    Args:
        path: Name of the file.
        model: Name of the network.
        config: Constructor arguments besides those of the variant.
        states: State dicts by the names of released files: "model", and "model_ema" for averaged weights.
        training_info: Becomes `Origin.training_info`; plain JSON values.

    Raises:
        SafetensorError, OSError: it cannot be written; an earlier file is kept.
    """
    tensors = {f"{kind}.{name}": tensor for kind, state in states.items() for name, tensor in state.items()}
    _write(path, tensors, _describe(model, config, training_info))


def _describe(model: str, config: Mapping[str, Any], training_info: Mapping[str, Any]) -> dict[str, str]:
    metadata = {"format": "pt", "architecture": model, "config": json.dumps(config)}
    return {**metadata, TRAINING_INFO: json.dumps(training_info)} if training_info else metadata


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"cannot write {path}, a name that is not UTF-8: choose another path") from None
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would let nobody else read the file
        contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata)
        temporary.chmod(mode)
