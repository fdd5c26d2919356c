"""Box and mask heads of the two-stage detectors: torchvision's, with mmdetection 2.11's losses and targets."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import roi_heads
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import generalized_box_iou_loss, roi_align

from atmviz.dense.detector import MAX_DETECTIONS, MIN_SCORE, NMS_IOU, BoxCoder, RoIPool, Target
from atmviz.dense.pyramid import init_xavier

BOX_SIZE, MASK_SIZE = 7, 14  # side of a pooled box, tokens
BOX_SAMPLES = 512  # in the paper
BOX_FACTOR = 4  # of a box's vector over the pyramid's channels
_GIOU_WEIGHT = 10.0

Sample = tuple[Tensor, Tensor, list[Tensor], list[Tensor]]  # deltas, scores; proposals and labels, by image


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
        for layer in (self.conv5_mask, self.mask_fcn_logits):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1 + K, 28, 28] from [N, dim, 14, 14]."""
        return F.pad(super().forward(x), (0, 0, 0, 0, 1, 0))


class RoIHeads(roi_heads.RoIHeads):
    """Box and mask heads of one stage.

    The box loss is summed over the sampled objects and divided by all sampled proposals: L1 of the deltas, or ten times
    the GIoU loss of the boxes. The masks to learn are the true ones at 28x28, cut at a half.

    Args:
        num_classes: Without background.
        dim: Channels of the pyramid.
        box_head: Pooled boxes [N, dim, 7, 7] to [N, 4 dim].
        iou: From which on a proposal is an object.
        stds: What the deltas of x, y, width and height are divided by.
        box_samples: Proposals that the heads learn from, per image.
        giou: Learn boxes by GIoU.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        box_head: nn.Module,
        iou: float = 0.5,
        stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        box_samples: int = BOX_SAMPLES,
        giou: bool = False,
    ) -> None:
        super().__init__(
            RoIPool(BOX_SIZE),
            box_head,
            BoxPredictor(BOX_FACTOR * dim, num_classes),
            fg_iou_thresh=iou,
            bg_iou_thresh=iou,
            batch_size_per_image=box_samples,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=MIN_SCORE,
            nms_thresh=NMS_IOU,
            detections_per_img=MAX_DETECTIONS,
            mask_roi_pool=RoIPool(MASK_SIZE),
            mask_head=MaskRCNNHeads(dim, [dim] * 4, 1),
            mask_predictor=MaskPredictor(dim, num_classes),
        )
        self.box_coder = BoxCoder(tuple(1 / std for std in stds))
        self.giou = giou
        for layer in box_head.modules():
            if isinstance(layer, nn.Linear):
                init_xavier(layer)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Detections (none in training) and losses (none otherwise)."""
        if not self.training:
            return super().forward(features, proposals, image_shapes)
        assert targets is not None
        return [], self.losses(features, proposals, image_shapes, targets)[0]

    def score(
        self, maps: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Class scores [N, 1 + K] and box deltas [N, 4 (1 + K)] of the proposals of all images."""
        return self.box_predictor(self.box_head(self.box_roi_pool(maps, proposals, image_shapes)))

    def losses(
        self,
        maps: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> tuple[dict[str, Tensor], Sample]:
        """Losses by name, and the sample of proposals that they are of."""
        proposals, matched, labels, _ = self.select_training_samples(proposals, targets)
        scores, deltas = self.score(maps, proposals, image_shapes)

        chosen = [one > 0 for one in labels]
        boxes = [one[objects] for one, objects in zip(proposals, chosen, strict=True)]
        numbers = [one[objects] for one, objects in zip(matched, chosen, strict=True)]
        true = torch.cat([target["boxes"][one] for target, one in zip(targets, numbers, strict=True)])
        objects = torch.cat(chosen)
        classes = torch.cat(labels)[objects]
        rows = torch.arange(len(classes), device=classes.device)

        own = deltas.reshape(len(deltas), -1, 4)[objects][rows, classes]
        if self.giou:
            box_loss = _GIOU_WEIGHT * generalized_box_iou_loss(
                self.box_coder.decode_single(own, torch.cat(boxes)).view(-1, 4), true, reduction="sum"
            )
        else:
            box_loss = F.l1_loss(own, self.box_coder.encode_single(true, torch.cat(boxes)), reduction="sum")

        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(maps, boxes, image_shapes)))[rows, classes]
        masks = torch.cat(
            [mask_targets(target["masks"], *one) for target, *one in zip(targets, boxes, numbers, strict=True)]
        )
        mask_loss = F.binary_cross_entropy_with_logits(logits, masks, reduction="sum") / max(1, masks.numel())
        losses = {
            "loss_classifier": F.cross_entropy(scores, torch.cat(labels)),
            "loss_box_reg": box_loss / len(deltas),
            "loss_mask": mask_loss,
        }
        return losses, (deltas, scores, proposals, labels)


def mask_targets(masks: Tensor, boxes: Tensor, numbers: Tensor, size: int = 2 * MASK_SIZE) -> Tensor:
    """What boxes [N, 4], px, show of the objects of these numbers [N] out of masks [M, H, W]: 0 or 1, [N, size, size].

    Source: mmdetection 2.11, `BitmapMasks.crop_and_resize`.
    """
    rois = torch.cat([numbers[:, None].to(boxes), boxes], 1)
    return (roi_align(masks[:, None].to(boxes), rois, size, 1.0, 0, aligned=True)[:, 0] >= 0.5).to(boxes)
