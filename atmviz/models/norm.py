"""LayerNorm as ATM blocks use it."""

import torch
from timm.layers import fast_layer_norm
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """LayerNorm that keeps half precision under CUDA's autocast; statistics are computed in float32.

    PyTorch's would copy its input to float32, keep that copy for the backward pass and return float32.

    Attributes:
        fused: False for PyTorch's.
    """

    fused = True

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and x.is_cuda and torch.is_autocast_enabled("cuda"):
            return fast_layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)  # type: ignore[arg-type]
        return super().forward(x)
