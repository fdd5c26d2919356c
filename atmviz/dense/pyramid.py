"""Backbones that return feature maps, and necks that make a pyramid of them.

Legend: B batch, C channels, H/W height and width. C2 to C5 are the backbone's maps, strides 4 to 32; P2 to P5 the
pyramid's.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from atmviz.architecture import PYRAMID_DIM, Neck
from atmviz.errors import SettingsError, summarize
from atmviz.models import ATMFPN
from atmviz.variants import VARIANTS

_SWIN_PATCH = 4


@contextmanager
def building(name: object) -> Iterator[None]:
    """Turn what timm raises in the block, where the network of that name is built, into one line.

    Raises:
        SettingsError: the network is unknown, or does not take an argument.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise SettingsError(
            f"cannot build {name} ({summarize(error)}): expected one of {', '.join(VARIANTS)} or a timm model; "
            "heads need four stages with strides 4 to 32"
        ) from None


def create_backbone(name: str, first_level: int = 2, drop_path_rate: float = 0.0, **kwargs: Any) -> nn.Module:
    """Build a backbone that returns its feature maps C2 (or C3) to C5, [B, C, H, W], strides 4 to 32.

    Args:
        name: An ATMNet variant, whose maps are normed as in the released segmentation backbone, or a timm model of four
            stages, such as resnet50 and swin_tiny_patch4_window7_224 (Table 7).
        first_level: First map to return, 2 or 3.
        drop_path_rate: Stochastic depth.
        kwargs: Further arguments of the backbone's constructor.

    Raises:
        SettingsError: the model is unknown, does not take an argument, or lacks four stages with strides 4 to 32.
    """
    if name in VARIANTS:
        kwargs = {"out_norms": True, **kwargs}
    elif name.startswith("swin"):
        kwargs = {"strict_img_size": False, **kwargs}
    with building(name):
        body: Any = timm.create_model(
            name,
            features_only=True,
            feature_cls="getter",  # maps in [B, C, H, W] whatever layout the network uses
            out_indices=tuple(range(first_level - 6, 0)),  # to the last
            drop_path_rate=drop_path_rate,
            **kwargs,
        )
    strides = [stage["reduction"] for stage in body.feature_info.info]
    if strides[-4:] != [4, 8, 16, 32]:
        raise SettingsError(f"got {name}, whose maps have strides {strides}, expected a backbone with 4, 8, 16, 32")
    return NormalizedBackbone(body) if name.startswith("swin") else body


def feature_channels(backbone: nn.Module) -> list[int]:
    """Channels of the maps that a backbone returns."""
    return backbone.feature_info.channels()  # type: ignore[union-attr, operator]


class NormalizedBackbone(nn.Module):
    """Swin as in mmdetection: a LayerNorm on each map, and images padded to whole patches."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.feature_info = body.feature_info
        self.norms = nn.ModuleList(LayerNorm2d(dim) for dim in feature_channels(body))

    @property
    def model(self) -> nn.Module:
        """The network itself, under the same name as in timm's wrappers."""
        return self.body.model  # type: ignore[return-value]

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % _SWIN_PATCH, 0, -height % _SWIN_PATCH))
        return [norm(x) for norm, x in zip(self.norms, self.body(padded), strict=True)]


def init_xavier(module: nn.Module) -> None:
    """Initialize convolutions and linear layers: Xavier uniform, biases 0.

    Source: mmdetection's FPN and the layers of its box heads.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Pyramid(nn.Module):
    """Backbone and neck: images [B, 3, H, W] to maps of `dim` channels by name, "p2" (or "p3") first.

    Attributes:
        out_channels: `dim`; torchvision's detectors read it.
    """

    def __init__(
        self,
        body: nn.Module,
        neck: Neck,
        dim: int = PYRAMID_DIM,
        first_level: int = 2,
        extra: ExtraFPNBlock | None = None,
    ) -> None:
        super().__init__()
        self.body, self.out_channels = body, dim
        dims = feature_channels(body)
        if neck == "atmfpn":
            self.neck: FeaturePyramidNetwork = ATMFPN(dims, dim, extra, first_level)
        else:
            self.neck = FeaturePyramidNetwork(dims, dim, extra)
            init_xavier(self.neck)  # as in mmdetection
        self.names = [f"p{level}" for level in range(first_level, 6)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.neck(OrderedDict(zip(self.names, self.body(images), strict=True)))
