"""Cascade Mask R-CNN (Cai and Vasconcelos, 2018), as in Table 6: three box stages, each with its mask head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import box_iou, clip_boxes_to_image

from atmviz.dense.detector import Target, open_transform
from atmviz.dense.mask_rcnn import BOX_FACTOR, BOX_SAMPLES, TwoStageDetector, open_pyramid, open_roi_heads, open_rpn
from atmviz.dense.pyramid import PYRAMID_DIM
from atmviz.variants import Neck

# IoU of an object, scale of the deltas (1 / std), weight of the losses
_STAGES = ((0.5, (10, 10, 5, 5), 1.0), (0.6, (20, 20, 10, 10), 0.5), (0.7, (30, 30, 15, 15), 0.25))


class CascadeRoIHeads(nn.Module):
    """Each stage starts from the boxes of the one before; class scores and masks are averaged over the stages."""

    def __init__(self, num_classes: int, dim: int, box_samples: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for iou, weights, _ in _STAGES:
            box_head = FastRCNNConvFCHead((dim, 7, 7), [dim] * 4, [BOX_FACTOR * dim], nn.BatchNorm2d)
            self.stages.append(open_roi_heads(num_classes, dim, box_head, iou, weights, box_samples))

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
        true_boxes, true_labels, true_masks = ([one[name] for one in targets] for name in ("boxes", "labels", "masks"))
        stages: list[RoIHeads] = list(self.stages)
        for number, (heads, (_, _, weight)) in enumerate(zip(stages, _STAGES, strict=True), start=1):
            proposals, matched, labels, deltas = heads.select_training_samples(proposals, targets)
            scores, predicted = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, proposals, image_shapes)))
            class_loss, box_loss = fastrcnn_loss(scores, predicted, labels, deltas)

            objects = [torch.where(one > 0)[0] for one in labels]
            boxes = [one[chosen] for one, chosen in zip(proposals, objects, strict=True)]
            true = [one[chosen] for one, chosen in zip(matched, objects, strict=True)]
            masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(maps, boxes, image_shapes)))
            mask_loss = maskrcnn_loss(masks, boxes, true_masks, true_labels, true)
            named = {"classifier": class_loss, "box_reg": box_loss, "mask": mask_loss}
            losses.update({f"loss_{name}_{number}": weight * loss for name, loss in named.items()})

            if number < len(_STAGES):
                refined = _refine(heads, predicted, scores, proposals, image_shapes, labels)
                # Proposals that are true boxes come from the sampling of this stage; the next one adds them again.
                proposals = [
                    new[box_iou(old, true).eq(1).sum(1) == 0]
                    for new, old, true in zip(refined, proposals, true_boxes, strict=True)
                ]
        return losses

    def _detect(
        self, maps: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[Target]:
        total: Any = 0
        stages: list[RoIHeads] = list(self.stages)
        for heads in stages:
            scores, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, proposals, image_shapes)))
            total = total + scores
            if heads is not stages[-1]:
                proposals = _refine(heads, deltas, scores, proposals, image_shapes)
        boxes, confidences, labels = heads.postprocess_detections(total / len(stages), deltas, proposals, image_shapes)
        pooled = heads.mask_roi_pool(maps, boxes, image_shapes)
        each = [maskrcnn_inference(heads.mask_predictor(heads.mask_head(pooled)), labels) for heads in stages]
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
    heads, transform = CascadeRoIHeads(num_classes, dim, box_samples), open_transform(min_size, max_size, 32)
    return TwoStageDetector(open_pyramid(backbone, neck, dim, **kwargs), open_rpn(dim), heads, transform)
