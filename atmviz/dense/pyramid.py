"""Below the heads: a backbone's feature maps, and a neck that makes a pyramid of them."""

from collections import OrderedDict
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from atmviz.architecture import Neck
from atmviz.errors import AtmvizError, summarize
from atmviz.models import ATMFPN
from atmviz.variants import VARIANTS

PYRAMID_DIM = 256  # in the paper
_SWIN_PATCH = 4


def create_body(name: str, first_level: int = 2, drop_path_rate: float = 0.0, **kwargs: Any) -> nn.Module:
    """A backbone that returns its feature maps C2 (or from `first_level` on) to C5, [B, C, H, W], strides 4 to 32.

    Args:
        name: An ATMNet variant, whose maps pass one LayerNorm each as in the released segmentation backbone; or any
            timm model of four stages, such as resnet50 and swin_tiny_patch4_window7_224 (Table 7).
        first_level: 2 or 3.
        drop_path_rate: Stochastic depth.
        kwargs: To the constructor.

    Raises:
        AtmvizError: no such model, or not one of four stages with strides 4 to 32.
    """
    if name in VARIANTS:
        kwargs = {"out_norms": True, **kwargs}
    elif name.startswith("swin"):
        kwargs = {"strict_img_size": False, **kwargs}
    try:
        with torch.device("meta"):
            probe: Any = timm.create_model(name, features_only=True, **kwargs)
            strides = probe.feature_info.reduction()
    except (RuntimeError, TypeError, ValueError) as error:
        raise AtmvizError(
            f"cannot build {name} ({summarize(error)}): expected a variant (`atmviz models`) or a timm backbone"
        ) from None
    if strides[-4:] != [4, 8, 16, 32]:
        raise AtmvizError(f"got {name}, whose maps have strides {strides}, expected a backbone with 4, 8, 16, 32")
    stages = len(strides)
    body = timm.create_model(
        name,
        features_only=True,
        feature_cls="getter",  # maps in [B, C, H, W] whatever the network's own layout
        out_indices=tuple(range(stages - 6 + first_level, stages)),
        drop_path_rate=drop_path_rate,
        **kwargs,
    )
    return NormedBody(body) if name.startswith("swin") else body


def map_dims(body: nn.Module) -> list[int]:
    """Channels of a backbone's maps."""
    return body.feature_info.channels()  # type: ignore[union-attr, operator]


class NormedBody(nn.Module):
    """Swin as mmdetection has it: a LayerNorm on each of its maps, images padded to whole patches."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.feature_info = body.feature_info
        self.norms = nn.ModuleList(LayerNorm2d(dim) for dim in map_dims(body))

    @property
    def model(self) -> nn.Module:
        """The network itself, where timm's own wrappers of feature maps have it."""
        return self.body.model  # type: ignore[return-value]

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % _SWIN_PATCH, 0, -height % _SWIN_PATCH))
        return [norm(x) for norm, x in zip(self.norms, self.body(padded), strict=True)]


def init_xavier(module: nn.Module) -> None:
    """Convolutions and linear layers: Xavier uniform, biases 0. Source: mmdetection's FPN and layers of box heads."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class FPN(FeaturePyramidNetwork):
    """torchvision's, drawn as mmdetection's."""

    def __init__(self, in_channels_list: list[int], out_channels: int, extra_blocks: ExtraFPNBlock | None) -> None:
        super().__init__(in_channels_list, out_channels, extra_blocks)
        init_xavier(self)


class Pyramid(nn.Module):
    """Backbone and neck: images [B, 3, H, W] to maps of `dim` channels by name, "p2" (or "p3") first.

    Attributes:
        out_channels: `dim`; torchvision's detectors ask for it.
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
        dims = map_dims(body)
        self.neck = ATMFPN(dims, dim, extra, first_level) if neck == "atmfpn" else FPN(dims, dim, extra)
        self.names = [f"p{level}" for level in range(first_level, 6)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.neck(OrderedDict(zip(self.names, self.body(images), strict=True)))
