"""What is trained: a network with its loss. A task is one module, so that it is wrapped and compiled as a whole."""

import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from atmviz.data.shapes import SHAPE_CLASSES
from atmviz.models import ATMNet
from atmviz.training.recipe import Recipe

Batch = dict[str, Tensor]
_BACKGROUND_WEIGHT = 0.15  # most pixels are background, and easy


class PixelHead(nn.Module):
    """Labels every token of the first stage from all four feature maps: one linear layer each, summed; dropped later.

    A classifier of narrow width learns little from image labels alone for thousands of updates; per-pixel labels give
    its stages, and their offsets, a gradient from the first.
    """

    def __init__(self, dims: list[int], num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)
        self.linears = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Scores [B, classes, H/4, W/4] from the four feature maps [B, C, H', W']."""
        height, width = maps[0].shape[-2:]
        embedded = []
        for x, norm, linear in zip(maps, self.norms, self.linears, strict=True):
            tokens = linear(norm(x.permute(0, 2, 3, 1)))  # NCHW -> NHWC
            times = height // tokens.shape[1], width // tokens.shape[2]
            # Nearest upsampling as an expansion, whose backward is a sum and not a scatter.
            tokens = tokens[:, :, None, :, None].expand(-1, -1, times[0], -1, times[1], -1)
            embedded.append(tokens.flatten(3, 4).flatten(1, 2))
        return self.classifier(F.gelu(torch.stack(embedded).sum(0))).permute(0, 3, 1, 2)  # NHWC -> NCHW


class ClassificationTask(nn.Module):
    """An ATMNet and the loss of its class scores, with per-pixel labels beside them where the recipe says so.

    Attributes:
        network: What is kept.
        pixel_head: What only training needs, or None.
    """

    pixel_class_weights: Tensor

    def __init__(self, network: ATMNet, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.criterion = classification_loss(recipe)
        self.pixel_weight = recipe.pixel_weight
        dims = [info["num_chs"] for info in network.feature_info]
        self.pixel_head = PixelHead(dims, 1 + len(SHAPE_CLASSES)) if recipe.pixel_weight else None
        weights = torch.tensor([_BACKGROUND_WEIGHT] + [1.0] * len(SHAPE_CLASSES))
        self.register_buffer("pixel_class_weights", weights, persistent=False)

    def no_weight_decay(self) -> set[str]:
        return {f"network.{name}" for name in self.network.no_weight_decay()}

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and class scores [B, classes] of images [B, 3, H, W], labels [B] (or [B, classes]), masks [B, H, W]."""
        if self.pixel_head is None:
            scores = self.network(batch["image"])
            return self.criterion(scores, batch["label"]), scores
        tokens, maps = self.network.forward_intermediates(batch["image"])
        scores = self.network.forward_head(tokens)
        mask = batch["mask"][:, 2::4, 2::4].long()  # the middle of each token of stage 1
        pixel_loss = F.cross_entropy(self.pixel_head(maps).float(), mask, self.pixel_class_weights)
        return self.criterion(scores, batch["label"]) + self.pixel_weight * pixel_loss, scores


def classification_loss(recipe: Recipe) -> nn.Module:
    """timm's loss for what the recipe does to labels: soft ones after mixup or CutMix, smoothed, or plain."""
    if recipe.mixup or recipe.cutmix:
        return SoftTargetCrossEntropy()  # timm's Mixup smooths them
    return LabelSmoothingCrossEntropy(recipe.label_smoothing) if recipe.label_smoothing else nn.CrossEntropyLoss()
