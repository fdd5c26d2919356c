"""What the detectors share: how images come in and detections go out, anchors and what they learn, RoI pooling.

Targets are one dict per image: boxes [N, 4] in px (x1, y1, x2, y2), labels [N] from 0 on, and masks [N, H, W] where the
detector draws masks. Detections are the same with scores, best first, in px of the image that was given.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import _utils as detection_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import box_iou, roi_align
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from atmviz.dense.pyramid import init_xavier
from atmviz.geometry import resized_size

RATIOS = (0.5, 1.0, 2.0)  # height / width
MIN_SCORE = 0.05
MAX_DETECTIONS = 100
NMS_IOU = 0.5
DIVISOR = 32  # of a batch's height and width, px
BACKGROUND, UNUSED = -1, -2  # in place of an object's number: what an anchor learns

Target = dict[str, Tensor]


class DetectorTransform(GeneralizedRCNNTransform):
    """Resizes normalised images to a shorter side (drawn from several in training) and pads them to one batch.

    Targets move with them and get `size`, [2], their image's height and width in the batch, px; detections come back to
    the pixels of the image that was given. Sizes, and how masks are drawn, are mmdetection 2.11's.

    Args:
        min_size: Shorter side, or several, px; evaluation takes the last.
        max_size: The most that a longer side may be, px.
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

    def postprocess(
        self,
        result: list[Target],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[Target]:
        if not self.training:
            for found, shape, size in zip(result, image_shapes, original_image_sizes, strict=True):
                found["boxes"] = resize_boxes(found["boxes"], list(shape), list(size))
                if "masks" in found:
                    found["masks"] = paste_masks(found["masks"], found["boxes"], size)
        return result


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, 1, M, M] of boxes [N, 4], px, drawn into images [N, 1, H, W] of `size`; 0 away from their boxes.

    Each pixel gets the mask's value at the pixel's centre, interpolated. Source: mmdetection 2.11.
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
    """Anchors whose stride is the level's, and whose sides are not rounded, as in mmdetection.

    torchvision takes the stride from the map's size (61, not 64 px, for P6 of an image of 800 px) and rounds sides.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> None:
        super().__init__(tuple(tuple(one) for one in sizes), (RATIOS,) * len(sizes))
        self.strides = strides

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Boxes around the origin, [ratios * scales, 4], in px."""
        heights = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        sides = torch.tensor(scales, dtype=dtype, device=device)
        half = torch.stack([torch.outer(1 / heights, sides).flatten(), torch.outer(heights, sides).flatten()], 1) / 2
        return torch.cat([-half, half], 1)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """One [anchors, 4] per image, px."""
        self.set_cell_anchors(torch.promote_types(feature_maps[0].dtype, torch.float32), feature_maps[0].device)
        strides = [[stride, stride] for stride in self.strides]
        anchors = self.grid_anchors([list(x.shape[-2:]) for x in feature_maps], strides)
        return [torch.cat(anchors) for _ in image_list.image_sizes]


class BoxCoder(detection_utils.BoxCoder):
    """torchvision's, but boxes keep their precision where the network has less: bfloat16's px are 2 apart at 300."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode_single(rel_codes.to(boxes), boxes)


class AnchorMatcher:
    """Which object an anchor learns, as mmdetection 2.11's `MaxIoUAssigner` decides.

    torchvision's `Matcher` gives an object its best anchors however little they overlap, and lets anchors learn that
    lie where an image is padded to the size of a larger one of its batch.

    Args:
        positive, negative: IoU from which on an anchor learns the object that it overlaps most, and under which it
            learns background. Between them it learns nothing.
        least: IoU from which on an object's best anchors (several where they tie) learn it whatever else they overlap.
        border: By how many px anchors that learn may overhang their image; None for any number.
    """

    def __init__(self, positive: float, negative: float, least: float, border: int | None = None) -> None:
        self.positive, self.negative, self.least, self.border = positive, negative, least, border

    def __call__(self, anchors: Tensor, target: Target) -> Tensor:
        """Numbers [A] of the objects that anchors [A, 4] learn; BACKGROUND and UNUSED are the negative ones."""
        used = self._used(anchors, target["size"])
        if not len(target["boxes"]):
            return torch.full_like(used, BACKGROUND, dtype=torch.int64).masked_fill(~used, UNUSED)
        overlaps = box_iou(target["boxes"], anchors).masked_fill(~used, -1)
        highest, found = overlaps.max(0)
        found[highest < self.positive] = UNUSED
        found[highest < self.negative] = BACKGROUND
        best = overlaps.amax(1, keepdim=True)
        numbers = torch.arange(len(overlaps), dtype=torch.int32, device=anchors.device)[:, None]
        owner = numbers.where((overlaps == best) & (best >= self.least), -1).amax(0).long()
        return found.where(owner < 0, owner).masked_fill(~used, UNUSED)

    def _used(self, anchors: Tensor, size: Tensor) -> Tensor:
        """Which anchors learn: all that stand on the image or its own padding, or those within the border."""
        if self.border is None:
            padded = (size / DIVISOR).ceil().flip(0) * DIVISOR
            centers = (anchors[:, :2] + anchors[:, 2:]) / 2  # whole px, but for rounding
            return (centers < padded - 0.5).all(1)
        return ((anchors[:, :2] >= -self.border) & (anchors[:, 2:] < size.flip(0) + self.border)).all(1)


class RoIPool(nn.Module):
    """RoIAlign from the level that fits a box's size: aligned, and with as many samples as the box has tokens.

    torchvision's `MultiScaleRoIAlign` is neither; mmdetection, which the paper used, is both.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """[boxes of all images, C, size, size] from P2 to P5 and one [N, 4] per image, px."""
        rois = torch.cat([F.pad(one, (1, 0), value=i) for i, one in enumerate(boxes)])
        area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        levels = (4 + torch.log2(area.clamp(min=1e-6).sqrt() / 224 + 1e-6)).floor().clamp(2, 5)
        pooled = maps["p2"].new_zeros(len(rois), maps["p2"].shape[1], self.size, self.size)
        for level in range(2, 6):
            chosen = torch.where(levels == level)[0]
            x = roi_align(maps[f"p{level}"].to(rois), rois[chosen], self.size, 2.0**-level, 0, True)
            pooled = pooled.index_put((chosen,), x.to(pooled))
        return pooled


class P6P7(ExtraFPNBlock):
    """Two strided convolutions after C5, without the ReLU between them that torchvision's has. Source: mmdetection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        init_xavier(self)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(x[-1])
        return [*results, p6, self.p7(p6)], [*names, "p6", "p7"]


def octave_scales(base: float) -> list[float]:
    """Three anchor sides to an octave."""
    return [base * math.exp2(k / 3) for k in range(3)]
