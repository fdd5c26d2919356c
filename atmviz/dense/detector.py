"""What the detectors share: how images come in, anchors, RoI pooling, and the counting pass.

Targets are one dict per image: boxes [N, 4] in px (x1, y1, x2, y2), labels [N] from 0 on, and masks [N, H, W] where the
detector draws masks. Detections are the same with scores, best first, in px of the image that was given.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import roi_align
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

RATIOS = (0.5, 1.0, 2.0)  # height / width
MIN_SCORE = 0.05
MAX_DETECTIONS = 100
NMS_IOU = 0.5

Target = dict[str, Tensor]


def open_transform(min_size: int | Sequence[int], max_size: int, divisor: int) -> GeneralizedRCNNTransform:
    """Resizes normalised images to a shorter side (drawn from several in training) and pads them to one batch."""
    return GeneralizedRCNNTransform(min_size, max_size, [0.0] * 3, [1.0] * 3, size_divisible=divisor)


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
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        strides = [[stride, stride] for stride in self.strides]
        anchors = self.grid_anchors([list(x.shape[-2:]) for x in feature_maps], strides)
        return [torch.cat(anchors) for _ in image_list.image_sizes]


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
            x = roi_align(maps[f"p{level}"], rois[chosen].to(maps["p2"].dtype), self.size, 2.0**-level, 0, True)
            pooled = pooled.index_put((chosen,), x)
        return pooled


class P6P7(ExtraFPNBlock):
    """Two strided convolutions after C5, without the ReLU between them that torchvision's has. Source: mmdetection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(x[-1])
        return [*results, p6, self.p7(p6)], [*names, "p6", "p7"]


def octave_scales(base: float) -> list[float]:
    """Three anchor sides to an octave."""
    return [base * math.exp2(k / 3) for k in range(3)]
