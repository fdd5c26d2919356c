"""Mask R-CNN (He et al., 2017), as in Table 5: torchvision's parts with mmdetection's numbers."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from atmviz.architecture import Neck
from atmviz.dense.detector import RATIOS, UNUSED, AnchorMatcher, BoxCoder, DetectorTransform, FixedStrideAnchors, Target
from atmviz.dense.pyramid import PYRAMID_DIM, Pyramid, create_body
from atmviz.dense.roi_heads import BOX_FACTOR, BOX_SAMPLES, BOX_SIZE, MASK_SIZE, RoIHeads

_STRIDES = (4, 8, 16, 32, 64)


class TwoStageDetector(GeneralizedRCNN):
    """Proposals, then boxes and masks; labels from 0 on, where torchvision's own begin at 1 behind background."""

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        """Losses by name in training, else one dict of detections per image; see `dense.detector`."""
        if targets is not None:
            targets = [{**one, "labels": one["labels"] + 1} for one in targets]
        found = super().forward(images, targets)
        return found if self.training else [{**one, "labels": one["labels"] - 1} for one in found]

    def forward_dummy(self, images: Tensor, boxes: int = 1000, masks: int = 100) -> None:
        """Every layer once, on as many boxes and masks as the paper's counts assume."""
        self.rpn.head(list(self.backbone(images).values()))
        pooled = [
            images.new_empty(count, self.backbone.out_channels, size, size)
            for count, size in ((boxes, BOX_SIZE), (masks, MASK_SIZE))
        ]
        for heads in self.roi_heads.modules():
            if isinstance(heads, RoIHeads):
                heads.box_predictor(heads.box_head(pooled[0]))
                heads.mask_predictor(heads.mask_head(pooled[1]))


def open_pyramid(backbone: str, neck: Neck, dim: int, **kwargs: Any) -> Pyramid:
    """P2 to P5, and P6 by pooling."""
    return Pyramid(create_body(backbone, **kwargs), neck, dim, extra=LastLevelMaxPool())


class RPN(RegionProposalNetwork):
    """Three anchors per token, side eight times the stride; torchvision's, with mmdetection 2.11's targets and losses.

    Args:
        dim: Channels of the pyramid.
        proposals: How many are kept per image in training.
        border: See `AnchorMatcher`.
        beta: Up to which difference the box loss is a square; 0 for L1.
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
        """By image, labels [A] (1 object, 0 background, -1 neither) and boxes [A, 4], which only objects use."""
        found = [self.matcher(one, target) for one, target in zip(anchors, targets, strict=True)]
        labels = [(one >= 0).float() - (one == UNUSED).float() for one in found]
        boxes = [
            F.pad(target["boxes"], (0, 0, 0, 1))[one.clamp(min=-1)] for one, target in zip(found, targets, strict=True)
        ]
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Losses of objectness and boxes, summed over the sampled anchors of the batch and divided by their number."""
        sampled = self.fg_bg_sampler(labels)
        count = sum(one.sum().clamp(min=1) for kind in sampled for one in kind)
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
    """Mask R-CNN on a backbone; arguments as in `retinanet`, and `box_samples`, proposals to learn from per image."""
    box_head = TwoMLPHead(dim * BOX_SIZE**2, BOX_FACTOR * dim)
    heads = RoIHeads(num_classes, dim, box_head, box_samples=box_samples)
    transform = DetectorTransform(min_size, max_size)
    return TwoStageDetector(open_pyramid(backbone, neck, dim, **kwargs), RPN(dim), heads, transform)
