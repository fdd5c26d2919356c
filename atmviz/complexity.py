"""Parameters and FLOPs, counted on the meta device in the convention of the paper's tables.

The paper's FLOPs are those of fvcore's `flop_count` with the sampling operator counted as its 1x1 convolution:
multiply-accumulates of convolutions and matrix products, 5 per element of a LayerNorm or GroupNorm, 2 per element of a
BatchNorm, 4 and 1 per output element of bilinear and nearest upsampling, 1 per input element of adaptive average
pooling; activations, softmax, means and sampling itself are free.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from atmviz.architecture import Architecture
from atmviz.dense import create_dense
from atmviz.errors import AtmvizError, summarize
from atmviz.paper import PaperRow

_ATEN = torch.ops.aten


def _per_input(cost: int) -> Callable[..., int]:
    return lambda input_shape, *args, out_shape=None, **kwargs: cost * prod(input_shape)


def _per_output(cost: int) -> Callable[..., int]:
    return lambda *args, out_shape=None, **kwargs: cost * prod(out_shape)


# FlopCounterMode counts two operations per multiply-accumulate; these are doubled to match and halved at the end.
_FORMULAS: dict[Any, Callable[..., int]] = {
    _ATEN.native_layer_norm: _per_input(2 * 5),
    _ATEN.native_group_norm: _per_input(2 * 5),
    _ATEN.native_batch_norm: _per_input(2 * 2),
    _ATEN._native_batch_norm_legit_no_training: _per_input(2 * 2),
    _ATEN.upsample_bilinear2d: _per_output(2 * 4),
    _ATEN.upsample_nearest2d: _per_output(2 * 1),
    _ATEN._unsafe_index: _per_output(2 * 1),  # what torch 2.11 makes of nearest upsampling on the meta device
    _ATEN._adaptive_avg_pool2d: _per_input(2 * 1),
}


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, size: tuple[int, int], in_chans: int = 3) -> int:
    """Operations of one forward pass, in the paper's convention.

    Args:
        model: A model on any device; its copy on the meta device is what runs, so nothing is computed. A detector
            runs every layer once, on 1000 boxes and 100 masks, and no suppression.
        size: Input height and width in px.
        in_chans: Input channels.
    """
    meta = copy.deepcopy(model).to("meta").eval()
    for module in meta.modules():
        if hasattr(module, "fused_attn"):  # timm's attention: its matrix products are seen when they are not fused
            module.fused_attn = False  # type: ignore[assignment]
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), counter:
        getattr(meta, "forward_dummy", meta)(torch.empty(1, in_chans, *size, device="meta"))
    return counter.get_total_flops() // 2


def create_meta(architecture: Architecture | str, **config: Any) -> nn.Module:
    """The network of a name on the meta device: shapes without values, in a second for the largest.

    Raises:
        AtmvizError: no such network, or an argument it does not take.
    """
    if isinstance(architecture, str):
        architecture = Architecture.parse(architecture)
    try:
        with torch.device("meta"):
            if architecture.head:
                return create_dense(architecture, **config)
            return timm.create_model(architecture.backbone, **config)
    except (RuntimeError, TypeError, ValueError) as error:
        raise AtmvizError(
            f"cannot build {architecture} ({summarize(error)}): expected a variant (`atmviz models`) or a timm model"
        ) from None


@dataclass(frozen=True)
class CountedRow:
    """A row of the paper and what was counted for it, in single parameters and operations; None for a rival."""

    row: PaperRow
    params: int | None
    flops: int | None

    @property
    def params_match(self) -> bool | None:
        """Whether the count, rounded, is what is printed; None without one of the two."""
        return _rounds_to(self.params, 1e6, self.row.params_m)

    @property
    def flops_match(self) -> bool | None:
        """As `params_match`."""
        return _rounds_to(self.flops, 1e9, self.row.flops_g)


def count_row(row: PaperRow) -> CountedRow:
    """Count what a row of the paper's tables counts; a rival's network is not built."""
    if row.architecture is None:
        return CountedRow(row, None, None)
    network = create_meta(row.architecture, **row.config)
    return CountedRow(row, count_parameters(network), count_flops(network, row.size))


def _rounds_to(count: int | None, unit: float, printed: str | None) -> bool | None:
    if count is None or printed is None:
        return None
    return f"{count / unit:.{len(printed.partition('.')[2])}f}" == printed
