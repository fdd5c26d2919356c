"""Parameters and FLOPs, counted on the meta device in the convention of the paper's tables.

The paper's FLOPs are those of fvcore's `flop_count`, with sampling counted as its 1x1 convolution:
multiply-accumulates of convolutions and matrix products, 5 per element of a LayerNorm or GroupNorm, 2 per element of a
BatchNorm, 4 and 1 per output element of bilinear and nearest upsampling, 1 per input element of adaptive average
pooling. Activations, softmax, means and sampling itself cost nothing.
"""

import copy
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from atmviz.architecture import Architecture
from atmviz.dense import create_network
from atmviz.dense.pyramid import building
from atmviz.paper import PaperRow, table_rows
from atmviz.variants import VARIANTS

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
    _ATEN._unsafe_index: _per_output(2 * 1),  # torch 2.11 runs nearest upsampling as this on the meta device
    _ATEN._adaptive_avg_pool2d: _per_input(2 * 1),
}


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Count the operations of one forward pass, in the paper's convention.

    Args:
        model: A model on any device; only a copy on the meta device runs, so nothing is computed. A detector runs
            every layer once, on 1000 boxes and 100 masks, without suppressing boxes.
        size: Input height and width in px.
    """
    meta = copy.deepcopy(model).to("meta").eval()
    for module in meta.modules():
        if hasattr(module, "fused_attn"):  # timm's attention: fused matrix products cannot be counted
            module.fused_attn = False  # type: ignore[assignment]
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), counter:
        getattr(meta, "forward_dummy", meta)(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() // 2


def create_meta(architecture: Architecture | str, **config: Any) -> nn.Module:
    """Build a network by name on the meta device, with shapes but no values; takes a second for the largest.

    Raises:
        AtmvizError: the network is unknown, or does not take an argument.
    """
    with torch.device("meta"), building(architecture):
        return create_network(architecture, **config)


def count_model(architecture: Architecture, size: tuple[int, int], **config: Any) -> dict[str, Any]:
    """Count one network.

    Args:
        architecture: Backbone, head and neck.
        size: Input height and width, px.
        config: Constructor arguments that differ from the defaults.

    Returns:
        A row with model, the arguments, size, params and flops (single parameters and operations).

    Raises:
        AtmvizError: see `create_meta`.
    """
    network = create_meta(architecture, **config)
    counts = {"params": count_parameters(network), "flops": count_flops(network, size)}
    return {"model": str(architecture), **config, "size": list(size), **counts}


def count_variants() -> list[dict[str, Any]]:
    """Count all variants at 224 x 224 px.

    Returns:
        Rows with model, depths, dims, params, flops, and the row of Table 1 in "paper" (None for `atmnet_nano`).
    """
    printed = {row.architecture: row for row in table_rows(1) if row.size == (224, 224)}
    rows = []
    for name, variant in VARIANTS.items():
        counted, row = count_model(Architecture(name), (224, 224)), printed.get(name)
        del counted["size"]
        sizes = {"depths": list(variant.depths), "dims": list(variant.dims)}
        rows.append({"model": name, **sizes, **counted, "paper": row and _printed(row)})
    return rows


def _printed(row: PaperRow) -> dict[str, Any]:
    cells = {"params_m": row.params_m, "flops_g": row.flops_g, "top1": row.accuracies["top1"]}
    return {"label": row.label.removeprefix("ATMNet-"), **{name: float(text) for name, text in cells.items() if text}}


def count_table(table: int) -> list[dict[str, Any]]:
    """Count the networks of one of the paper's Tables 1 to 8.

    Returns:
        The printed rows in order. Columns: table, row (its label), model, size, params, flops, the printed cells as
        paper_params_m, paper_flops_g and paper_<accuracy>, params_match and flops_match (whether the rounded count is
        the printed one), remark. Counts and matches are None for networks that atmviz does not build.
    """
    return [_count_row(row) for row in table_rows(table)]


def _count_row(row: PaperRow) -> dict[str, Any]:
    counted: dict[str, Any] = {"params": None, "flops": None}
    if row.architecture:
        counted = count_model(Architecture.parse(row.architecture), row.size, **row.config)
    return {
        "table": row.table,
        "row": row.label,
        "model": row.architecture,
        "size": list(row.size),
        "params": counted["params"],
        "paper_params_m": row.params_m,
        "params_match": _rounds_to(counted["params"], 1e6, row.params_m),
        "flops": counted["flops"],
        "paper_flops_g": row.flops_g,
        "flops_match": _rounds_to(counted["flops"], 1e9, row.flops_g),
        **{f"paper_{name}": value for name, value in row.accuracies.items()},
        "remark": row.remark,
    }


def _rounds_to(count: int | None, unit: float, printed: str | None) -> bool | None:
    if count is None or printed is None:
        return None
    decimals = len(printed.partition(".")[2])
    return f"{count / unit:.{decimals}f}" == printed
