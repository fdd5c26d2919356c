"""Mask R-CNN (He et al., 2017), as in Table 5: torchvision's parts with mmdetection's numbers."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from atmviz.dense.detector import (
    MAX_DETECTIONS,
    MIN_SCORE,
    NMS_IOU,
    RATIOS,
    FixedStrideAnchors,
    RoIPool,
    Target,
    open_transform,
)
from atmviz.dense.pyramid import PYRAMID_DIM, Pyramid, create_body
from atmviz.variants import Neck

_STRIDES = (4, 8, 16, 32, 64)
_BOX_SIZE, _MASK_SIZE = 7, 14  # side of a pooled box, tokens
BOX_SAMPLES = 512  # in the paper
BOX_FACTOR = 4  # of a box's vector over the pyramid's channels


class BoxPredictor(nn.Module):
    """Scores of background and K classes, and four box deltas of each class; background's, never used, are zeros."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(dim, 1 + num_classes)
        self.bbox_pred = nn.Linear(dim, 4 * num_classes)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 1 + K] and [N, 4 (1 + K)] from [N, dim]."""
        return self.cls_score(x), F.pad(self.bbox_pred(x), (4, 0))


class MaskPredictor(MaskRCNNPredictor):
    """One mask of each class; background's, never used, is zero."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1 + K, 28, 28] from [N, dim, 14, 14]."""
        return F.pad(super().forward(x), (0, 0, 0, 0, 1, 0))


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
            for count, size in ((boxes, _BOX_SIZE), (masks, _MASK_SIZE))
        ]
        for heads in self.roi_heads.modules():
            if isinstance(heads, RoIHeads):
                heads.box_predictor(heads.box_head(pooled[0]))
                heads.mask_predictor(heads.mask_head(pooled[1]))


def open_pyramid(backbone: str, neck: Neck, dim: int, **kwargs: Any) -> Pyramid:
    """P2 to P5, and P6 by pooling."""
    return Pyramid(create_body(backbone, **kwargs), neck, dim, extra=LastLevelMaxPool())


def open_rpn(dim: int) -> RegionProposalNetwork:
    """Three anchors per token, side eight times the stride."""
    return RegionProposalNetwork(
        FixedStrideAnchors([[8 * stride] for stride in _STRIDES], _STRIDES),
        RPNHead(dim, len(RATIOS)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2000, "testing": 1000},
        post_nms_top_n={"training": 1000, "testing": 1000},
        nms_thresh=0.7,
    )


def open_roi_heads(
    num_classes: int,
    dim: int,
    box_head: nn.Module,
    iou: float = 0.5,
    weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
    box_samples: int = BOX_SAMPLES,
) -> RoIHeads:
    """Box and mask heads of one stage.

    Args:
        num_classes: Without background.
        dim: Channels of the pyramid.
        box_head: Pooled boxes [N, dim, 7, 7] to [N, 4 dim].
        iou: From which on a proposal is an object.
        weights: Scale of the box deltas.
        box_samples: Proposals that the heads learn from, per image.
    """
    return RoIHeads(
        RoIPool(_BOX_SIZE),
        box_head,
        BoxPredictor(BOX_FACTOR * dim, num_classes),
        fg_iou_thresh=iou,
        bg_iou_thresh=iou,
        batch_size_per_image=box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=tuple(weights),
        score_thresh=MIN_SCORE,
        nms_thresh=NMS_IOU,
        detections_per_img=MAX_DETECTIONS,
        mask_roi_pool=RoIPool(_MASK_SIZE),
        mask_head=MaskRCNNHeads(dim, [dim] * 4, 1),
        mask_predictor=MaskPredictor(dim, num_classes),
    )


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
    box_head = TwoMLPHead(dim * _BOX_SIZE**2, BOX_FACTOR * dim)
    heads = open_roi_heads(num_classes, dim, box_head, box_samples=box_samples)
    transform = open_transform(min_size, max_size, 32)
    return TwoStageDetector(open_pyramid(backbone, neck, dim, **kwargs), open_rpn(dim), heads, transform)
