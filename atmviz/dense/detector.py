"""Parts shared by the detectors: resizing of images, anchors and their targets, RoI pooling.

Targets are one dict per image: boxes [N, 4] in px (x1, y1, x2, y2), labels [N] counted from 0, and masks [N, H, W] for
detectors that predict masks. Detections also have scores [N], best first, and are in px of the given image.

Legend: B batch, C channels, H/W height and width, N boxes of an image, A anchors of an image.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import _utils as detection_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import box_iou, roi_align

from atmviz.geometry import resized_size

RATIOS = (0.5, 1.0, 2.0)  # height / width
DETECTIONS: dict[str, Any] = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 100}  # those kept
DIVISOR = 32  # height and width of a batch are multiples of it, px
BACKGROUND, UNUSED = -1, -2  # what an anchor learns instead of an object's index

Target = dict[str, Tensor]
Maps = dict[str, Tensor]
"""Feature maps by level, [B, C, h, w]; "p2" is the finest."""
Shapes = list[tuple[int, int]]
"""(height, width) of each image of a batch, px."""


def is_detector(network: nn.Module) -> bool:
    """Whether a network detects objects: it takes images of any size and returns boxes."""
    return isinstance(network, GeneralizedRCNN | RetinaNet)


def predicts_masks(network: nn.Module) -> bool:
    """Whether a detector also predicts a mask of each object."""
    return hasattr(network, "roi_heads")


class DetectorTransform(GeneralizedRCNNTransform):
    """Resizes normalized images to a shorter side (drawn from several in training) and pads them to one batch.

    Targets are resized too and get `size`, [2], the image's height and width in the batch, px. Detections are resized
    to the pixels of the given image. Sizes and the pasting of masks follow mmdetection 2.11.

    Args:
        min_size: Shorter side, or several, px; evaluation takes the last.
        max_size: Largest longer side, px.
    """

    def __init__(self, min_size: int | Sequence[int], max_size: int) -> None:
        super().__init__(min_size, max_size, [0.0] * 3, [1.0] * 3, size_divisible=DIVISOR)

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        shape = image.shape[-2:]
        short = self.torch_choice(list(self.min_size)) if self.training else self.min_size[-1]
        size = resized_size(shape, short, self.max_size)
        image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], list(shape), list(size))
            target["size"] = torch.tensor(size, device=image.device)
            if "masks" in target:
                target["masks"] = F.interpolate(target["masks"][:, None].float(), size)[:, 0].byte()
        return image, target

    def postprocess(self, result: list[Target], image_shapes: Shapes, original_image_sizes: Shapes) -> list[Target]:
        if not self.training:
            for detections, shape, size in zip(result, image_shapes, original_image_sizes, strict=True):
                detections["boxes"] = resize_boxes(detections["boxes"], list(shape), list(size))
                if "masks" in detections:
                    detections["masks"] = paste_masks(detections["masks"], detections["boxes"], size)
        return result


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Paste masks [N, 1, M, M] of boxes [N, 4], px, into images [N, 1, H, W] of `size`; 0 outside the boxes.

    Each pixel gets the mask's value at the pixel's center, interpolated. Source: mmdetection 2.11.
    """
    height, width = size
    pasted = masks.new_zeros(len(masks), 1, height, width, dtype=torch.float32)
    firsts = (boxes[:, :2].floor() - 1).clamp(min=0).int().tolist()
    ends = (boxes[:, 2:].ceil() + 1).minimum(boxes.new_tensor([width, height])).int().tolist()
    for canvas, mask, box, (left, top), (right, bottom) in zip(pasted, masks, boxes, firsts, ends, strict=True):
        x = torch.arange(left, right, device=boxes.device) + 0.5
        y = torch.arange(top, bottom, device=boxes.device) + 0.5
        # grid_sample's positions: -1 and 1 are the box's edges
        centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        grid = 2 * (centers - box[:2]) / (box[2:] - box[:2]) - 1
        canvas[0, top:bottom, left:right] = F.grid_sample(mask[None].float(), grid[None], align_corners=False)[0, 0]
    return pasted


class FixedStrideAnchors(AnchorGenerator):
    """Anchors with the stride of their level and unrounded sides, as in mmdetection.

    torchvision takes the stride from the map's size (61, not 64 px, for P6 of an image of 800 px) and rounds sides.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> None:
        super().__init__(tuple(tuple(sides) for sides in sizes), (RATIOS,) * len(sizes))
        self.strides = strides

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return boxes around the origin, [ratios * scales, 4], in px."""
        heights = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        sides = torch.tensor(scales, dtype=dtype, device=device)
        half = torch.stack([torch.outer(1 / heights, sides).flatten(), torch.outer(heights, sides).flatten()], 1) / 2
        return torch.cat([-half, half], 1)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return anchors [A, 4] per image, px."""
        self.set_cell_anchors(torch.promote_types(feature_maps[0].dtype, torch.float32), feature_maps[0].device)
        strides = [[stride, stride] for stride in self.strides]
        anchors = self.grid_anchors([list(x.shape[-2:]) for x in feature_maps], strides)
        return [torch.cat(anchors) for _ in image_list.image_sizes]


class BoxCoder(detection_utils.BoxCoder):
    """torchvision's box coder, decoding in the precision of the boxes: at 300 px, bfloat16 values are 2 px apart."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode_single(rel_codes.to(boxes), boxes)


class AnchorMatcher:
    """Assigns objects to anchors like mmdetection 2.11's `MaxIoUAssigner`.

    torchvision's `Matcher` gives an object its best anchors however little they overlap, and uses anchors in the
    padding that fills an image up to the size of a larger one in its batch.

    Args:
        positive: IoU from which an anchor learns the object that it overlaps most.
        negative: IoU below which an anchor learns background; between both it learns nothing.
        least: IoU from which an object's best anchors (several if they tie) learn it whatever else they overlap.
        border: How many px a learning anchor may reach outside its image; None for any number.
    """

    def __init__(self, positive: float, negative: float, least: float, border: int | None = None) -> None:
        self.positive, self.negative, self.least, self.border = positive, negative, least, border

    def __call__(self, anchors: Tensor, target: Target) -> Tensor:
        """Return the indices [A] of the objects that anchors [A, 4] learn, or BACKGROUND or UNUSED."""
        used = self._used(anchors, target["size"])
        if not len(target["boxes"]):
            return torch.full_like(used, BACKGROUND, dtype=torch.int64).masked_fill(~used, UNUSED)
        overlaps = box_iou(target["boxes"], anchors).masked_fill(~used, -1)
        highest, assigned = overlaps.max(0)
        assigned[highest < self.positive] = UNUSED
        assigned[highest < self.negative] = BACKGROUND
        best = overlaps.amax(1, keepdim=True)
        numbers = torch.arange(len(overlaps), dtype=torch.int32, device=anchors.device)[:, None]
        owner = numbers.where((overlaps == best) & (best >= self.least), -1).amax(0).long()
        return assigned.where(owner < 0, owner).masked_fill(~used, UNUSED)

    def _used(self, anchors: Tensor, size: Tensor) -> Tensor:
        """Return which anchors learn, [A]: those centered on the image or its padding, or those within the border."""
        if self.border is None:
            padded = (size / DIVISOR).ceil().flip(0) * DIVISOR
            centers = (anchors[:, :2] + anchors[:, 2:]) / 2  # whole px, but for rounding
            return (centers < padded - 0.5).all(1)
        return ((anchors[:, :2] >= -self.border) & (anchors[:, 2:] < size.flip(0) + self.border)).all(1)


class RoIPool(nn.Module):
    """RoIAlign from the pyramid level that fits a box's size, aligned and with as many samples as the box has tokens.

    torchvision's `MultiScaleRoIAlign` does neither; mmdetection, which the paper used, does both.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Maps, boxes: list[Tensor], image_shapes: Shapes) -> Tensor:
        """Return [boxes of all images, C, size, size] from maps P2 to P5 and boxes [N, 4] per image, px."""
        rois = torch.cat([F.pad(of_image, (1, 0), value=i) for i, of_image in enumerate(boxes)])
        area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        levels = (4 + torch.log2(area.clamp(min=1e-6).sqrt() / 224 + 1e-6)).floor().clamp(2, 5)
        pooled = maps["p2"].new_zeros(len(rois), maps["p2"].shape[1], self.size, self.size)
        for level in range(2, 6):
            chosen = torch.where(levels == level)[0]
            x = roi_align(maps[f"p{level}"].to(rois), rois[chosen], self.size, 2.0**-level, 0, True)
            pooled = pooled.index_put((chosen,), x.to(pooled))
        return pooled
