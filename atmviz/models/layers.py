"""Layers shared by ATMNet and ATMFpn, their initialization, and the switch between fused and plain layers.

Legend: B batch, H/W grid in tokens, C channels.
"""

import math

import torch
from timm.layers import Mlp, trunc_normal_
from torch import Tensor, nn

from atmviz.models.norm import LayerNorm
from atmviz.models.token_mixer import ActiveTokenMixer, OffsetLayer
from atmviz.ops import channel_mlp


class PositionalEncodingGenerator(nn.Module):
    """PEG: a depthwise 3x3 convolution plus identity, [B, H, W, C] -> [B, H, W, C].

    Source: Sec. 3.3. One per stage; applied, with the same weights, before each block that generates offsets.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # NHWC -> NCHW -> NHWC


class ChannelMLP(Mlp):
    """The channel MLP of Eq. (6): fc2(GELU(fc1(x))), [B, H, W, C] -> [B, H, W, C].

    Attributes:
        fused: Compute it with `atmviz.ops.channel_mlp`, which keeps half as much for the backward pass; False for
            PyTorch's operators. With `weighted_sum`, batches of 8 gain 15 to 22 % in inference (docs/operator.md).
    """

    fused = True

    def forward(self, x: Tensor) -> Tensor:
        linear = type(self.fc1) is type(self.fc2) is nn.Linear  # adapters and quantizers put other layers there
        if self.fused and linear and x.device.type in ("cpu", "cuda") and not torch.compiler.is_exporting():
            return channel_mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)  # type: ignore[arg-type]
        return super().forward(x)


def set_fused(network: nn.Module, fused: bool) -> None:
    """Choose how channel MLPs, norms and weighted sums of branches are computed: fused (the default) or by PyTorch."""
    for module in network.modules():
        if isinstance(module, ChannelMLP | ActiveTokenMixer | LayerNorm):
            module.fused = fused


def init_weights(module: nn.Module) -> None:
    """Initialize one layer: linear ones truncated normal 0.02, convolutions normal with std sqrt(2 / fan_out).

    Source: released code.
    """
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # meta tensors have no values, and drawing for them is slow
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def spread_offsets(network: nn.Module, std: float) -> None:
    """Scale random offset layers so that their offsets have this standard deviation, in tokens."""
    for module in network.modules():
        if isinstance(module, OffsetLayer):
            # After LayerNorm each input has unit variance, so the output's is C times the weights'
            weight = module.linear.weight.data
            weight *= std / (weight.std() * weight.shape[1] ** 0.5)


def init_fan_in(network: nn.Module) -> None:
    """Redraw the weights of linear layers with std 1 / sqrt(fan_in), except in offset layers.

    The released std of 0.02 suits widths of 300 and more; below 100 channels it makes signals vanish.
    """
    kept = {layer.linear for layer in network.modules() if isinstance(layer, OffsetLayer)}
    for module in network.modules():
        if isinstance(module, nn.Linear) and module not in kept and not module.weight.is_meta:
            trunc_normal_(module.weight, std=module.in_features**-0.5)
