"""Box and mask heads of the two-stage detectors: torchvision's, with mmdetection 2.11's losses and targets.

Legend: N boxes, K classes without background, M objects of an image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import roi_heads
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import generalized_box_iou_loss, roi_align

from atmviz.architecture import BOX_SAMPLES
from atmviz.dense.detector import DETECTIONS, BoxCoder, Maps, RoIPool, Shapes, Target
from atmviz.dense.pyramid import init_xavier

BOX_SIZE, MASK_SIZE = 7, 14  # side of a pooled box, tokens
BOX_FACTOR = 4  # width of a box's vector over channels of the pyramid
_GIOU_WEIGHT = 10.0

Sample = tuple[Tensor, Tensor, list[Tensor], list[Tensor]]  # deltas, scores, proposals and labels by image


class BoxPredictor(nn.Module):
    """Scores of background and K classes, and four box deltas of each class; those of background are unused zeros."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(dim, 1 + num_classes)
        self.bbox_pred = nn.Linear(dim, 4 * num_classes)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [N, 1 + K] and deltas [N, 4 (1 + K)] from vectors [N, dim]."""
        return self.cls_score(x), F.pad(self.bbox_pred(x), (4, 0))


class MaskPredictor(MaskRCNNPredictor):
    """One mask of each class; that of background is an unused zero."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, dim, num_classes)
        for layer in (self.conv5_mask, self.mask_fcn_logits):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return masks [N, 1 + K, 28, 28] from pooled boxes [N, dim, 14, 14]."""
        return F.pad(super().forward(x), (0, 0, 0, 0, 1, 0))


class RoIHeads(roi_heads.RoIHeads):
    """Box and mask heads of one stage.

    The box loss is summed over the sampled objects and divided by the number of sampled proposals: L1 of the deltas, or
    ten times the GIoU loss of the boxes. Target masks are the true ones at 28x28, thresholded at 0.5.

    Args:
        num_classes: Classes without background.
        dim: Channels of the pyramid.
        box_head: Maps pooled boxes [N, dim, 7, 7] to [N, 4 dim].
        iou: IoU from which a proposal is an object.
        stds: Standard deviations that the deltas of x, y, width and height are divided by.
        box_samples: Proposals that the heads learn from, per image.
        giou: Use the GIoU loss for boxes.
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
            mask_roi_pool=RoIPool(MASK_SIZE),
            mask_head=MaskRCNNHeads(dim, [dim] * 4, 1),
            mask_predictor=MaskPredictor(dim, num_classes),
            **DETECTIONS,
        )
        self.box_coder = BoxCoder(tuple(1 / std for std in stds))
        self.giou = giou
        for layer in box_head.modules():
            if isinstance(layer, nn.Linear):
                init_xavier(layer)

    def forward(
        self, features: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: list[Target] | None = None
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Return detections (none in training) and losses (none in evaluation)."""
        if not self.training:
            return super().forward(features, proposals, image_shapes)
        assert targets is not None
        return [], self.losses(features, proposals, image_shapes, targets)[0]

    def score(self, maps: Maps, proposals: list[Tensor], image_shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Return class scores [N, 1 + K] and box deltas [N, 4 (1 + K)] of the proposals of all images."""
        return self.box_predictor(self.box_head(self.box_roi_pool(maps, proposals, image_shapes)))

    def losses(
        self, maps: Maps, proposals: list[Tensor], image_shapes: Shapes, targets: list[Target]
    ) -> tuple[dict[str, Tensor], Sample]:
        """Return losses by name, and the sampled proposals with their predictions."""
        proposals, matched, labels, _ = self.select_training_samples(proposals, targets)
        scores, deltas = self.score(maps, proposals, image_shapes)

        is_object = [of_image > 0 for of_image in labels]
        boxes = [of_image[chosen] for of_image, chosen in zip(proposals, is_object, strict=True)]
        numbers = [of_image[chosen] for of_image, chosen in zip(matched, is_object, strict=True)]
        true = torch.cat([target["boxes"][indices] for target, indices in zip(targets, numbers, strict=True)])
        objects = torch.cat(is_object)
        classes = torch.cat(labels)[objects]
        rows = torch.arange(len(classes), device=classes.device)

        object_deltas = deltas.reshape(len(deltas), -1, 4)[objects][rows, classes]
        if self.giou:
            box_loss = _GIOU_WEIGHT * generalized_box_iou_loss(
                self.box_coder.decode_single(object_deltas, torch.cat(boxes)).view(-1, 4), true, reduction="sum"
            )
        else:
            box_loss = F.l1_loss(object_deltas, self.box_coder.encode_single(true, torch.cat(boxes)), reduction="sum")

        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(maps, boxes, image_shapes)))[rows, classes]
        masks = torch.cat(
            [mask_targets(target["masks"], *chosen) for target, *chosen in zip(targets, boxes, numbers, strict=True)]
        )
        mask_loss = F.binary_cross_entropy_with_logits(logits, masks, reduction="sum") / max(1, masks.numel())
        losses = {
            "loss_classifier": F.cross_entropy(scores, torch.cat(labels)),
            "loss_box_reg": box_loss / len(deltas),
            "loss_mask": mask_loss,
        }
        return losses, (deltas, scores, proposals, labels)


def mask_targets(masks: Tensor, boxes: Tensor, numbers: Tensor, size: int = 2 * MASK_SIZE) -> Tensor:
    """Crop the masks [M, H, W] of the objects with indices [N] to boxes [N, 4], px: 0 or 1, [N, size, size].

    Source: mmdetection 2.11, `BitmapMasks.crop_and_resize`.
    """
    rois = torch.cat([numbers[:, None].to(boxes), boxes], 1)
    return (roi_align(masks[:, None].to(boxes), rois, size, 1.0, 0, aligned=True)[:, 0] >= 0.5).to(boxes)
