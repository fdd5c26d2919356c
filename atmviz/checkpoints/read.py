"""Read a checkpoint file of any layout: choose its weights, rename them, recognize the network."""

from pathlib import Path
from typing import Any, get_args

from atmviz.checkpoints.averaged import WeightChoice, weight_sets
from atmviz.checkpoints.metadata import read_architecture, read_config, read_training_info
from atmviz.checkpoints.origin import Checkpoint, Origin
from atmviz.checkpoints.recognize import recognize, rename
from atmviz.checkpoints.stored import StoredTensor
from atmviz.checkpoints.tensors import read_tensors, read_weights
from atmviz.errors import CheckpointError
from atmviz.files import find_checkpoint, sha256_of_file
from atmviz.hub import HubAddress, is_hub_address


def read_checkpoint(
    path_or_name: str | Path, weights: WeightChoice | None = None, timm_name: str | None = None
) -> Checkpoint:
    """Read a file of any layout and recognize its network, from this project's metadata or else from the shapes.

    Args:
        path_or_name: The file, the name of a bundled one, or an address on the Hub.
        weights: "ema" or "model"; None takes averaged weights where the file has them.
        timm_name: Another timm model. A file without a head of this project's is then taken as that model's.

    Raises:
        CheckpointError: the file is missing, unreadable, unsafe, not finite, or of no known network.
    """
    path = find_checkpoint(path_or_name)
    content, metadata = read_tensors(path)
    stored, chosen, note = _choose_weights(content, weights, metadata.get("weights"), path)
    named = rename(read_weights(stored, path), is_timm=timm_name is not None)
    if "architecture" in metadata and "config" in metadata:
        architecture = read_architecture(metadata["architecture"], path)
        model, config = str(architecture), read_config(metadata["config"], architecture, path)
    elif timm_name and named.head is None:
        model, config = timm_name, {}
    else:
        model, config = recognize(named.state, named.head, path)
    origin = Origin(
        model=model,
        config=config,
        sha256=sha256_of_file(path),
        layout=named.layout,
        path=HubAddress.parse(path_or_name).at_commit(path) if is_hub_address(path_or_name) else str(path),
        weights=chosen,
        left_out=named.left_out,
        note=note,
        training_info=read_training_info(metadata, path),
    )
    return Checkpoint(origin, named.state)


def _choose_weights(
    content: Any, weights: WeightChoice | None, stored: str | None, path: Path
) -> tuple[dict[str, StoredTensor], WeightChoice | None, str]:
    """Choose one of a file's state dicts.

    Args:
        content: What the file holds.
        weights: The weights asked for.
        stored: The weights that a converted file holds by its metadata.

    Returns:
        The state dict; which weights it holds, None where the file does not say; and a note on what was not taken.
    """
    sets, is_named, note = weight_sets(content)
    if stored == "ema" and sets.keys() == {"model"}:
        sets = {"ema": sets["model"]}
    is_named = is_named or stored in get_args(WeightChoice)
    if not sets:
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, or {{'model': ...}}")
    chosen: WeightChoice = weights or ("ema" if "ema" in sets else "model")
    if chosen not in sets:
        other = next(iter(sets))
        raise CheckpointError(f"{path} has no {chosen} weights, only {other}: choose {other} weights")
    return sets[chosen], chosen if is_named else None, note
