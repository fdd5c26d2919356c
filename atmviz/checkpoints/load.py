"""Build networks and load weights into them strictly."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atmviz.architecture import INITIAL, PAPER_CLASSES, Architecture, is_architecture, require_model
from atmviz.checkpoints.averaged import WeightChoice
from atmviz.checkpoints.origin import Checkpoint, Origin, attach_origin, fingerprint
from atmviz.checkpoints.read import read_checkpoint
from atmviz.dense import create_network
from atmviz.devices import pick_device
from atmviz.errors import CheckpointError, join_limited, shorten, summarize
from atmviz.events import QUIET, Events
from atmviz.models.layers import spread_offsets
from atmviz.variants import VARIANTS

_RANDOM_OFFSET_STD = 2.5  # tokens
_CLASSIFIER = ("norm.", "head.")  # parts that feature maps do not need


def load_model(
    path_or_name: str | Path = "atmnet_nano.shapes",
    *,
    model: str | None = None,
    weights: WeightChoice | None = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    features_only: bool = False,
    events: Events = QUIET,
) -> nn.Module:
    """Load a network in evaluation mode, with every tensor of the file matched by name and shape.

    Files are read as data: nothing in them is run.

    Args:
        path_or_name: A checkpoint file, or one on the Hugging Face Hub as "hf://user/repo", "hf://user/repo@revision"
            or "hf://user/repo/file"; "atmnet_nano.shapes", the demonstration model; or a name like "atmnet_tiny"
            and "mask_rcnn(atmnet_tiny)" for random, untrained weights. Random offset layers are scaled so that offsets
            spread over a few tokens. "init:" before any of these gives the same network as training begins with it.
        model: The network, or its backbone, that the file must hold.
        weights: "ema" or "model"; None takes averaged weights where the file has them.
        device: Name of a device; "auto" takes CUDA, then MPS, then the CPU.
        seed: Seed of weights that are drawn.
        features_only: Return the backbone's feature maps [B, C, H, W] (strides 4 to 32, from 8 for RetinaNet; after the
            norms of a dense network) instead of class scores.
        events: `message` receives one line that says what was loaded.

    Returns:
        An `ATMNet`, timm's feature wrapper around one, or a network of `atmviz.dense`. Its attribute `origin` is the
        `Origin` of the weights; `origin_of` finds it in wrapped networks too.

    Raises:
        CheckpointError: the file is missing, unreadable, unsafe, not finite, of another network or variant, or it has
            missing, unknown or misshapen tensors, which the message lists.
        AtmvizError: the device is not there.
    """
    target = pick_device(device)
    if str(path_or_name).startswith(INITIAL):
        checkpoint = initial_checkpoint(str(path_or_name).removeprefix(INITIAL), seed)
    elif is_architecture(path_or_name):
        checkpoint = random_checkpoint(str(path_or_name), seed)
    else:
        checkpoint = read_checkpoint(path_or_name, weights)
    require_model(checkpoint.origin.model, model, path_or_name)
    network = build(checkpoint, features_only)
    events.message(network.origin.describe())  # type: ignore[union-attr, operator]
    return network.to(target).eval()


def random_checkpoint(name: str, seed: int = 0) -> Checkpoint:
    """Draw reproducible random weights, with offset layers scaled so that offsets spread over a few tokens."""
    architecture = Architecture.parse(name)
    config = {"num_classes": PAPER_CLASSES[architecture.task]}
    network = _drawn(architecture, config, seed)
    spread_offsets(network, _RANDOM_OFFSET_STD)
    state = network.state_dict()
    return Checkpoint(Origin(str(architecture), config, fingerprint(state), "random", seed=seed), state)


def initial_checkpoint(path_or_name: str, seed: int = 0) -> Checkpoint:
    """Draw the weights that training begins with, of the network that a checkpoint holds or a name gives."""
    if is_architecture(path_or_name):
        architecture = Architecture.parse(path_or_name)
        config: dict[str, Any] = {"num_classes": PAPER_CLASSES[architecture.task]}
    else:
        origin = read_checkpoint(path_or_name).origin
        architecture, config = Architecture.parse(origin.model), origin.config
    state = _drawn(architecture, config, seed).state_dict()
    return Checkpoint(Origin(str(architecture), config, fingerprint(state), "initial", seed=seed), state)


def _drawn(architecture: Architecture, config: Mapping[str, Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_network(architecture, **config)


def build(checkpoint: Checkpoint, features_only: bool = False) -> nn.Module:
    """Build the network of a checkpoint on the CPU, every tensor matched by name and shape.

    Raises:
        CheckpointError: missing, unknown or misshapen tensors, which the message lists.
    """
    architecture = Architecture.parse(checkpoint.origin.model)
    build_kind = _build_dense if architecture.head else _build_classifier
    network, origin = build_kind(checkpoint, architecture, features_only)
    if features_only:
        origin = replace(origin, config={**origin.config, "num_classes": 0})
    return attach_origin(network, origin)


def _build_classifier(
    checkpoint: Checkpoint, architecture: Architecture, features_only: bool
) -> tuple[nn.Module, Origin]:
    """Build a classifier, or timm's feature wrapper around the backbone."""
    network = _create_on_meta(checkpoint, architecture, features_only=features_only)
    backbone, state = network.model if features_only else network, checkpoint.state
    if features_only:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(_CLASSIFIER)}
    elif not any(name.startswith(_CLASSIFIER) for name in state):  # as in a segmentation backbone
        backbone.prune_intermediate_layers(4, prune_norm=True)
    _fill(backbone, state, checkpoint.origin)
    return network, replace(checkpoint.origin, matched=len(state))


def _build_dense(checkpoint: Checkpoint, architecture: Architecture, features_only: bool) -> tuple[nn.Module, Origin]:
    """Build the whole network, so that the file is checked as a whole, and return it or its backbone."""
    network, state, origin = _create_on_meta(checkpoint, architecture), checkpoint.state, checkpoint.origin
    _require_match(state, network.state_dict(), origin)
    if architecture.backbone not in VARIANTS:  # other timm backbones compute buffers, which meta tensors cannot hold
        network = create_network(architecture, **origin.config)
    _fill(network, state, origin)
    if not features_only:
        return network, replace(origin, matched=len(state))
    backbone = network.backbone if architecture.head == "upernet" else network.backbone.body
    left_out = Counter(name.split(".")[0] for name in state if not name.startswith("backbone."))
    return backbone, replace(origin, matched=len(backbone.state_dict()), left_out=dict(left_out))


def _create_on_meta(checkpoint: Checkpoint, architecture: Architecture, **options: Any) -> Any:
    """Create the network without memory for its weights."""
    try:
        with torch.device("meta"):
            return create_network(architecture, **options, **checkpoint.origin.config)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint.origin.path} has a configuration that builds no network "
            f"({shorten(summarize(error), 200)}): train or convert it again"
        ) from None


def _fill(module: nn.Module, state: Mapping[str, Tensor], origin: Origin) -> None:
    """Make the tensors, as float32, those of the module."""
    _require_match(state, module.state_dict(), origin)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    module.load_state_dict(state, assign=True)


def _require_match(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: Origin) -> None:
    if problems := mismatch(state, expected):
        raise CheckpointError(
            f"{origin.path} does not fit {origin.model}, whose {len(expected)} tensors it must hold exactly: {problems}"
        )


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """List the missing, unknown and misshapen tensors of a state dict as part of a sentence; "" where it fits."""
    common = [(name, state[name], expected[name]) for name in expected if name in state]
    problems = {
        "missing": [name for name in expected if name not in state],
        "unknown": [name for name in state if name not in expected],
        "of a wrong shape": [
            f"{name} {list(tensor.shape)} instead of {list(other.shape)}"
            for name, tensor, other in common
            if tensor.shape != other.shape
        ],
        "of a wrong kind": [
            f"{name} {str(tensor.dtype).removeprefix('torch.')}"
            for name, tensor, other in common
            if other.is_floating_point() and not tensor.is_floating_point()
        ],
    }
    return "; ".join(
        f"{len(names)} {label}: {join_limited((shorten(name) for name in names), 12)}"
        for label, names in problems.items()
        if names
    )
