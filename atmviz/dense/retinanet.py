"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", 2017), as in Table 4.

Legend: B batch, A anchors of an image, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from atmviz.architecture import PYRAMID_DIM, Neck
from atmviz.dense.detector import (
    DETECTIONS,
    UNUSED,
    AnchorMatcher,
    BoxCoder,
    DetectorTransform,
    FixedStrideAnchors,
    Target,
)
from atmviz.dense.pyramid import Pyramid, create_backbone, feature_channels, init_xavier

_STRIDES = (8, 16, 32, 64, 128)


class P6P7(ExtraFPNBlock):
    """Levels P6 and P7: two strided convolutions after C5, without torchvision's ReLU between. Source: mmdetection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        init_xavier(self)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(x[-1])
        return [*results, p6, self.p7(p6)], [*names, "p6", "p7"]


class RetinaNet(detection.RetinaNet):
    """torchvision's RetinaNet with labels counted from 0 and mmdetection 2.11's targets and losses."""

    def compute_loss(
        self, targets: list[Target], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return focal loss of classes and L1 loss of box deltas: sums over the batch, divided by its positive anchors.

        An image without positive anchors counts as one.
        """
        assigned = torch.stack(
            [self.proposal_matcher(boxes, target) for boxes, target in zip(anchors, targets, strict=True)]
        )
        objects, used = assigned >= 0, assigned != UNUSED
        count = objects.sum(1).clamp(min=1).sum()
        matched = [(target, indices[indices >= 0]) for target, indices in zip(targets, assigned, strict=True)]
        classes = torch.cat([target["labels"][indices] for target, indices in matched])
        boxes = torch.cat([target["boxes"][indices] for target, indices in matched])

        logits, deltas = (head_outputs[name].to(boxes) for name in ("cls_logits", "bbox_regression"))
        true = torch.zeros_like(logits)
        true[objects] = F.one_hot(classes, logits.shape[-1]).to(logits)
        true_deltas = self.box_coder.encode_single(boxes, torch.stack(anchors)[objects])
        return {
            "classification": sigmoid_focal_loss(logits[used], true[used], reduction="sum") / count,
            "bbox_regression": F.l1_loss(deltas[objects], true_deltas, reduction="sum") / count,
        }

    def forward_dummy(self, images: Tensor) -> Any:
        """Run every layer once, to count its FLOPs."""
        return self.head(list(self.backbone(images).values()))


def retinanet(
    backbone: str,
    neck: Neck = "fpn",
    num_classes: int = 80,
    min_size: int | Sequence[int] = 800,
    max_size: int = 1333,
    dim: int = PYRAMID_DIM,
    **kwargs: Any,
) -> RetinaNet:
    """Build RetinaNet on a backbone: levels P3 to P7, nine anchors per token.

    Args:
        backbone, kwargs: See `create_backbone`.
        neck: "fpn" or "atmfpn".
        num_classes: Classes without background.
        min_size: Shorter side that images are resized to, px; training draws one of several.
        max_size: Largest longer side, px.
        dim: Channels of pyramid and heads.

    Source: Table 4.
    """
    body = create_backbone(backbone, first_level=3, **kwargs)
    sizes = [[4 * stride * math.exp2(k / 3) for k in range(3)] for stride in _STRIDES]  # three per octave
    model = RetinaNet(
        Pyramid(body, neck, dim, 3, P6P7(feature_channels(body)[-1], dim)),
        num_classes,
        anchor_generator=FixedStrideAnchors(sizes, _STRIDES),
        proposal_matcher=AnchorMatcher(0.5, 0.4, 0.0),
        **DETECTIONS,
    )
    model.transform, model.box_coder = DetectorTransform(min_size, max_size), BoxCoder((1.0, 1.0, 1.0, 1.0))
    for branch in (model.head.classification_head, model.head.regression_head):
        for module in branch.conv.modules():
            if isinstance(module, nn.Conv2d):  # 0.01 for 256 channels; with fewer, it would make signals vanish
                nn.init.normal_(module.weight, std=0.01 * (PYRAMID_DIM / dim) ** 0.5)
    return model
