"""Loads the weights to fine-tune: of the same architecture, or a classifier's for the backbone of a dense network."""

import sys
from collections import Counter

import timm
import torch
from torch import Tensor, nn

from atmviz.architecture import Architecture, is_architecture
from atmviz.checkpoints import Checkpoint, mismatch, read_checkpoint
from atmviz.dense.layouts import backbone_path
from atmviz.errors import RecipeError
from atmviz.events import QUIET, Events
from atmviz.training.recipe import Recipe
from atmviz.variants import VARIANTS

# Layers whose shape depends on the number of classes
_CLASS_LAYERS = ("head.fc.", ".classifier.", ".cls_logits.", ".cls_score.", ".bbox_pred.", ".mask_fcn_logits.")
_TAKEN = {"ema": "averaged weights", "model": "weights (not averaged)", None: "weights"}


def load_to_finetune(network: nn.Module, recipe: Recipe, num_classes: int, events: Events = QUIET) -> None:
    """Load the file that a recipe names into a network.

    A classifier takes a classifier's weights. A dense network takes those of the same architecture, or a classifier's
    for its backbone alone: of an ATMNet in any public layout, of another backbone in timm's or its authors' layout.
    One message says which weights are loaded and which layers keep their random weights.

    Raises:
        RecipeError: the file is of another network, or has missing, unknown or misshapen tensors, which are listed.
        CheckpointError: it cannot be read, see `read_checkpoint`.
    """
    if is_architecture(recipe.finetune):
        raise RecipeError(f"got finetune {recipe.finetune}, a name without weights, expected a checkpoint file")
    checkpoint = read_checkpoint(
        str(recipe.finetune),
        "model" if recipe.finetune_weights == "model" else None,
        timm_name=None if recipe.model in VARIANTS else recipe.model,
    )
    taken = f"{recipe.finetune}: {_TAKEN[checkpoint.origin.weights]}"
    if checkpoint.origin.model == str(recipe.architecture):
        is_new_head = _load_whole(network, checkpoint)
        classes = checkpoint.origin.config.get("num_classes") or "no"
        events.message(
            f"{taken} of {classes} classes; {f'a new head for {num_classes}' if is_new_head else 'the head is kept'}"
        )
    elif checkpoint.origin.model == recipe.model:
        left_out = _load_backbone(network.get_submodule(backbone_path(recipe.head)), checkpoint)  # type: ignore[arg-type]
        shown = ", ".join(f"{part} ({count})" for part, count in left_out.items()) or "nothing"
        events.message(f"{taken} of {recipe.model} for the backbone; left out: {shown}; all else is new")
    else:
        backbone = Architecture.parse(checkpoint.origin.model).backbone
        remedy = "expected the same head and neck, or a classifier"
        raise RecipeError(
            f"got {checkpoint.origin.model} in {recipe.finetune} to fine-tune {recipe.architecture}: "
            + (remedy if backbone == recipe.model else f"set model to {backbone}")
        )


def _load_whole(network: nn.Module, checkpoint: Checkpoint) -> bool:
    """Load weights of the same architecture; return whether the head keeps its random weights."""
    model_state, state = network.state_dict(), checkpoint.state
    new = {
        name: tensor
        for name, tensor in model_state.items()
        if any(part in name for part in _CLASS_LAYERS) and (name not in state or state[name].shape != tensor.shape)
    }
    _load(network, state | new, checkpoint)
    return bool(new)


def _load_backbone(body: nn.Module, checkpoint: Checkpoint) -> Counter[str]:
    """Load a classifier's weights into a dense network's backbone; return how many are left out, by part.

    The norms on the feature maps, which a classifier lacks, keep their initial weights.
    """
    model_state, state = body.state_dict(), _as_timm(checkpoint.state, body)
    with torch.device("meta"):
        classifier = timm.create_model(checkpoint.origin.model).state_dict()
    parts = {name.split(".")[0] for name in model_state}
    left_out = [name for name in state if name in classifier and name.split(".")[0] not in parts]
    new = {  # PyTorch before 0.4.1 had no counters
        name: tensor
        for name, tensor in model_state.items()
        if name not in state and (name.startswith("out_norms.") or name.endswith(".num_batches_tracked"))
    }
    kept = {name: tensor for name, tensor in state.items() if name not in left_out}
    _load(body, kept | new, checkpoint)
    return Counter(name.split(".")[0] for name in left_out)


def _as_timm(state: dict[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """Rename tensors of older timm and of a network's authors to today's timm names, by timm's own conversion."""
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if convert is None or body.state_dict().keys() <= state.keys():
        return state
    try:
        converted = convert(state, body)
    except Exception:  # tensors of another network, which the caller lists
        return state
    pointers = {tensor.data_ptr() for tensor in state.values()}
    # Undo timm's resizing of tables and embeddings: a network of another window or patch size is another network.
    return {name: x if x.data_ptr() in pointers else state.get(name, x) for name, x in converted.items()}


def _load(module: nn.Module, state: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    if problems := mismatch(state, module.state_dict()):
        raise RecipeError(
            f"{checkpoint.origin.path} does not fit the recipe's {checkpoint.origin.model} ({problems}): "
            "expected all of its tensors and no others; check model, dim, peg, offset_mode and num_samples"
        )
    module.load_state_dict(state)
