"""Semantic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", 2019), as in Table 2."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from atmviz.architecture import Neck
from atmviz.dense.pyramid import PYRAMID_DIM, Pyramid, create_body
from atmviz.dense.segmenter import PixelClassifier, Segmenter, init_head


class SemanticFPNHead(nn.Module):
    """Each level is brought to stride 4 by convolutions and doublings; their sum is classified."""

    def __init__(self, num_classes: int, dim: int = PYRAMID_DIM, levels: int = 4) -> None:
        super().__init__()
        own_dim = dim // 2
        self.scale_heads = nn.ModuleList()
        for level in range(levels):
            layers: list[nn.Module] = []
            for step in range(max(1, level)):
                layers.append(Conv2dNormActivation(own_dim if step else dim, own_dim, 3))
                if level:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.scale_heads.append(nn.Sequential(*layers))
        self.classifier = PixelClassifier(own_dim, num_classes)
        init_head(self)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """Scores [B, classes, H/4, W/4] of a pyramid, finest map first."""
        total, *coarser = [head(x) for head, x in zip(self.scale_heads, maps.values(), strict=True)]
        for x in coarser:  # resized once more: doublings overhang where a stride does not divide the image
            total = total + F.interpolate(x, total.shape[-2:], mode="bilinear", align_corners=False)
        return self.classifier(total)


def semantic_fpn(
    backbone: str, neck: Neck = "fpn", num_classes: int = 150, dim: int = PYRAMID_DIM, **kwargs: Any
) -> Segmenter:
    """Semantic FPN on a backbone.

    Args:
        backbone, kwargs: See `create_body`.
        neck: "fpn" or "atmfpn".
        num_classes: Of the scores.
        dim: Channels of the pyramid; those of the head are half as many.
    """
    return Segmenter(Pyramid(create_body(backbone, **kwargs), neck, dim), SemanticFPNHead(num_classes, dim))
