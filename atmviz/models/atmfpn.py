"""ATMFpn: a feature pyramid network whose convolutions are ATM units (Sec. 3.3, Table 7).

The paper does not give the construction. This one is fitted to the FLOPs of Table 7, of which it meets seven of eight
cells: each convolution of the FPN, 1x1 and 3x3, becomes the token-mixing half of an ATM block that generates offsets,
with one offset per channel and no channel MLP. FLOPs reveal neither skip connections (there are none here) nor the
initialization.

Legend: B batch, H/W grid in tokens, C channels in, P channels out.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from atmviz.layers import LayerId
from atmviz.models.atmnet import site_of
from atmviz.models.layers import PositionalEncodingGenerator, init_fan_in, init_weights
from atmviz.models.norm import LayerNorm
from atmviz.models.token_mixer import ActiveTokenMixer, OffsetLayer
from atmviz.observe.site import Site


class ATMUnit(nn.Module):
    """Replaces one convolution, [B, C, H, W] -> [B, P, H, W]: PEG, offsets, LayerNorm, Active Token Mixer.

    Args:
        dim, out_dim: Channels C and P.
        layer: Label of the unit as an ATM layer.
    """

    def __init__(self, dim: int, out_dim: int, layer: LayerId) -> None:
        super().__init__()
        self.layer = layer
        self.peg = PositionalEncodingGenerator(dim)
        self.offset = OffsetLayer(dim, num_offsets=dim)
        self.norm = LayerNorm(dim)
        self.token_mixer = ActiveTokenMixer(dim, out_dim=out_dim)
        self.apply(init_weights)
        init_fan_in(self)  # like the convolutions of an FPN, because no norm follows

    def forward(self, x: Tensor) -> Tensor:
        x = self.peg(x.permute(0, 2, 3, 1))  # NCHW -> NHWC
        x = self.token_mixer(self.norm(x), self.offset(x))
        return x.permute(0, 3, 1, 2)  # NHWC -> NCHW

    def atm_layers(self) -> list[Site]:
        """Return all ATM layers of the unit: itself."""
        num_offsets = self.norm.normalized_shape[0]
        return [site_of(self.token_mixer, "token_mixer", self.layer, self.layer, num_offsets)]


class ATMFPN(FeaturePyramidNetwork):
    """A neck with the interface of torchvision's `FeaturePyramidNetwork`: maps by name, finest first.

    Args:
        in_channels_list: Channels of the maps, one per level.
        out_channels: Channels of every pyramid level, P.
        extra_blocks: Adds coarser levels.
        first_level: Level of the first map, whose stride is 2**first_level; layers are named `fpn_c2`, `fpn_p2`, ...

    Source: Sec. 3.3, Sec. 4.4, Table 7; the construction is fitted, see the top of this file.
    """

    def __init__(
        self,
        in_channels_list: Sequence[int],
        out_channels: int,
        extra_blocks: ExtraFPNBlock | None = None,
        first_level: int = 2,
    ) -> None:
        super().__init__(list(in_channels_list), out_channels, extra_blocks)
        levels = list(enumerate(in_channels_list, start=first_level - 1))
        self.inner_blocks = nn.ModuleList(ATMUnit(C, out_channels, LayerId(i, 0, "fpn_c")) for i, C in levels)
        self.layer_blocks = nn.ModuleList(
            ATMUnit(out_channels, out_channels, LayerId(i, 0, "fpn_p")) for i, _ in levels
        )
