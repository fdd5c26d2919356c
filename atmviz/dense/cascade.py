"""Cascade Mask R-CNN (Cai and Vasconcelos, 2018), as in Table 6: three box stages, each with its mask head.

The paper prints none of its settings. Heads of the size that Table 6 counts exist in one public configuration, that of
Swin's detectors named giou_4conv1f, whose settings these are: GIoU losses of boxes, 2,000 proposals in training, and an
RPN that learns from no anchor that overhangs its image, its box loss smooth up to 1/9.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import box_iou, clip_boxes_to_image

from atmviz.architecture import Neck
from atmviz.dense.detector import DetectorTransform, Target
from atmviz.dense.mask_rcnn import RPN, TwoStageDetector, open_pyramid
from atmviz.dense.pyramid import PYRAMID_DIM
from atmviz.dense.roi_heads import BOX_FACTOR, BOX_SAMPLES, BOX_SIZE, RoIHeads

# IoU of an object, what deltas are divided by, weight of the losses
_STAGES = (
    (0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    (0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    (0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
)


class CascadeRoIHeads(nn.Module):
    """Each stage starts from the boxes of the one before; class scores and masks are averaged over the stages."""

    stages: Any  # a ModuleList of RoIHeads

    def __init__(self, num_classes: int, dim: int, box_samples: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for iou, stds, _ in _STAGES:
            box_head = FastRCNNConvFCHead((dim, BOX_SIZE, BOX_SIZE), [dim] * 4, [BOX_FACTOR * dim], nn.BatchNorm2d)
            self.stages.append(RoIHeads(num_classes, dim, box_head, iou, stds, box_samples, giou=True))

    def forward(
        self,
        maps: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Detections (none in training) and losses (none otherwise), as torchvision's `RoIHeads` returns them."""
        if self.training:
            assert targets is not None
            return [], self._losses(maps, proposals, image_shapes, targets)
        return self._detect(maps, proposals, image_shapes), {}

    def _losses(
        self,
        maps: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        losses = {}
        for number, (heads, (_, _, weight)) in enumerate(zip(self.stages, _STAGES, strict=True), start=1):
            found, (deltas, scores, proposals, labels) = heads.losses(maps, proposals, image_shapes, targets)
            losses.update({f"{name}_{number}": weight * loss for name, loss in found.items()})
            refined = _refine(heads, deltas, scores, proposals, image_shapes, labels)
            # Proposals that are true boxes come from the sampling of this stage; the next one adds them again.
            proposals = [
                new[box_iou(old, target["boxes"]).eq(1).sum(1) == 0]
                for new, old, target in zip(refined, proposals, targets, strict=True)
            ]
        return losses

    def _detect(
        self, maps: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[Target]:
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
        each = [maskrcnn_inference(heads.mask_predictor(heads.mask_head(pooled)), labels) for heads in self.stages]
        masks = [torch.stack(one).mean(0) for one in zip(*each, strict=True)]
        found = zip(boxes, confidences, labels, masks, strict=True)
        return [{"boxes": b, "scores": s, "labels": k, "masks": m} for b, s, k, m in found]


def _refine(
    heads: RoIHeads,
    deltas: Tensor,
    scores: Tensor,
    proposals: list[Tensor],
    image_shapes: list[tuple[int, int]],
    labels: list[Tensor] | None = None,
) -> list[Tensor]:
    """Proposals moved by the deltas of their class: the true one where there is one, else the most likely."""
    with torch.no_grad():
        chosen = scores[:, 1:].argmax(1) + 1
        if labels is not None:
            true = torch.cat(labels)
            chosen = torch.where(true > 0, true, chosen)
        moved = heads.box_coder.decode(deltas.detach(), proposals)[
            torch.arange(len(chosen), device=chosen.device), chosen
        ]
        split = moved.split([len(one) for one in proposals])
        return [clip_boxes_to_image(one, shape) for one, shape in zip(split, image_shapes, strict=True)]


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
    """Cascade Mask R-CNN on a backbone; arguments as in `mask_rcnn`."""
    rpn = RPN(dim, proposals=2000, border=0, beta=1 / 9)
    heads, transform = CascadeRoIHeads(num_classes, dim, box_samples), DetectorTransform(min_size, max_size)
    return TwoStageDetector(open_pyramid(backbone, neck, dim, **kwargs), rpn, heads, transform)
