"""Cascade Mask R-CNN (Cai and Vasconcelos, 2018), as in Table 6: three box stages, each with its mask head.

The paper prints none of its settings. One public configuration, giou_4conv1f of Swin's detectors, has heads of the size
that Table 6 counts. These are its settings: GIoU losses of boxes, 2,000 proposals in training, and an RPN that ignores
anchors reaching outside their image and whose box loss is quadratic up to 1/9.

Legend: N boxes, A anchors, K classes without background; boxes are (x1, y1, x2, y2) in px.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import box_iou, clip_boxes_to_image

from atmviz.architecture import BOX_SAMPLES, PYRAMID_DIM, Neck
from atmviz.dense.detector import DetectorTransform, Maps, Shapes, Target
from atmviz.dense.mask_rcnn import RPN, TwoStageDetector, build_pyramid
from atmviz.dense.roi_heads import BOX_FACTOR, BOX_SIZE, RoIHeads

# IoU from which a proposal is an object, standard deviations of the deltas, weight of the losses
_STAGES = (
    (0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    (0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    (0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)


class CascadeRoIHeads(nn.Module):
    """Box and mask heads in three stages.

    Each stage starts from the boxes of the previous one; class scores and masks are averaged over the stages.
    """

    stages: Any  # a ModuleList of RoIHeads

    def __init__(self, num_classes: int, dim: int, box_samples: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for iou, stds, _ in _STAGES:
            box_head = FastRCNNConvFCHead((dim, BOX_SIZE, BOX_SIZE), [dim] * 4, [BOX_FACTOR * dim], nn.BatchNorm2d)
            self.stages.append(RoIHeads(num_classes, dim, box_head, iou, stds, box_samples, giou=True))

    def forward(
        self, maps: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: list[Target] | None = None
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Return detections (none in training) and losses (none in evaluation), like torchvision's `RoIHeads`."""
        if self.training:
            assert targets is not None
            return [], self._losses(maps, proposals, image_shapes, targets)
        return self._detect(maps, proposals, image_shapes), {}

    def _losses(
        self, maps: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: list[Target]
    ) -> dict[str, Tensor]:
        losses = {}
        for number, (heads, (_, _, weight)) in enumerate(zip(self.stages, _STAGES, strict=True), start=1):
            stage_losses, (deltas, scores, proposals, labels) = heads.losses(maps, proposals, image_shapes, targets)
            losses.update({f"{name}_{number}": weight * loss for name, loss in stage_losses.items()})
            refined = _refine(heads, deltas, scores, proposals, image_shapes, labels)
            # Drop the ground-truth boxes that this stage's sampler added; the next stage adds them again.
            proposals = [
                new[box_iou(old, target["boxes"]).eq(1).sum(1) == 0]
                for new, old, target in zip(refined, proposals, targets, strict=True)
            ]
        return losses

    def _detect(self, maps: Maps, proposals: list[Tensor], image_shapes: Shapes) -> list[Target]:
        total: Any = 0
        for heads in self.stages:
            scores, deltas = heads.score(maps, proposals, image_shapes)
            total = total + scores
            if heads is not self.stages[-1]:
                proposals = _refine(heads, deltas, scores, proposals, image_shapes)
        boxes, confidences, labels = heads.postprocess_detections(
            total / len(self.stages), deltas, proposals, image_shapes
        )
        pooled = heads.mask_roi_pool(maps, boxes, image_shapes)
        by_stage = [maskrcnn_inference(heads.mask_predictor(heads.mask_head(pooled)), labels) for heads in self.stages]
        masks = [torch.stack(stages).mean(0) for stages in zip(*by_stage, strict=True)]
        images = zip(boxes, confidences, labels, masks, strict=True)
        return [{"boxes": b, "scores": s, "labels": k, "masks": m} for b, s, k, m in images]


def _refine(
    heads: RoIHeads,
    deltas: Tensor,
    scores: Tensor,
    proposals: list[Tensor],
    image_shapes: Shapes,
    labels: list[Tensor] | None = None,
) -> list[Tensor]:
    """Move proposals by the deltas of their true class, or of the most likely class for background."""
    with torch.no_grad():
        chosen = scores[:, 1:].argmax(1) + 1
        if labels is not None:
            true = torch.cat(labels)
            chosen = torch.where(true > 0, true, chosen)
        moved = heads.box_coder.decode(deltas.detach(), proposals)[
            torch.arange(len(chosen), device=chosen.device), chosen
        ]
        by_image = moved.split([len(boxes) for boxes in proposals])
        return [clip_boxes_to_image(boxes, shape) for boxes, shape in zip(by_image, image_shapes, strict=True)]


def cascade_mask_rcnn(
    backbone: str,
    neck: Neck = "fpn",
    num_classes: int = 80,
    min_size: int | Sequence[int] = 800,
    max_size: int = 1333,
    dim: int = PYRAMID_DIM,
    box_samples: int = BOX_SAMPLES,
    **kwargs: Any,
) -> TwoStageDetector:
    """Build Cascade Mask R-CNN on a backbone; arguments as in `mask_rcnn`.

    Source: Table 6.
    """
    rpn = RPN(dim, proposals=2000, border=0, beta=1 / 9)
    heads, transform = CascadeRoIHeads(num_classes, dim, box_samples), DetectorTransform(min_size, max_size)
    return TwoStageDetector(build_pyramid(backbone, neck, dim, **kwargs), rpn, heads, transform)
