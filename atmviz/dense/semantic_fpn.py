"""Semantic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", 2019), as in Table 2.

Legend: B batch, H/W height and width of the images.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from atmviz.architecture import PYRAMID_DIM, Neck
from atmviz.dense.pyramid import Pyramid, create_backbone
from atmviz.dense.segmenter import PixelClassifier, Segmenter, init_head


class SemanticFPNHead(nn.Module):
    """Upsamples each level to stride 4 by convolutions and doublings, and classifies their sum."""

    def __init__(self, num_classes: int, dim: int = PYRAMID_DIM) -> None:
        super().__init__()
        head_dim = dim // 2
        self.scale_heads = nn.ModuleList()
        for level in range(4):
            layers: list[nn.Module] = []
            for step in range(max(1, level)):
                layers.append(Conv2dNormActivation(head_dim if step else dim, head_dim, 3))
                if level:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.scale_heads.append(nn.Sequential(*layers))
        self.classifier = PixelClassifier(head_dim, num_classes)
        init_head(self)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """Return scores [B, classes, H/4, W/4] from the maps of a pyramid, finest first."""
        total, *coarser = [head(x) for head, x in zip(self.scale_heads, maps.values(), strict=True)]
        for x in coarser:  # doubled maps are too large if a stride does not divide the image
            total = total + F.interpolate(x, total.shape[-2:], mode="bilinear", align_corners=False)
        return self.classifier(total)


def semantic_fpn(
    backbone: str, neck: Neck = "fpn", num_classes: int = 150, dim: int = PYRAMID_DIM, **kwargs: Any
) -> Segmenter:
    """Build Semantic FPN on a backbone.

    Args:
        backbone, kwargs: See `create_backbone`.
        neck: "fpn" or "atmfpn".
        num_classes: Number of classes.
        dim: Channels of the pyramid; the head has half as many.

    Source: Table 2.
    """
    return Segmenter(Pyramid(create_backbone(backbone, **kwargs), neck, dim), SemanticFPNHead(num_classes, dim))
