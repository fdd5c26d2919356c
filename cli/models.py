"""`atmviz models`: the variants beside the paper's Table 1."""

from typing import Any

from rich.table import Table

from . import options
from .console import print_json, print_table, waiting


def models(as_json: options.JsonOption = False) -> None:
    """List the variants with their parameters and FLOPs, counted now, beside the paper's."""
    with waiting("counting"):
        from atmviz.complexity import count_variants

        rows = count_variants()
    if as_json:
        print_json(rows)
    else:
        _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="ATMNet variants at 224×224 px")
    for heading in ("model", "depths"):
        table.add_column(heading, no_wrap=True)
    for heading in ("#P (M)", "paper", "FLOPs (G)", "paper", "top-1 (%)"):
        table.add_column(heading, justify="right")
    for row in rows:
        paper = row["paper"] or {}
        table.add_row(
            row["model"],
            "-".join(map(str, row["depths"])),
            f"{row['params'] / 1e6:.3f}",
            f"{paper['params_m']:.0f}" if paper else "–",
            f"{row['flops'] / 1e9:.3f}",
            f"{paper['flops_g']:.1f}" if paper else "–",
            f"{paper['top1']:.1f}" if paper else "–",
        )
    table.caption = "FLOPs in the paper's convention (see atmviz.complexity); top-1 is the paper's, not measured here."
    print_table(table)
