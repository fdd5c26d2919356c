"""Evaluation: accuracy over exactly the images of a dataset, on any number of processes.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from atmviz.data.classification import LabelledImages, read_batches
from atmviz.data.keyed import seed_of
from atmviz.errors import CheckpointError
from atmviz.recording.recorder import find_atmnet

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
    loss = MeanMetric().to(device)
    matrix = MulticlassConfusionMatrix(classes).to(device) if confusion else None

    total = min(limit or len(dataset), len(dataset))
    own = range(rank, total, world)
    loader = DataLoader(Subset(dataset, own), batch_size, num_workers=workers, worker_init_fn=quiet_worker)
    was_training = network.training
    network.eval()
    done = 0
    for batch in read_batches(loader):
        labels = batch["label"].to(device)
        scores = network(batch["image"].to(device, next(network.parameters()).dtype)).float()
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
        top1=100 * top1.compute().item(),
        top5=100 * top5.compute().item(),
        loss=loss.compute().item(),
        images=total,
        confusion=None if matrix is None else matrix.compute().cpu().numpy(),
    )


def quiet_worker(worker: int) -> None:
    """For a DataLoader: leave Ctrl-C to the main process, and the cores to the others."""
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


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
    for layer in find_atmnet(network).atm_layers() if by != "learned" else ():

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
