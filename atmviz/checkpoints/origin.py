"""The origin of a network's weights, apart from the weights themselves. Torch-free until a fingerprint is asked for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from atmviz.checkpoints.averaged import WeightChoice

Layout = Literal["released", "mmseg", "mmdet", "timm", "random", "initial", "memory"]


@dataclass(frozen=True)
class Origin:
    """Where the weights of a network came from.

    Attributes:
        model: Name of the network, e.g. "atmnet_large" or "upernet(atmnet_large)".
        config: Constructor arguments besides those of the variant.
        sha256: Hash of the file; of the weights where there is none.
        layout: Layout of the file; "random" for random, untrained weights, "initial" for those that training begins
            with, "memory" for weights of unknown origin.
        path: The file; None for weights that were not read from one.
        weights: "ema" or "model"; None where the file does not say.
        seed: Seed of random weights.
        left_out: Number of tensors in each part of the file that was not loaded.
        note: Anything else to know about the choice of weights.
        training_info: Notes of a training run of this project: dataset, image_size, classes, recipe, accuracies.
        matched: Number of tensors that the network took from the file.
    """

    model: str
    config: dict[str, Any]
    sha256: str
    layout: Layout
    path: str | None = None
    weights: "WeightChoice | None" = None
    seed: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    note: str = ""
    training_info: dict[str, Any] = field(default_factory=dict, repr=False)
    matched: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these weights from others, in recordings and figures."""
        return {key: getattr(self, key) for key in ("sha256", "layout", "weights", "trained", "seed")}

    @property
    def trained(self) -> bool | None:
        """Whether the weights were trained; None where unknown."""
        return None if self.layout == "memory" else self.seed is None

    def describe(self) -> str:
        """Return one line for people: the source, the number of matched tensors, the parts left out."""
        if self.layout == "random":
            return f"{self.model}: random, untrained weights (seed {self.seed})"
        if self.layout == "initial":
            return f"{self.model}: untrained weights, as training begins (seed {self.seed})"
        if self.layout == "memory":
            return f"{self.model}: weights in memory" + (f", {self.note}" if self.note else "")
        weights = {"ema": ", EMA weights", "model": ", model weights", None: ""}[self.weights]
        classes = self.config.get("num_classes")
        head = f", {classes} classes" if classes else ", no classifier"
        if "image_size" in self.training_info:
            head += f", trained at {self.training_info['image_size']} px"
        if isinstance(epoch := self.training_info.get("epoch"), int):
            head += f", epoch {epoch}"
        text = f"{self.model} from {self.path}: {self.layout} layout{weights}, {self.matched} tensors matched{head}"
        if self.left_out:
            text += "; left out: " + ", ".join(f"{part} ({count})" for part, count in self.left_out.items())
        return f"{text}; {self.note}" if self.note else text


@dataclass(frozen=True)
class Checkpoint:
    """Weights under this project's names, with their origin."""

    origin: Origin
    state: dict[str, "Tensor"] = field(repr=False)


def attach_origin(network: "nn.Module", origin: Origin) -> "nn.Module":
    """Keep the origin on a network whose weights were just loaded, where `origin_of` finds it."""
    network.origin = origin  # type: ignore[assignment]
    network.origin_updates = _count_updates(network)  # type: ignore[assignment]
    return network


def origin_of(network: "nn.Module") -> Origin:
    """Return where a network's weights came from.

    The network may be wrapped, e.g. by `DataParallel`, `torch.compile` or a module of the user's. Layout "memory", with
    a fingerprint of the present weights, is returned for a network that was not loaded by `load_model`, for a wrapper
    around networks of different origins, and for a network whose parameters were changed in place after loading, as
    optimizers do. Known limit: a change through `.data`, or before a deep copy, is not noticed.
    """
    owners = [module for module in network.modules() if isinstance(module.__dict__.get("origin"), Origin)]
    origins: list[Any] = [module.origin for module in owners]
    if not origins or any(origin != origins[0] for origin in origins):
        return Origin(type(network).__name__, {}, fingerprint(network.state_dict()), "memory")
    origin: Origin = origins[0]
    if any(_count_updates(module) > module.origin_updates for module in owners):  # type: ignore[operator]
        note = f"changed after loading from {origin.path}" if origin.path else "changed after loading"
        return Origin(origin.model, origin.config, fingerprint(network.state_dict()), "memory", note=note)
    return origin


def fingerprint(state: Mapping[str, "Tensor"]) -> str:
    """Return the SHA-256 of a state dict's names and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _count_updates(network: "nn.Module") -> int:
    """Count in-place changes of the parameters, as autograd does."""
    return sum(parameter._version for parameter in network.parameters() if not parameter.is_inference())
