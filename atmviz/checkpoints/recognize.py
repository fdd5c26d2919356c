"""Recognize the layout and the variant of a state dict from its names and shapes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from atmviz.architecture import HEAD_TASKS, Architecture, Head
from atmviz.checkpoints.metadata import require_settings
from atmviz.checkpoints.origin import Layout
from atmviz.dense.layouts import backbone_path, describe_heads, head_of, mm_to_atmviz
from atmviz.errors import CheckpointError, join_limited, summarize
from atmviz.models.released import released_to_timm, tensors_below
from atmviz.variants import VARIANTS, Variant


class NamedState(NamedTuple):
    """A state dict under this project's names, with the layout and head it had and the parts that were left out."""

    layout: Layout
    head: Head | None
    state: dict[str, Tensor]
    left_out: dict[str, int]


def rename(state: dict[str, Tensor], is_timm: bool = False) -> NamedState:
    """Recognize the layout by its names and rename the tensors; with `is_timm`, names without a head are timm's."""
    if head := head_of(state, "atmviz"):
        return NamedState("timm", head, state, {})
    if is_timm:
        return NamedState("timm", None, state, {})
    if head := head_of(state, "mm"):
        layout: Layout = "mmseg" if HEAD_TASKS[head] == "segment" else "mmdet"
        return NamedState(layout, head, mm_to_atmviz(head, state), {})
    if backbone := tensors_below(state, "backbone."):  # the head is none of this project's
        left_out = Counter(name.split(".")[0] for name in state if not name.startswith("backbone."))
        return NamedState("mmseg", None, released_to_timm(backbone), dict(left_out))
    if any(name.startswith("stages.") for name in state):
        return NamedState("timm", None, state, {})
    return NamedState("released", None, released_to_timm(state), {})


def recognize(state: Mapping[str, Tensor], head: Head | None, path: Path) -> tuple[str, dict[str, Any]]:
    """Return the name and the constructor arguments of the network that has tensors of these shapes.

    Raises:
        CheckpointError: it is no ATMNet, or lacks the shapes that tell its size.
    """
    try:
        if head is None:
            architecture, config = _recognize_backbone(state, path)
        else:
            architecture, config = _recognize_dense(state, head, path)
    except (IndexError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not whole: it has the names of {head} without their shapes ({summarize(error)})"
        ) from None
    return str(architecture), require_settings(config, architecture, path)


def _recognize_dense(state: Mapping[str, Tensor], head: Head, path: Path) -> tuple[Architecture, dict[str, Any]]:
    backbone, config = _recognize_backbone(tensors_below(state, f"{backbone_path(head)}."), path)
    architecture, config["num_classes"] = describe_heads(head, backbone.backbone, state)
    config.pop("out_norms", None)  # every dense network has them
    return architecture, config


def _recognize_backbone(state: Mapping[str, Tensor], path: Path) -> tuple[Architecture, dict[str, Any]]:
    best = max(VARIANTS, key=lambda name: _agreement(state, VARIANTS[name]))
    if _agreement(state, VARIANTS[best]) < 0.5:
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
    if channels := _channels_per_offset(state, VARIANTS[best].dims):
        config["channels_per_offset"] = channels
    return Architecture(best), config


def _agreement(state: Mapping[str, Tensor], variant: Variant) -> float:
    """Return the fraction of the MLPs' shapes that state and variant have in common."""
    shapes = {(name, tuple(tensor.shape)) for name, tensor in state.items() if name.endswith(".mlp.fc1.weight")}
    expected = {
        (f"stages.{i}.blocks.{j}.mlp.fc1.weight", (ratio * dim, dim))
        for i, (depth, dim, ratio) in enumerate(zip(variant.depths, variant.dims, variant.mlp_ratios, strict=True))
        for j in range(depth)
    }
    return len(expected & shapes) / len(expected | shapes)


def _channels_per_offset(state: Mapping[str, Tensor], dims: Sequence[int]) -> int:
    """Return how many channels share an offset, from the offset layers' rows; 0 where stages differ, as released."""
    biases = [state.get(f"stages.{stage}.blocks.0.offset.linear.bias") for stage in range(len(dims))]
    rows = [0 if bias is None else bias.numel() for bias in biases]
    channels = 2 * dims[0] // max(rows[0], 1)
    return channels if channels and rows == [2 * dim // channels for dim in dims] else 0
