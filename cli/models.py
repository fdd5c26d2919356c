"""`atmviz models`: the variants beside the paper's Table 1."""

from typing import Any

from rich.table import Table

from . import options
from .console import print_json, print_table, waiting


def models(as_json: options.JsonOption = False) -> None:
    """List the variants with their parameters and FLOPs, counted now, beside the paper's."""
    with waiting("counting"):
        import torch

        from atmviz.complexity import count_flops, count_parameters
        from atmviz.models import create_model
        from atmviz.variants import VARIANTS

        rows: list[dict[str, Any]] = []
        for name, variant in VARIANTS.items():
            with torch.device("meta"):
                network = create_model(name)
            rows.append(
                {
                    "model": name,
                    "depths": list(variant.depths),
                    "dims": list(variant.dims),
                    "params": count_parameters(network),
                    "flops": count_flops(network, (224, 224)),
                    "paper": None if variant.paper is None else vars(variant.paper),
                }
            )
    if as_json:
        print_json(rows)
        return
    table = Table(title="ATMNet variants at 224×224 px", title_justify="left")
    for heading in ("model", "depths"):
        table.add_column(heading, no_wrap=True)
    for heading in ("#P (M)", "paper", "FLOPs (G)", "paper", "top-1 (%)"):
        table.add_column(heading, justify="right")
    for name, counted, variant in zip(VARIANTS, rows, VARIANTS.values(), strict=True):
        paper = variant.paper
        printed = (f"{paper.params_m:g}", f"{paper.flops_g:.1f}", f"{paper.top1:.1f}") if paper else ("–", "–", "–")
        table.add_row(
            name,
            "-".join(map(str, variant.depths)),
            f"{counted['params'] / 1e6:.3f}",
            printed[0],
            f"{counted['flops'] / 1e9:.3f}",
            printed[1],
            printed[2],
        )
    table.caption = "FLOPs in the paper's convention (see atmviz.complexity); top-1 is the paper's, not measured here."
    table.caption_justify = "left"
    print_table(table)
