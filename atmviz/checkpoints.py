"""Read an ATMNet checkpoint of any public layout, recognise the variant, load it strictly, convert it.

Layouts: the released classification files ({"model", "model_ema", ...}), mmseg and mmdet files ({"state_dict", ...},
the backbone's names under "backbone."), bare state dicts, this project's own names (the "timm" layout), pickled or as
safetensors.
"""

import argparse
import hashlib
import json
import pathlib
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from atmviz.dense import create_dense
from atmviz.dense.layouts import backbone_prefix, describe_heads, framework_of, mm_to_own
from atmviz.errors import AtmvizError, CheckpointError, first_line, some_of
from atmviz.files import atomic_path, find_checkpoint, sha256_of_file
from atmviz.models import create_model, released_to_timm
from atmviz.models.token_mixer import OffsetLayer
from atmviz.processes import this_process
from atmviz.variants import (
    FRAMEWORK_TASKS,
    VARIANTS,
    Architecture,
    Framework,
    Task,
    Variant,
    is_architecture,
    require_model,
)

WeightChoice = Literal["ema", "model"]

_multiarray: Any = np._core.multiarray  # type: ignore[attr-defined]

# What harmless training checkpoints hold besides tensors; anything else in a pickle is refused, not run.
_SAFE_GLOBALS: list[Any] = [
    argparse.Namespace,
    *((pathlib.PosixPath, name) for name in ("pathlib.PosixPath", "pathlib._local.PosixPath")),
    np.dtype,
    np.ndarray,
    _multiarray.scalar,
    _multiarray._reconstruct,
    (_multiarray.scalar, "numpy.core.multiarray.scalar"),  # their names in numpy 1
    (_multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    *(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)),
]
# How released files, then mmseg files and timm's training script, name weights and averaged weights.
_WRAPPERS: tuple[dict[WeightChoice, str], ...] = (
    {"model": "model", "ema": "model_ema"},
    {"model": "state_dict", "ema": "state_dict_ema"},
)
_UNTRAINED_SPREAD = 2.5  # standard deviation of the seeded offsets, tokens
_PAPER_CLASSES: dict[Task, int] = {"classify": 1000, "segment": 150, "detect": 80}


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
        return text


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
        reason = first_line(error).split(". ")[0].split(" [")[0]
        raise AtmvizError(f"no device {str(name)!r} here ({reason}); expected auto, cpu, cuda, cuda:N or mps") from None
    return device


def seeded_checkpoint(name: str, seed: int = 0) -> Checkpoint:
    """Reproducible untrained weights, their offset layers scaled so that offsets spread over a few tokens."""
    architecture = Architecture.parse(name)
    config = {"num_classes": _PAPER_CLASSES[architecture.task]}
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


def read_checkpoint(path_or_name: str | Path, weights: WeightChoice | None = None) -> Checkpoint:
    """Read a file of any layout and recognise its variant from the shapes (or from this project's metadata)."""
    path = find_checkpoint(path_or_name)
    raw, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})
    stored: Any = metadata.get("weights")
    named, chosen = _choose_weights(raw, weights, stored, path)
    layout, framework, state, left_out = _rename(named)
    _require_finite(state, path)
    try:
        model, config = _recognise(state, framework, metadata, path)
    except (IndexError, KeyError) as error:  # a tensor that tells a size has none, or is not there
        raise CheckpointError(
            f"{path} is not whole: it has the names of {framework} without their shapes ({first_line(error)})"
        ) from None
    return Checkpoint(
        model=model,
        config=config,
        sha256=sha256_of_file(path),
        layout=layout,
        path=str(path),
        weights=chosen,
        left_out=left_out,
        about=_read_about(metadata, path),
        state=state,
    )


def build(checkpoint: Checkpoint, features_only: bool = False) -> nn.Module:
    """The network of a checkpoint on the CPU, every tensor matched by name and shape.

    Raises:
        CheckpointError: missing, unknown or misshapen tensors; the message lists them.
    """
    architecture, state = Architecture.parse(checkpoint.model), checkpoint.state
    of_classifier = architecture.framework is None
    try:
        # timm's other backbones do not all know what they are to hold before it is computed
        with torch.device("meta" if architecture.backbone in VARIANTS else "cpu"):
            network = _create(architecture, checkpoint.config, features_only and of_classifier)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"{checkpoint.path} has a configuration that builds no network ({reason}): train or convert it again"
        ) from None
    filled: Any = network.model if features_only and of_classifier else network
    if of_classifier and features_only:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("norm.", "head."))}
    elif of_classifier and not any(name.startswith(("norm.", "head.")) for name in state):
        filled.prune_intermediate_layers(4, prune_norm=True)  # a segmentation backbone has neither
    _require_match(state, filled.state_dict(), checkpoint)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    filled.load_state_dict(state, assign=True)
    origin = replace(checkpoint, state={}, matched=len(state))
    if features_only:
        origin = replace(origin, config={**origin.config, "num_classes": 0})
    if features_only and not of_classifier:
        backbone: Any = network.backbone
        network = backbone if architecture.framework == "upernet" else backbone.body
        heads = Counter(name.split(".")[0] for name in state if not name.startswith("backbone."))
        origin = replace(origin, matched=len(network.state_dict()), left_out=dict(heads))
    network.origin = origin  # type: ignore[assignment]
    return network


def _create(architecture: Architecture, config: Mapping[str, Any], features_only: bool = False) -> nn.Module:
    if architecture.framework:
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
    metadata = {"source": source.name, "source_sha256": checkpoint.sha256}
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


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors by name, or {"model": {...}, "model_ema": {...}} of a training run's file; and the metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied: they lie in the file at any address, and kernels for aligned memory round differently.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if "about" not in metadata or "weights" in metadata:
            return tensors, metadata
        states: dict[str, Any] = {}
        for name, tensor in tensors.items():
            kind, _, name = name.partition(".")
            states.setdefault(kind, {})[name] = tensor
        return states, metadata
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from None


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path} wants to run {found[1]!r} when loaded: refused, nothing was run. Expected tensors and plain "
                "values; re-save its state dict, or get the file from its authors"
            ) from None
        raise CheckpointError(f"{path} is not a checkpoint torch can read: copy or download it again") from None
    except PermissionError:
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0].removesuffix(": ")
        raise CheckpointError(f"{path} is damaged or no checkpoint ({reason}): copy or download it again") from None


def _choose_weights(
    raw: Any, weights: WeightChoice | None, stored: WeightChoice | None, path: Path
) -> tuple[dict[str, Tensor], WeightChoice | None]:
    """The state dict inside whatever a training script saved around it, and which of its two it is.

    Args:
        weights: Asked for.
        stored: What the metadata of a converted file says it holds.
    """
    held: dict[WeightChoice, Any] = {stored or "model": raw}
    wrapped = stored is not None
    for names in _WRAPPERS if isinstance(raw, Mapping) else ():
        found = {kind: raw[name] for kind, name in names.items() if isinstance(raw.get(name), Mapping)}
        if found:
            held, wrapped = found, True
            break
    chosen = weights or ("ema" if "ema" in held else "model")
    if chosen not in held:
        raise CheckpointError(f"{path} has no {chosen} weights, only {', '.join(held)}: leave --weights out")
    raw = held[chosen]
    items = raw.items() if isinstance(raw, Mapping) else ()
    if not items or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in items):
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, or {{'model': ...}}")
    return dict(items), chosen if wrapped else None


def _rename(state: dict[str, Tensor]) -> tuple[str, Framework | None, dict[str, Tensor], dict[str, int]]:
    """Layout, framework, the network's tensors under this project's names, and what else was in the file."""
    wrappers = ("module.", "_orig_mod.", "model.")  # data parallel, torch.compile, timm's feature wrapper
    while prefix := next((one for one in wrappers if all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if framework := framework_of(state, own=True):
        return "timm", framework, state, {}
    if framework := framework_of(state, own=False):
        layout = "mmseg" if FRAMEWORK_TASKS[framework] == "segment" else "mmdet"
        return layout, framework, mm_to_own(framework, state), {}
    if any(name.startswith("backbone.") for name in state):  # of a framework that is none of ours
        left_out = Counter(name.split(".")[0] for name in state if not name.startswith("backbone."))
        backbone = {n.removeprefix("backbone."): t for n, t in state.items() if n.startswith("backbone.")}
        return "mmseg", None, released_to_timm(backbone), dict(left_out)
    if any(name.startswith("stages.") for name in state):
        return "timm", None, state, {}
    return "released", None, released_to_timm(state), {}


def _require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(f"{path} has NaN or infinite values in {some_of(bad, 12)}: use an earlier checkpoint")


def _recognise(
    state: Mapping[str, Tensor], framework: Framework | None, metadata: Mapping[str, str], path: Path
) -> tuple[str, dict[str, Any]]:
    """Name and constructor arguments, from metadata of our own or else from the tensors' shapes."""
    if "architecture" in metadata and "config" in metadata:
        if not is_architecture(metadata["architecture"]):
            raise CheckpointError(
                f"{path} is of {metadata['architecture']!r}, expected one of {', '.join(VARIANTS)}: update atmviz"
            )
        try:
            return metadata["architecture"], dict(json.loads(metadata["config"]))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path} has damaged metadata ({error}): convert it again") from None
    if framework is None:
        return _recognise_backbone(state, path)
    prefix = backbone_prefix(framework) + "model."
    body = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    backbone, config = _recognise_backbone(body, path)
    architecture, config["num_classes"] = describe_heads(framework, backbone, state)
    config.pop("out_norms", None)  # every dense network has them
    return str(architecture), config


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
            f"{path} is not of an ATMNet ({len(state)} tensors: {some_of(state, 12)}): "
            f"expected one of {', '.join(VARIANTS)}"
        )
    config: dict[str, Any] = {"num_classes": 0}
    if (head := state.get("head.fc.weight")) is not None and head.dim() == 2:
        config["num_classes"] = head.shape[0]
    if (stem := state.get("stem.weight")) is not None and stem.dim() == 4:
        config["in_chans"] = stem.shape[1]
    if any(name.startswith("out_norms.") for name in state):
        config["out_norms"] = True
    return best, config


def _read_about(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        about = dict(json.loads(metadata.get("about", "{}")))
        for name, kind in (("dataset", str), ("image_size", int), ("crop_pct", float), ("classes", list)):
            if name in about and (type(about[name]) is not kind or not about[name]):
                raise ValueError(f"{name} is {about[name]!r}")
        if not all(isinstance(name, str) for name in about.get("classes", ())):
            raise ValueError("classes are not names")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has damaged metadata ({error}): train or convert it again") from None
    return about


def _require_match(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {list(state[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    problems = [
        f"{len(names)} {label}: {some_of(names, 12)}"
        for label, names in (("missing", missing), ("unknown", unknown), ("of a wrong shape", misshapen))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{checkpoint.path} does not fit {checkpoint.model}, whose {len(expected)} tensors it must hold exactly: "
            + "; ".join(problems)
        )


def _sha256_of_state(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
