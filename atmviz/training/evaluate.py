"""Evaluation: accuracy over exactly the images of a dataset, on any number of processes.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.utils.data import Subset
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from atmviz.checkpoints import WeightChoice, load_model, origin_of
from atmviz.data.classification import LabelledImages, Split, open_labelled, open_loader, read_batches
from atmviz.data.keyed import seed_of
from atmviz.errors import CheckpointError, DatasetError, some_of
from atmviz.recording.recorder import find_layers, infer

Intervention = Literal["learned", "zero", "shuffle"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent, over `images` images.

    Attributes:
        top1, top5: Share of images whose class is the first, or among the first five.
        loss: Mean cross entropy.
        images: How many.
        confusion: [classes, classes], int64: true class by row, predicted by column; None where not asked for.
    """

    top1: float
    top5: float
    loss: float
    images: int
    confusion: np.ndarray | None = None


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    dataset: LabelledImages,
    *,
    batch_size: int = 64,
    workers: int = 0,
    limit: int | None = None,
    confusion: bool = False,
    rank: int = 0,
    world: int = 1,
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Accuracy of a network on its device.

    Args:
        network: Gives class scores [B, classes]; put into evaluation mode meanwhile.
        dataset: Labelled images.
        batch_size: Images per forward pass.
        workers: Processes that load images.
        limit: Only the first images.
        confusion: Count which class was taken for which.
        rank, world: This process takes every world-th image, from its rank on; nothing is padded or repeated, and
            torchmetrics sums over the processes.
        on_images: Called with (images done, images in all), of this process.

    Raises:
        CheckpointError: the network has another number of classes than the dataset.
        DatasetError: an image cannot be read.
    """
    device = next(network.parameters()).device
    classes = len(dataset.classes)
    top1 = MulticlassAccuracy(classes, average="micro").to(device)
    top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro").to(device)
    loss = MeanMetric(nan_strategy="disable").to(device)  # a NaN is shown, not left out
    matrix = MulticlassConfusionMatrix(classes).to(device) if confusion else None

    total = min(limit or len(dataset), len(dataset))
    own = range(rank, total, world)
    loader = open_loader(Subset(dataset, own), workers, batch_size=batch_size)
    was_training = network.training
    network.eval()
    done = 0
    for batch in read_batches(loader):
        labels = batch["label"].to(device)
        scores = infer(network, batch["image"]).float()
        if scores.shape[1] != classes:
            raise CheckpointError(
                f"got a network of {scores.shape[1]} classes for a dataset of {classes}: "
                "fine-tune it first (atmviz train --finetune), or choose its dataset"
            )
        top1.update(scores, labels)
        top5.update(scores, labels)
        loss.update(nn.functional.cross_entropy(scores, labels, reduction="none"))
        if matrix is not None:
            matrix.update(scores, labels)
        done += len(labels)
        on_images(done, len(own))
    network.train(was_training)
    return Evaluation(
        top1=_percent(top1, total),
        top5=_percent(top5, total),
        loss=loss.compute().item(),
        images=total,
        confusion=None if matrix is None else matrix.compute().cpu().numpy(),
    )


def _percent(accuracy: Metric, images: int) -> float:
    """The exact share of right answers: the metric's single precision gives their number back."""
    return 100 * round(accuracy.compute().item() * images) / images


@dataclass(frozen=True)
class CheckpointEvaluation:
    """What `evaluate_checkpoint` found: the row it prints, the classes' names, all numbers."""

    row: dict[str, Any]
    classes: tuple[str, ...]
    evaluation: Evaluation


def evaluate_checkpoint(
    checkpoint: str | Path,
    *,
    weights: WeightChoice | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split: Split = "val",
    size: int | None = None,
    crop_pct: float | None = None,
    offsets: Intervention = "learned",
    seed: int = 0,
    limit: int | None = None,
    device: str = "auto",
    batch_size: int = 64,
    workers: int | None = None,
    confusion: bool = False,
    report: Callable[[str], None] = lambda text: None,
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> CheckpointEvaluation:
    """Load a classifier of any public layout and evaluate it; processes of one launcher share the images.

    Args:
        checkpoint, weights, device, report: See `load_model`.
        dataset, data_dir, split: See `open_labelled`; without a dataset, the one a run of this project trained on.
        size, crop_pct: Of the input; without them those of training, or 224 px and 0.875 as released.
        offsets, seed: See `offsets_replaced`.
        limit, batch_size, workers, confusion, on_images: See `evaluate`.

    Raises:
        CheckpointError, DatasetError, AtmvizError: see there.
    """
    state = PartialState(cpu=device == "cpu")
    target = str(state.device) if state.num_processes > 1 else device
    network = load_model(checkpoint, weights=weights, device=target, report=report if state.is_main_process else _quiet)
    origin = origin_of(network)
    name = origin.about.get("dataset") if dataset is None else dataset
    if name is None:
        raise DatasetError(f"{checkpoint} does not say what it was trained on: name the --dataset to evaluate on")
    size, crop_pct = size or origin.about.get("image_size", 224), crop_pct or origin.about.get("crop_pct", 0.875)
    images = open_labelled(name, split, size, data_dir=data_dir, crop_pct=crop_pct)
    learned = tuple(origin.about.get("classes", images.classes))
    if learned != images.classes:
        raise CheckpointError(
            f"got a network of the classes {some_of(learned, 5)} for a dataset of {some_of(images.classes, 5)}: "
            "fine-tune it first (atmviz train --finetune), or choose its dataset"
        )
    with offsets_replaced(network, offsets, seed):
        found = evaluate(
            network,
            images,
            batch_size=batch_size,
            workers=min(4, os.cpu_count() or 1) if workers is None else workers,
            limit=limit,
            confusion=confusion,
            rank=state.process_index,
            world=state.num_processes,
            on_images=on_images,
        )
    row = {
        "checkpoint": str(checkpoint),
        "model": origin.model,
        "weights": origin.weights or ("untrained" if origin.seed is not None else "model"),
        "dataset": name,
        "split": split,
        "images": found.images,
        "size": size,
        "crop_pct": crop_pct,
        "offsets": offsets,
        "top1": found.top1,
        "top5": found.top5,
        "loss": found.loss,
    }
    return CheckpointEvaluation(row, images.classes, found)


def _quiet(text: str) -> None:
    pass


@contextmanager
def offsets_replaced(network: nn.Module, by: Intervention, seed: int = 0) -> Iterator[None]:
    """Within the block, what every ATM layer fetches is changed, to see what the learned offsets are worth.

    Args:
        network: An ATMNet, or a model around one.
        by: "zero" lets every channel read the query token itself (Table 8, row 1, without training for it);
            "shuffle" hands each token the offsets of another one, by one permutation of the map per layer, so that
            their distribution stays and their place is lost; "learned" changes nothing.
        seed: Of the permutations.
    """
    handles = []
    for layer in find_layers(network) if by != "learned" else ():

        def hook(module: nn.Module, args: tuple[Tensor], offset: Tensor, source: str = str(layer.source)) -> Tensor:
            if by == "zero":
                return torch.zeros_like(offset)
            height, width = offset.shape[1:3]
            generator = torch.Generator().manual_seed(seed_of(seed, source, height, width))
            order = torch.randperm(height * width, generator=generator).to(offset.device)
            return offset.flatten(1, 2)[:, order].view_as(offset)

        handles.append(layer.mixer.hook_offset.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
