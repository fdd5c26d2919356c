"""Mask R-CNN (He et al., 2017), as in Table 5: torchvision's parts with mmdetection's settings.

Legend: B batch, N boxes of an image, A anchors of an image.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from atmviz.architecture import BOX_SAMPLES, PYRAMID_DIM, Neck
from atmviz.dense.detector import RATIOS, UNUSED, AnchorMatcher, BoxCoder, DetectorTransform, FixedStrideAnchors, Target
from atmviz.dense.pyramid import Pyramid, create_backbone
from atmviz.dense.roi_heads import BOX_FACTOR, BOX_SIZE, MASK_SIZE, RoIHeads

_STRIDES = (4, 8, 16, 32, 64)


class TwoStageDetector(GeneralizedRCNN):
    """Proposals, then boxes and masks; labels count from 0, where torchvision's count from 1 after background."""

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        """Return losses by name in training, else one dict of detections per image; see `dense.detector`."""
        if targets is not None:
            targets = [{**target, "labels": target["labels"] + 1} for target in targets]
        output = super().forward(images, targets)
        return output if self.training else [{**image, "labels": image["labels"] - 1} for image in output]

    def forward_dummy(self, images: Tensor) -> None:
        """Run every layer once, on as many boxes and masks as the paper's FLOPs assume."""
        self.rpn.head(list(self.backbone(images).values()))
        pooled = [
            images.new_empty(count, self.backbone.out_channels, size, size)
            for count, size in ((1000, BOX_SIZE), (100, MASK_SIZE))
        ]
        for heads in self.roi_heads.modules():
            if isinstance(heads, RoIHeads):
                heads.box_predictor(heads.box_head(pooled[0]))
                heads.mask_predictor(heads.mask_head(pooled[1]))


def build_pyramid(backbone: str, neck: Neck, dim: int, **kwargs: Any) -> Pyramid:
    """Build a pyramid of P2 to P5, and P6 by pooling."""
    return Pyramid(create_backbone(backbone, **kwargs), neck, dim, extra=LastLevelMaxPool())


class RPN(RegionProposalNetwork):
    """torchvision's RPN with mmdetection 2.11's targets and losses; three anchors per token, sides 8 strides.

    Args:
        dim: Channels of the pyramid.
        proposals: Proposals kept per image in training.
        border: See `AnchorMatcher`.
        beta: Difference up to which the box loss is quadratic; 0 for L1.
    """

    def __init__(self, dim: int, proposals: int = 1000, border: int | None = None, beta: float = 0.0) -> None:
        super().__init__(
            FixedStrideAnchors([[8 * stride] for stride in _STRIDES], _STRIDES),
            RPNHead(dim, len(RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": proposals, "testing": 1000},
            nms_thresh=0.7,
        )
        self.min_size = 0.0  # empty proposals stay, as in mmdetection
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher, self.beta = AnchorMatcher(0.7, 0.3, 0.3, border), beta

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return labels [A] (1 object, 0 background, -1 neither) and boxes [A, 4], used by objects only, per image."""
        assigned = [self.matcher(boxes, target) for boxes, target in zip(anchors, targets, strict=True)]
        labels = [(objects >= 0).float() - (objects == UNUSED).float() for objects in assigned]
        boxes = [
            F.pad(target["boxes"], (0, 0, 0, 1))[objects.clamp(min=-1)]
            for objects, target in zip(assigned, targets, strict=True)
        ]
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return losses of objectness and boxes: sums over the sampled anchors, divided by their number."""
        sampled = self.fg_bg_sampler(labels)
        count = sum(mask.sum().clamp(min=1) for kind in sampled for mask in kind)
        objects, background = (torch.cat(kind).bool() for kind in sampled)
        chosen = objects | background
        box_loss = F.smooth_l1_loss(
            pred_bbox_deltas[objects], torch.cat(regression_targets)[objects], beta=self.beta, reduction="sum"
        )
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[chosen], torch.cat(labels)[chosen], reduction="sum"
        )
        return objectness_loss / count, box_loss / count


def mask_rcnn(
    backbone: str,
    neck: Neck = "fpn",
    num_classes: int = 80,
    min_size: int | Sequence[int] = 800,
    max_size: int = 1333,
    dim: int = PYRAMID_DIM,
    box_samples: int = BOX_SAMPLES,
    **kwargs: Any,
) -> TwoStageDetector:
    """Build Mask R-CNN on a backbone.

    Args:
        backbone, neck, num_classes, min_size, max_size, dim, kwargs: See `retinanet`.
        box_samples: Proposals that the box heads learn from, per image.

    Source: Table 5.
    """
    box_head = TwoMLPHead(dim * BOX_SIZE**2, BOX_FACTOR * dim)
    heads = RoIHeads(num_classes, dim, box_head, box_samples=box_samples)
    transform = DetectorTransform(min_size, max_size)
    return TwoStageDetector(build_pyramid(backbone, neck, dim, **kwargs), RPN(dim), heads, transform)
