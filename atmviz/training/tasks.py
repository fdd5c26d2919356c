"""Tasks: a network with its loss as one module, which is wrapped and compiled as a whole.

Legend: B batch, H/W image size in px, C channels.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import ResNet
from torch import Tensor, nn

from atmviz.models import ATMNet
from atmviz.sources.datasets import SHAPE_CLASSES
from atmviz.training.recipe import Recipe

Batch = dict[str, Any]  # tensors, or lists of them where images differ in size
_BACKGROUND_WEIGHT = 0.15  # most pixels are easy background


class PixelHead(nn.Module):
    """Classifies every token of the first stage from all four feature maps; used in training only.

    From image labels alone a narrow classifier learns little for thousands of updates. Per-pixel labels give its
    stages and their offsets a gradient from the first update.
    """

    def __init__(self, dims: list[int], num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)
        self.linears = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Compute scores [B, classes, H/4, W/4] from the four feature maps [B, C, H', W']."""
        height, width = maps[0].shape[-2:]
        embedded = []
        for x, norm, linear in zip(maps, self.norms, self.linears, strict=True):
            tokens = linear(norm(x.permute(0, 2, 3, 1)))  # NCHW -> NHWC
            times = height // tokens.shape[1], width // tokens.shape[2]
            # Nearest upsampling by expansion: its backward pass is a sum, not a scatter.
            tokens = tokens[:, :, None, :, None].expand(-1, -1, times[0], -1, times[1], -1)
            embedded.append(tokens.flatten(3, 4).flatten(1, 2))
        return self.classifier(F.gelu(torch.stack(embedded).sum(0))).permute(0, 3, 1, 2)  # NHWC -> NCHW


class TrainingTask(nn.Module):
    """A network with its loss.

    Attributes:
        network: The network that checkpoints keep.
        decay: The recipe's rule for weight decay.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.decay = recipe.decay

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters without weight decay, by the recipe's rule.

        `no_1d` (released classifiers): norms, biases and the weights of the PEGs. `no_norm` (released segmentation
        code, Swin's configurations): LayerNorms except those of the offset layers, and Swin's tables of relative
        positions. `all`: none.
        """
        parameters = dict(self.named_parameters())
        if self.decay == "no_1d":
            return {name for name, parameter in parameters.items() if parameter.ndim <= 1 or ".peg." in name}
        if self.decay == "all":
            return set()
        norms = {name for name, module in self.named_modules() if isinstance(module, nn.LayerNorm)}
        tables = {name for name in parameters if name.endswith(".relative_position_bias_table")}
        return tables | {name for name in parameters if name.rpartition(".")[0] in norms and ".offset." not in name}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return scalars to log by name; the first is the loss to minimize."""
        raise NotImplementedError


class ClassificationTask(TrainingTask):
    """An ATMNet with the loss of its class scores, plus a per-pixel loss where the recipe asks for it.

    Attributes:
        pixel_head: Computes the per-pixel scores; None without the per-pixel loss.
    """

    network: ATMNet
    pixel_class_weights: Tensor

    def __init__(self, network: ATMNet, recipe: Recipe) -> None:
        super().__init__(network, recipe)
        self.criterion = classification_loss(recipe)
        self.pixel_weight = recipe.pixel_weight
        dims = [info["num_chs"] for info in network.feature_info]
        self.pixel_head = PixelHead(dims, 1 + len(SHAPE_CLASSES)) if recipe.pixel_weight else None
        weights = torch.tensor([_BACKGROUND_WEIGHT] + [1.0] * len(SHAPE_CLASSES))
        self.register_buffer("pixel_class_weights", weights, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return loss and top-1 for images [B, 3, H, W], labels [B] (mixed: [B, classes]) and masks [B, H, W]."""
        if self.pixel_head is None:
            scores, pixel_loss = self.network(batch["image"]), torch.zeros(())
        else:
            tokens, maps = self.network.forward_intermediates(batch["image"])
            scores = self.network.forward_head(tokens)
            mask = batch["mask"][:, 2::4, 2::4].long()  # the center of each token of stage 1
            pixel_loss = F.cross_entropy(self.pixel_head(maps).float(), mask, self.pixel_class_weights)
        loss = self.criterion(scores, batch["label"]) + self.pixel_weight * pixel_loss
        labels = batch["label"]
        labels = labels.argmax(1) if labels.dim() == 2 else labels  # after mixup, the class with the larger part
        return {"loss": loss, "top1": 100 * (scores.detach().argmax(1) == labels).float().mean()}


class SegmentationTask(TrainingTask):
    """A segmenter and its losses."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of images [B, 3, H, W] and masks [B, H, W]."""
        return _summed(self.network(batch["image"], batch["mask"].long()))


class DetectionTask(TrainingTask):
    """A detector and its losses.

    A pretrained ResNet is trained as in mmdetection (`frozen_stages=1, norm_eval=True`): its stem and first stage are
    frozen, and its batch norms normalize by their stored statistics.

    Attributes:
        fixed: Those batch norms, always in evaluation mode.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__(network, recipe)
        self.fixed: list[nn.Module] = []
        for resnet in network.modules():
            if recipe.finetune and isinstance(resnet, ResNet):
                for part in ("conv1", "bn1", "layer1"):
                    resnet.get_submodule(part).requires_grad_(False)
                norms = (nn.BatchNorm2d, nn.SyncBatchNorm)
                self.fixed += [module for module in resnet.modules() if isinstance(module, norms)]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.fixed:
            module.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of lists: images [3, H, W] and targets, see `atmviz.dense.detector`."""
        return _summed(self.network(batch["image"], batch["target"]))


def _summed(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    total = torch.stack(list(losses.values())).sum()
    return {"loss": total, **{name: loss.detach() for name, loss in losses.items()}}


def classification_loss(recipe: Recipe) -> nn.Module:
    """Return timm's loss for the recipe's labels: soft after mixup or CutMix, smoothed, or plain."""
    if recipe.mixup or recipe.cutmix:
        return SoftTargetCrossEntropy()  # timm's Mixup smooths the labels
    return LabelSmoothingCrossEntropy(recipe.label_smoothing) if recipe.label_smoothing else nn.CrossEntropyLoss()
