"""Compiling networks: the compiler's options, and block by block for a GPU."""

from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from atmviz.models.atmnet import ATMBlock

# For `torch.compile(network, options=COMPILE_OPTIONS)`. Inductor's layout pass mistakes token maps [B, H, W, C] for
# [B, C, H, W] and reorders them in memory, which makes networks 10 % slower. CUDA graphs are an option too:
# {**COMPILE_OPTIONS, "triton.cudagraphs": True}.
COMPILE_OPTIONS: dict[str, Any] = {"layout_optimization": False}
_SETTINGS: dict[str, Any] = {"options": COMPILE_OPTIONS}
_GRAPHS = 64  # that all blocks may have together: 8 kinds, in training and in inference, for several sizes


class _TensorDropPath(nn.Module):
    """Stochastic depth whose rate is a tensor: for each number, the compiler would compile a block anew."""

    keep: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.register_buffer("keep", torch.tensor(1 - rate), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(len(x), *(1,) * (x.dim() - 1), device=x.device) < self.keep
        return x * (kept / self.keep).to(x.dtype)


def compile_blocks(network: nn.Module) -> None:
    """Compile each ATM block of a network in place; blocks of one kind share what is compiled for the first.

    There are two kinds of blocks a stage, with and without an offset layer: ATMNet-L has 34 blocks of 8 kinds. What is
    between blocks runs as it is.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _GRAPHS)
    for block in network.modules():
        if isinstance(block, ATMBlock):
            if isinstance(block.drop_path, DropPath):
                block.drop_path = _TensorDropPath(block.drop_path.drop_prob)  # type: ignore[assignment]
            block.compile(**_SETTINGS)
