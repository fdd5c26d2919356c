"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection", 2017), as in Table 4."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import sigmoid_focal_loss

from atmviz.architecture import Neck
from atmviz.dense.detector import (
    MAX_DETECTIONS,
    MIN_SCORE,
    NMS_IOU,
    P6P7,
    UNUSED,
    AnchorMatcher,
    BoxCoder,
    DetectorTransform,
    FixedStrideAnchors,
    Target,
    octave_scales,
)
from atmviz.dense.pyramid import PYRAMID_DIM, Pyramid, create_body, map_dims

_STRIDES = (8, 16, 32, 64, 128)


class RetinaNet(detection.RetinaNet):
    """torchvision's, with labels from 0 on and mmdetection 2.11's targets and losses."""

    def compute_loss(
        self, targets: list[Target], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Focal loss of classes and L1 of box deltas, summed over the batch and divided by its positive anchors.

        An image without any counts as one anchor.
        """
        found = torch.stack([self.proposal_matcher(one, target) for one, target in zip(anchors, targets, strict=True)])
        objects, used = found >= 0, found != UNUSED
        count = objects.sum(1).clamp(min=1).sum()
        matched = [(target, one[one >= 0]) for target, one in zip(targets, found, strict=True)]
        classes = torch.cat([target["labels"][one] for target, one in matched])
        boxes = torch.cat([target["boxes"][one] for target, one in matched])

        logits, deltas = (head_outputs[name].to(boxes) for name in ("cls_logits", "bbox_regression"))
        true = torch.zeros_like(logits)
        true[objects] = F.one_hot(classes, logits.shape[-1]).to(logits)
        true_deltas = self.box_coder.encode_single(boxes, torch.stack(anchors)[objects])
        return {
            "classification": sigmoid_focal_loss(logits[used], true[used], reduction="sum") / count,
            "bbox_regression": F.l1_loss(deltas[objects], true_deltas, reduction="sum") / count,
        }

    def forward_dummy(self, images: Tensor) -> Any:
        """Every layer once, for counting."""
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
    """RetinaNet on a backbone: levels P3 to P7, nine anchors per token.

    Args:
        backbone, kwargs: See `create_body`.
        neck: "fpn" or "atmfpn".
        num_classes: Without background.
        min_size, max_size: Images are resized to this shorter side, one of several drawn in training, and at most this
            longer side, px.
        dim: Channels of pyramid and heads.
    """
    body = create_body(backbone, first_level=3, **kwargs)
    model = RetinaNet(
        Pyramid(body, neck, dim, 3, P6P7(map_dims(body)[-1], dim)),
        num_classes,
        anchor_generator=FixedStrideAnchors([octave_scales(4 * stride) for stride in _STRIDES], _STRIDES),
        score_thresh=MIN_SCORE,
        nms_thresh=NMS_IOU,
        detections_per_img=MAX_DETECTIONS,
        proposal_matcher=AnchorMatcher(0.5, 0.4, 0.0),
    )
    model.transform, model.box_coder = DetectorTransform(min_size, max_size), BoxCoder((1.0, 1.0, 1.0, 1.0))
    for branch in (model.head.classification_head, model.head.regression_head):
        for module in branch.conv.modules():
            if isinstance(module, nn.Conv2d):  # 0.01 for 256 channels; fewer would pass hardly any signal on
                nn.init.normal_(module.weight, std=0.01 * (PYRAMID_DIM / dim) ** 0.5)
    return model
