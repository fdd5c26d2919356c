"""`atmviz models`: the variants beside the paper's Table 1."""

from . import options
from .console import print_json, print_rows, waiting


def models(as_json: options.JsonOption = False) -> None:
    """List the variants with their parameters and FLOPs, beside the numbers of the paper."""
    with waiting("counting"):
        from atmviz.complexity import count_variants

        rows = count_variants()
    if as_json:
        print_json(rows)
        return
    cells = []
    for row in rows:
        paper = row["paper"]
        params, flops, top1 = (f"{paper['params_m']:.0f}", paper["flops_g"], paper["top1"]) if paper else [None] * 3
        counted = f"{row['params'] / 1e6:.3f}", f"{row['flops'] / 1e9:.3f}"
        cells.append((row["model"], "-".join(map(str, row["depths"])), counted[0], params, counted[1], flops, top1))
    print_rows(
        "ATMNet variants at 224×224 px",
        ("model", "depths", "#P (M)", "paper", "FLOPs (G)", "paper", "top-1 (%)"),
        cells,
        "FLOPs in the paper's convention (see atmviz.complexity); top-1 is the paper's, not measured here.",
        texts=2,
    )
