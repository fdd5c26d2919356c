"""`atmviz complexity`: parameters and FLOPs beside the paper's, and the accuracies its tables print."""

from collections.abc import Container
from itertools import groupby
from typing import Annotated, Any, Literal

import typer

from atmviz.architecture import NETWORK_OPTIONS, Architecture, Head, require_named
from atmviz.paper import CAPTIONS, INPUT_SIZES, split_metric
from atmviz.training.recipe import Recipe

from . import completion, options
from .console import METRIC_LABELS, print_json, print_rows, waiting

_MARKS = {True: " ✓", False: " ✗", None: ""}
_COUNTED = (("#P (M)", "params", 1e6, "paper_params_m"), ("FLOPs (G)", "flops", 1e9, "paper_flops_g"))
# Accuracies shown on the terminal, which fit on 80 columns; Markdown, CSV and JSON have all
_SHOWN = [f"paper_{name}" for name in ("top1", "miou", "miou_ms")] + [
    f"paper_{what}_ap_{schedule}" for schedule in ("1x", "3x") for what in ("box", "mask")
]


@options.with_settings(Recipe, only=("head", "neck", *NETWORK_OPTIONS), overriding=True)
def complexity(
    table: Annotated[
        list[int] | None,
        typer.Option("--table", "-t", min=1, max=8, help="Number of a table; repeatable; by default 1."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            *("--model", "-m"),
            help="Another network: atmnet_tiny, or semantic_fpn(atmnet_tiny, atmfpn).",
            autocompletion=completion.models,
        ),
    ] = None,
    size: Annotated[str | None, options.size_option("; by default the paper's")] = None,
    form: Annotated[
        Literal["md", "csv"] | None,
        typer.Option("--format", help="Print Markdown or CSV, with all columns; by default a table."),
    ] = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Count parameters and FLOPs of the networks in the paper's tables, beside the printed numbers.

    Without options, counts Table 1. FLOPs follow the paper's convention. Nothing is run. Options under "Dense
    prediction" and "Model" describe the network of --model. By default it is a classifier with decoupled offsets, one
    sample, fusion per image and PEG, at the input size of the paper.
    """
    config = options.given(settings)
    if table and model:
        raise typer.BadParameter("got --table and --model, expected one of them")
    if not model and (size or config):
        raise typer.BadParameter("got an option that describes --model without it: name the backbone with --model")
    if model:
        architecture = _architecture(model, config.pop("head", None), config.pop("neck", None))
        pixels = options.parse_size(size) if size else INPUT_SIZES[architecture.head]
    with waiting("counting"):
        from atmviz.complexity import count_model, count_table

        if model:
            rows = [count_model(architecture, pixels, **config)]
        else:
            rows = [row for number in sorted({*(table or [1])}) for row in count_table(number)]
    if as_json:
        print_json(rows)
    elif form == "csv":
        from pandas import DataFrame  # tables differ in their accuracies, which pandas aligns

        flat = [{**row, "size": "x".join(map(str, row["size"]))} for row in rows]
        typer.echo(DataFrame(flat, dtype=object).to_csv(index=False), nl=False)
    else:
        _print_tables(rows, markdown=form == "md")


def _architecture(model: str, head: Head | None, neck: Any) -> Architecture:
    architecture = require_named(model)
    if head and architecture.head:
        raise typer.BadParameter(f"got --head {head} and {model}, expected one of them")
    head = head or architecture.head
    if neck and not head:
        raise typer.BadParameter("got --neck without a head, expected --head too")
    return Architecture(architecture.backbone, head, neck or architecture.neck)


def _columns(rows: list[dict[str, Any]], shown: Container[str] | None = None) -> list[tuple[str, list[str]]]:
    """Return headings and cells of the rows of one table, or of one model.

    Args:
        rows: All rows of one table.
        shown: Accuracies to include; None for all.
    """
    first = rows[0]
    if "table" in first:
        columns = [("", [row["row"] for row in rows])]
    else:
        names = ("model", *(name for name in NETWORK_OPTIONS if name in first))
        columns = [(name, [str(row[name]) for row in rows]) for name in names]
        columns.append(("size", ["×".join(map(str, row["size"])) for row in rows]))
    for heading, name, unit, printed in _COUNTED:
        columns.append((heading, ["–" if row[name] is None else f"{row[name] / unit:.3f}" for row in rows]))
        if any(row.get(printed) for row in rows):
            marked = [f"{row[printed]}{_MARKS[row[f'{name}_match']]}" if row[printed] else "–" for row in rows]
            columns.append(("paper", marked))
    for name in first:
        metric, setting = split_metric(name.removeprefix("paper_"))
        if metric in METRIC_LABELS and (shown is None or name in shown):
            columns.append((f"{METRIC_LABELS[metric]} {setting}".strip(), [row[name] or "–" for row in rows]))
    return columns


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """Say how many cells of a table are met, why the others are not, and which are only printed."""
    matches = [row[name] for row in rows for name in ("params_match", "flops_match") if row[name] is not None]
    notes = [f"{sum(matches)} of {len(matches)} cells as printed"]
    if rivals := sum(row["model"] is None for row in rows):
        notes.append(f"{rivals} other networks, as the paper prints them, not counted here")
    remarks = [f"{row['row']}: {row['remark']}" for row in rows if row["remark"]]
    return [*notes, "accuracies are the paper's, in %", *remarks]


def _print_tables(rows: list[dict[str, Any]], markdown: bool) -> None:
    blocks = []
    for number, group in groupby(rows, lambda row: row.get("table")):
        chosen = list(group)
        title = f"Table {number}: {CAPTIONS[number]}" if number else None
        notes = _notes(chosen) if number else ["FLOPs in the convention of the paper's tables (see atmviz.complexity)"]
        headings, columns = zip(*_columns(chosen, None if markdown else _SHOWN), strict=True)
        cells = zip(*columns, strict=True)
        if markdown:
            lines = [f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *cells)]
            blocks.append("\n".join([title, "", *lines, "", "; ".join(notes)] if title else lines))
        else:  # nine columns on 80
            print_rows(title, [name.replace(" ", "\n") for name in headings], cells, "\n".join(notes))
    if blocks:
        typer.echo("\n\n".join(blocks))
