"""`atmviz models`: the variants beside the paper's Table 1."""

from typing import Any

from rich.table import Table

from atmviz.paper import PAPER_ROWS, PaperRow

from . import options
from .console import print_json, print_table, waiting


def models(as_json: options.JsonOption = False) -> None:
    """List the variants with their parameters and FLOPs, counted now, beside the paper's."""
    printed = {row.architecture: row for row in PAPER_ROWS if row.table == 1 and row.size == (224, 224)}
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
                    "paper": _paper(printed[name]) if name in printed else None,
                }
            )
    if as_json:
        print_json(rows)
        return
    table = Table(title="ATMNet variants at 224×224 px")
    for heading in ("model", "depths"):
        table.add_column(heading, no_wrap=True)
    for heading in ("#P (M)", "paper", "FLOPs (G)", "paper", "top-1 (%)"):
        table.add_column(heading, justify="right")
    for counted in rows:
        paper = printed.get(counted["model"])
        table.add_row(
            counted["model"],
            "-".join(map(str, counted["depths"])),
            f"{counted['params'] / 1e6:.3f}",
            paper.params_m if paper else "–",
            f"{counted['flops'] / 1e9:.3f}",
            paper.flops_g if paper else "–",
            paper.accuracies["top1"] if paper else "–",
        )
    table.caption = "FLOPs in the paper's convention (see atmviz.complexity); top-1 is the paper's, not measured here."
    print_table(table)


def _paper(row: PaperRow) -> dict[str, Any]:
    printed = {"params_m": row.params_m, "flops_g": row.flops_g, "top1": row.accuracies["top1"]}
    return {"label": row.label.removeprefix("ATMNet-"), **{name: float(text) for name, text in printed.items() if text}}
