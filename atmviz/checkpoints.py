"""Read an ATMNet checkpoint of any public layout, recognise the variant, load it strictly, convert it.

Layouts: the released classification files ({"model", "model_ema", ...}), mmseg and mmdet files ({"state_dict", ...},
the backbone's names under "backbone."), bare state dicts, this project's own names (the "timm" layout), pickled or as
safetensors.
"""

import hashlib
import json
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from atmviz.architecture import (
    CROP_RANGE,
    FORMER_NAMES,
    HEAD_TASKS,
    PAPER_CLASSES,
    RANGES,
    Architecture,
    FusionMode,
    Head,
    OffsetMode,
    is_architecture,
    require_model,
)
from atmviz.averaged import WeightChoice, weight_sets
from atmviz.dense import create_dense
from atmviz.dense.layouts import backbone_prefix, describe_heads, head_of, mm_to_own
from atmviz.errors import AtmvizError, CheckpointError, join_limited, shorten, summarize
from atmviz.files import atomic_path, find_checkpoint, sha256_of_file
from atmviz.models import create_model, released_to_timm
from atmviz.models.token_mixer import OffsetLayer
from atmviz.processes import this_process
from atmviz.stored import StoredTensor, read_file, read_weights
from atmviz.variants import VARIANTS, Variant

_UNTRAINED_SPREAD = 2.5  # standard deviation of the seeded offsets, tokens
# What the metadata of a file may set: of any network, of dense ones, of ATMNets, and per stage
_RANGES = {name: range(least, most + 1) for name, (least, most) in RANGES.items()}
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
_MAX_NAME = 200  # characters, of classes and data sets


@dataclass(frozen=True)
class Checkpoint:
    """A state dict under this project's names, and what is known of where it came from.

    Attributes:
        model: Name of the network, e.g. "atmnet_large" or "upernet(atmnet_large)".
        config: Constructor arguments besides those of the variant.
        state: Parameters by name; empty in a model's `origin`.
        matched: Tensors that the network took from it.
        path: File it was read from, None for seeded weights.
        sha256: Of the file, or of the seeded weights.
        layout: "released", "mmseg", "mmdet" or "timm"; "seeded" for untrained weights, "memory" for those of unknown
            origin.
        weights: "ema" or "model"; None where the file does not say.
        seed: Of seeded weights.
        left_out: Parts of the file that were not loaded, with their number of tensors.
        note: What else is to be known of the choice of weights, "" for nothing.
        about: What a training run of this project noted: dataset, image_size, classes, recipe, accuracies; else empty.
    """

    model: str
    config: dict[str, Any]
    sha256: str
    layout: str
    path: str | None = None
    weights: WeightChoice | None = None
    seed: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    note: str = ""
    about: dict[str, Any] = field(default_factory=dict, repr=False)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    matched: int = 0

    @property
    def trained(self) -> bool | None:
        """None where nobody said."""
        return None if self.layout == "memory" else self.seed is None

    def describe(self) -> str:
        """One line for people: what matched, and what was left out."""
        if self.seed is not None:
            return f"{self.model}: untrained weights (seed {self.seed})"
        weights = {"ema": ", EMA weights", "model": ", model weights", None: ""}[self.weights]
        classes = self.config.get("num_classes")
        head = f", {classes} classes" if classes else ", no classifier"
        if "image_size" in self.about:
            head += f", trained at {self.about['image_size']} px"
        text = f"{self.model} from {self.path}: {self.layout} layout{weights}, {self.matched} tensors matched{head}"
        if self.left_out:
            text += "; left out: " + ", ".join(f"{part} ({count})" for part, count in self.left_out.items())
        return f"{text}; {self.note}" if self.note else text


def load_model(
    path_or_name: str | Path = "atmnet_nano.shapes",
    *,
    model: str | None = None,
    weights: WeightChoice | None = None,
    device: str | torch.device = "auto",
    features_only: bool = False,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """A network in evaluation mode, its weights loaded strictly.

    Args:
        path_or_name: A checkpoint file; "atmnet_nano.shapes", the demonstration model; or a name like "atmnet_tiny"
            and "mask_rcnn(atmnet_tiny)" for seeded, untrained weights whose offsets are scaled to spread over a few
            tokens.
        model: Network, or its backbone, expected in the file; it only confirms what the shapes say.
        weights: "ema" or "model"; averaged weights are taken where the file has them.
        device: "auto" takes CUDA, then MPS, then the CPU.
        features_only: Return the backbone's feature maps [B, C, H, W] (strides 4 to 32, from 8 for RetinaNet; with the
            norms of a dense network) instead of class scores.
        report: Called with one line that says what was loaded.

    Returns:
        An `ATMNet`, timm's feature wrapper around one, or a network of `atmviz.dense`; `.origin` is the `Checkpoint` it
        came from.

    Raises:
        CheckpointError: the file is missing, unreadable, unsafe, not finite, of another network or variant, or it has
            missing, unknown or misshapen tensors, which the message lists.
        AtmvizError: the device is not there.
    """
    target = pick_device(device)
    if is_architecture(path_or_name):
        checkpoint = seeded_checkpoint(str(path_or_name))
    else:
        checkpoint = read_checkpoint(path_or_name, weights)
    require_model(checkpoint.model, model, path_or_name)
    network = build(checkpoint, features_only)
    report(origin_of(network).describe())
    return network.to(target).eval()


def pick_device(name: str | torch.device) -> torch.device:
    """The device a name stands for; "auto" takes CUDA, then MPS, then the CPU. Processes of torchrun get a GPU each."""
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", this_process().local_rank % torch.cuda.device_count())
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("networks do not run on it")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = summarize(error).split(". ")[0].split(" [")[0]
        raise AtmvizError(f"no device {str(name)!r} here ({reason}); expected auto, cpu, cuda, cuda:N or mps") from None
    return device


def seeded_checkpoint(name: str, seed: int = 0) -> Checkpoint:
    """Reproducible untrained weights, their offset layers scaled so that offsets spread over a few tokens."""
    architecture = Architecture.parse(name)
    config = {"num_classes": PAPER_CLASSES[architecture.task]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _create(architecture, config)
    for module in network.modules():
        if isinstance(module, OffsetLayer):
            # After LayerNorm each input has unit variance, so the output's is C times the weights'.
            weight = module.linear.weight.data
            weight *= _UNTRAINED_SPREAD / (weight.std() * weight.shape[1] ** 0.5)
    state = network.state_dict()
    return Checkpoint(str(architecture), config, _sha256_of_state(state), "seeded", seed=seed, state=state)


def origin_of(network: nn.Module) -> Checkpoint:
    """Where a network's weights came from; for one not loaded here, its class and a fingerprint of its weights."""
    if hasattr(network, "origin"):
        return network.origin  # type: ignore[return-value]
    return Checkpoint(type(network).__name__, {}, _sha256_of_state(network.state_dict()), "memory")


def read_checkpoint(
    path_or_name: str | Path, weights: WeightChoice | None = None, timm_name: str | None = None
) -> Checkpoint:
    """Read a file of any layout and recognise its variant from the shapes (or from this project's metadata).

    With `timm_name`, of a model that is no ATMNet, a file of no network of this project is taken as that model's.
    """
    path = find_checkpoint(path_or_name)
    raw, metadata = read_file(path)
    described, chosen, note = _choose_weights(raw, weights, metadata.get("weights"), path)
    layout, head, state, left_out = _rename(read_weights(described, path), timm_name)
    try:
        model, config = _recognise(state, head, metadata, path, timm_name)
    except (IndexError, KeyError) as error:  # a tensor that tells a size has none, or is not there
        raise CheckpointError(
            f"{path} is not whole: it has the names of {head} without their shapes ({summarize(error)})"
        ) from None
    return Checkpoint(
        model=model,
        config=config,
        sha256=sha256_of_file(path),
        layout=layout,
        path=str(path),
        weights=chosen,
        left_out=left_out,
        note=note,
        about=_read_about(metadata, path),
        state=state,
    )


def build(checkpoint: Checkpoint, features_only: bool = False) -> nn.Module:
    """The network of a checkpoint on the CPU, every tensor matched by name and shape.

    Raises:
        CheckpointError: missing, unknown or misshapen tensors; the message lists them.
    """
    architecture, state = Architecture.parse(checkpoint.model), checkpoint.state
    of_classifier = architecture.head is None

    def create() -> nn.Module:
        return _create(architecture, checkpoint.config, features_only and of_classifier)

    try:
        with torch.device("meta"):
            network = create()
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} has a configuration that builds no network ({shorten(summarize(error), 200)}): "
            "train or convert it again"
        ) from None
    filled: Any = network.model if features_only and of_classifier else network
    if of_classifier and features_only:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("norm.", "head."))}
    elif of_classifier and not any(name.startswith(("norm.", "head.")) for name in state):
        filled.prune_intermediate_layers(4, prune_norm=True)  # a segmentation backbone has neither
    _require_match(state, filled.state_dict(), checkpoint)
    if architecture.backbone not in VARIANTS:
        network = filled = create()  # timm's other backbones compute some of what they hold
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    filled.load_state_dict(state, assign=True)
    origin = replace(checkpoint, state={}, matched=len(state))
    if features_only:
        origin = replace(origin, config={**origin.config, "num_classes": 0})
    if features_only and not of_classifier:
        backbone: Any = network.backbone
        network = backbone if architecture.head == "upernet" else backbone.body
        heads = Counter(name.split(".")[0] for name in state if not name.startswith("backbone."))
        origin = replace(origin, matched=len(network.state_dict()), left_out=dict(heads))
    network.origin = origin  # type: ignore[assignment]
    return network


def _create(architecture: Architecture, config: Mapping[str, Any], features_only: bool = False) -> nn.Module:
    if architecture.head:
        return create_dense(architecture, **config)
    return create_model(architecture.backbone, features_only=features_only, **config)


def convert_checkpoint(source: Path, target: Path, weights: WeightChoice | None = None) -> Checkpoint:
    """Write a checkpoint as safetensors under this project's names, with its configuration as metadata.

    The file is checked against the network first and appears whole or not at all.
    """
    if target.suffix != ".safetensors":
        raise ValueError(f"got {target}, expected a name ending in .safetensors")
    checkpoint = read_checkpoint(source, weights)
    origin = origin_of(build(checkpoint))
    metadata = {"source": os.fsencode(source.name).decode("utf-8", "replace"), "source_sha256": checkpoint.sha256}
    if checkpoint.weights:
        metadata["weights"] = checkpoint.weights
    try:
        _write(target, checkpoint.model, checkpoint.config, checkpoint.state, checkpoint.about, metadata)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot write {target} ({error}): choose another place") from None
    return origin


def write_checkpoint(
    path: Path,
    model: str,
    config: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Tensor]],
    about: Mapping[str, Any],
) -> None:
    """Write the weights of a training run as safetensors, whole or not at all.

    Args:
        path: Where.
        model: The variant's name.
        config: Constructor arguments besides those of the variant.
        states: "model", and "model_ema" where there are averaged weights, as released files name them.
        about: What `Checkpoint.about` gives back; of plain JSON values.

    Raises:
        SafetensorError, OSError: it cannot be written; a file that was there stays.
    """
    tensors = {f"{kind}.{name}": tensor for kind, state in states.items() for name, tensor in state.items()}
    _write(path, model, config, tensors, about, {})


def _write(
    path: Path,
    model: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    metadata: Mapping[str, str],
) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"cannot write {path}, a name that is not UTF-8: choose another place") from None
    metadata = {"format": "pt", "architecture": model, "config": json.dumps(config), **metadata}
    if about:
        metadata["about"] = json.dumps(about)
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # the user's; safetensors would let nobody else read it
        save_file(
            {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, temporary, metadata
        )
        temporary.chmod(mode)


def _choose_weights(
    raw: Any, weights: WeightChoice | None, stored: str | None, path: Path
) -> tuple[dict[str, StoredTensor], WeightChoice | None, str]:
    """The state dict that is wanted of a file, which of its two it is where the file says so, and what was not taken.

    Args:
        weights: Asked for.
        stored: What the metadata of a converted file says it holds.
    """
    held, told, note = weight_sets(raw)
    if stored == "ema" and held.keys() == {"model"}:
        held = {"ema": held["model"]}
    told = told or stored in get_args(WeightChoice)
    if not held:
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, or {{'model': ...}}")
    chosen: WeightChoice = weights or ("ema" if "ema" in held else "model")
    if chosen not in held:
        raise CheckpointError(
            f"{path} has no {chosen} weights, only {', '.join(held)}: pass --weights {next(iter(held))}"
        )
    return held[chosen], chosen if told else None, note


def _rename(
    state: dict[str, Tensor], timm_name: str | None
) -> tuple[str, Head | None, dict[str, Tensor], dict[str, int]]:
    """Layout, head, the network's tensors under this project's names, and what else was in the file."""
    if head := head_of(state, own=True):
        return "timm", head, state, {}
    if timm_name:
        return "timm", None, state, {}
    if head := head_of(state, own=False):
        layout = "mmseg" if HEAD_TASKS[head] == "segment" else "mmdet"
        return layout, head, mm_to_own(head, state), {}
    if any(name.startswith("backbone.") for name in state):  # of a head that is none of ours
        left_out = Counter(name.split(".")[0] for name in state if not name.startswith("backbone."))
        backbone = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
        return "mmseg", None, released_to_timm(backbone), dict(left_out)
    if any(name.startswith("stages.") for name in state):
        return "timm", None, state, {}
    return "released", None, released_to_timm(state), {}


def _recognise(
    state: Mapping[str, Tensor],
    head: Head | None,
    metadata: Mapping[str, str],
    path: Path,
    timm_name: str | None,
) -> tuple[str, dict[str, Any]]:
    """Name and constructor arguments, from metadata of our own or else from the tensors' shapes."""
    if "architecture" in metadata and "config" in metadata:
        architecture = _read_architecture(metadata["architecture"], path)
        return str(architecture), _read_config(metadata["config"], architecture, path)
    if head is None:
        if timm_name:
            return timm_name, {}
        model, config = _recognise_backbone(state, path)
        return model, _require_settings(config, Architecture(model), path)
    prefix = backbone_prefix(head) + "model."
    body = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    backbone, config = _recognise_backbone(body, path)
    architecture, config["num_classes"] = describe_heads(head, backbone, state)
    config.pop("out_norms", None)  # every dense network has them
    return str(architecture), _require_settings(config, architecture, path)


def _read_architecture(text: str, path: Path) -> Architecture:
    """A network that a file names: of a variant, or of a head around one or another model that timm builds."""
    try:
        architecture = Architecture.parse(text[:_MAX_NAME]) if is_architecture(text) else None
    except AtmvizError:
        architecture = None
    if architecture is None or (architecture.backbone not in VARIANTS and not timm.is_model(architecture.backbone)):
        raise CheckpointError(
            f"{path} is of {shorten(text)!r}, expected one of {', '.join(VARIANTS)}, also within a head: update atmviz"
        )
    return architecture


def _read_config(text: str, architecture: Architecture, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise TypeError(f"a {type(config).__name__} where settings belong")
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has damaged metadata ({shorten(summarize(error))}): convert it again") from None
    config = {FORMER_NAMES.get(name, name): value for name, value in config.items()}
    return _require_settings(config, architecture, path)


def _require_settings(config: dict[str, Any], architecture: Architecture, path: Path) -> dict[str, Any]:
    """The settings of a network, each known and within its range; nothing else reaches a constructor."""
    own = architecture.backbone in VARIANTS
    known = {
        **_SETTINGS,
        **(_DENSE_SETTINGS if architecture.head else {}),
        **(_ATM_SETTINGS | _STAGE_SETTINGS if own else {}),
    }
    for name, value in config.items():
        values = value if name in _STAGE_SETTINGS and isinstance(value, list) else [value]
        right_length = len(values) == (4 if name in _STAGE_SETTINGS else 1)
        if not right_length or not all(_is_one_of(one, known.get(name, ())) for one in values):
            raise CheckpointError(
                f"{path} has damaged metadata or is of a newer atmviz (got {shorten(name)} {reprlib.repr(value)} "
                f"for {architecture}): train or convert it again"
            )
    return config


def _is_one_of(value: Any, allowed: Sequence[Any]) -> bool:
    """By kind too: true is no number."""
    return bool(allowed) and type(value) is type(allowed[0]) and value in allowed


def _recognise_backbone(state: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    """Variant and constructor arguments, from the shapes."""
    found = {(name, tuple(tensor.shape)) for name, tensor in state.items() if name.endswith(".mlp.fc1.weight")}

    def agreement(variant: Variant) -> float:
        expected = {
            (f"stages.{i}.blocks.{j}.mlp.fc1.weight", (ratio * dim, dim))
            for i, (depth, dim, ratio) in enumerate(zip(variant.depths, variant.dims, variant.mlp_ratios, strict=True))
            for j in range(depth)
        }
        return len(expected & found) / len(expected | found)

    best = max(VARIANTS, key=lambda name: agreement(VARIANTS[name]))
    if agreement(VARIANTS[best]) < 0.5:
        raise CheckpointError(
            f"{path} is not of an ATMNet ({len(state)} tensors: {join_limited(state, 12)}): "
            f"expected one of {', '.join(VARIANTS)}"
        )
    config: dict[str, Any] = {"num_classes": 0}
    if (head := state.get("head.fc.weight")) is not None and head.dim() == 2:
        config["num_classes"] = head.shape[0]
    if (stem := state.get("stem.weight")) is not None and stem.dim() == 4:
        config["in_chans"] = stem.shape[1]
    if any(name.startswith("out_norms.") for name in state):
        config["out_norms"] = True
    if "stages.0.blocks.0.token_mixer.fusion.weight" in state:
        config["fusion"] = "paper"
    if group := _one_group(state, VARIANTS[best].dims):
        config["channels_per_offset"] = group
    return best, config


def _one_group(state: Mapping[str, Tensor], dims: Sequence[int]) -> int:
    """How many channels share an offset, from the rows of the offset layers; 0 where stages differ, as released."""
    biases = [state.get(f"stages.{stage}.blocks.0.offset.linear.bias") for stage in range(len(dims))]
    rows = [0 if bias is None else bias.numel() for bias in biases]
    group = 2 * dims[0] // max(rows[0], 1)
    return group if group and rows == [2 * dim // group for dim in dims] else 0


def _read_about(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """What a training run noted: known kinds within their ranges, and numbers."""
    try:
        about = json.loads(metadata.get("about", "{}"))
        if wrong := next((name for name, value in about.items() if not _may_be_noted(name, value)), None):
            raise ValueError(f"{shorten(wrong)} is {reprlib.repr(about[wrong])}")
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has damaged metadata ({shorten(summarize(error))}): train or convert it again"
        ) from None
    return about


def _may_be_noted(name: str, value: Any) -> bool:
    match name:
        case "dataset":
            return _is_name(value)
        case "image_size":
            return type(value) is int and value in _RANGES["image_size"]
        case "crop_pct":
            return type(value) in (int, float) and CROP_RANGE[0] <= value <= CROP_RANGE[1]
        case "classes":
            named = isinstance(value, list) and 1 <= len(value) <= 100_000 and all(_is_name(one) for one in value)
            return named and len({*value}) == len(value)
        case "recipe":
            return isinstance(value, dict)
    return _is_name(name) and (value is None or type(value) in (int, float))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME


def _require_match(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    if problems := mismatch(state, expected):
        raise CheckpointError(
            f"{checkpoint.path} does not fit {checkpoint.model}, whose {len(expected)} tensors it must hold exactly: "
            + problems
        )


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What is missing, unknown or misshapen in a state dict, as part of a sentence; empty where it fits exactly."""
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    counted = [
        f"{name} {str(state[name].dtype).removeprefix('torch.')}"
        for name in expected
        if name in state and expected[name].is_floating_point() and not state[name].is_floating_point()
    ]
    return "; ".join(
        f"{len(names)} {label}: {join_limited((shorten(name) for name in names), 12)}"
        for label, names in (
            *(("missing", missing), ("unknown", unknown), ("of a wrong shape", misshapen)),
            ("of a wrong kind", counted),
        )
        if names
    )


def _sha256_of_state(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
