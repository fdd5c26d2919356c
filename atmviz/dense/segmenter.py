"""Parts shared by Semantic FPN and UperNet: class scores of every pixel, and the losses.

Legend: B batch, H/W height and width of the images, h/w of a map.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from atmviz.architecture import IGNORE_INDEX

_AUXILIARY_WEIGHT = 0.4
_DROPOUT = 0.1


class PixelClassifier(nn.Conv2d):
    """The last 1x1 convolution, after dropout of whole channels."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout2d(x, _DROPOUT, self.training))


class Segmenter(nn.Module):
    """A backbone (with its neck) and a head.

    Args:
        backbone: Maps images [B, 3, H, W] to feature maps.
        head: Maps feature maps to scores [B, classes, h, w].
        auxiliary_head: Another such head for a second loss of weight 0.4; used in training only.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, auxiliary_head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary_head = auxiliary_head

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Return class scores of every pixel, [B, classes, H, W]; with labels [B, H, W], the losses by name instead.

        Losses are means over all pixels, including ignored ones (255): a batch of ignored pixels has loss 0.
        """
        maps = self.backbone(images)
        scores = _resize(self.head(maps), images)
        if labels is None:
            return scores
        losses = {"loss_segment": _loss(scores, labels)}
        if self.auxiliary_head is not None:
            auxiliary = _resize(self.auxiliary_head(maps), images)
            losses["loss_auxiliary"] = _AUXILIARY_WEIGHT * _loss(auxiliary, labels)
        return losses


def init_head(head: nn.Module) -> None:
    """Initialize convolutions (Kaiming normal by fan-out) and the classifier (normal 0.01).

    Source: mmsegmentation 0.11.
    """
    for module in head.modules():
        if isinstance(module, PixelClassifier):
            nn.init.normal_(module.weight, std=0.01)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _resize(scores: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)


def _loss(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum") / labels.numel()
