"""`atmviz complexity`: parameters and FLOPs, beside the paper's."""

import csv
import io
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from atmviz.paper import CAPTIONS, INPUT_SIZES, PAPER_ROWS
from atmviz.variants import Architecture, Framework, Neck

from . import options
from .console import print_json, print_table, waiting

_MARKS = {True: "✓", False: "✗", None: ""}


class TableFormat(StrEnum):
    MD = "md"
    CSV = "csv"


def complexity(
    table: Annotated[
        list[int] | None, typer.Option("--table", "-t", min=1, max=8, help="A table of the paper; may be repeated.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Count this instead: atmnet_tiny, semantic_fpn(atmnet_tiny, atmfpn)."),
    ] = None,
    framework: Annotated[Framework | None, typer.Option("--framework", help="What stands on --model.")] = None,
    neck: Annotated[Neck | None, typer.Option("--neck", help="Between the two.")] = None,
    size: options.Size = None,
    form: Annotated[TableFormat | None, typer.Option("--format", help="Markdown or CSV instead of a table.")] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Count parameters and FLOPs in the paper's convention, beside what its tables print; nothing is run.

    Without options: Table 1.
    """
    if table and model:
        raise typer.BadParameter("got --table and --model, expected one of them")
    if not model and (framework or neck or size):
        raise typer.BadParameter("got --framework, --neck or --size without --model: name the backbone with --model")
    rows = _count_model(_architecture(model, framework, neck), size) if model else _count_tables(table or [1])
    if as_json:
        print_json(rows)
    elif form:
        typer.echo(_as_text(rows, form), nl=False)
    else:
        _show(rows)


def _architecture(model: str, framework: Framework | None, neck: Neck | None) -> Architecture:
    architecture = Architecture.parse(model)
    if framework and architecture.framework:
        raise typer.BadParameter(f"got --framework {framework} and {model}, expected one of them")
    framework = framework or architecture.framework
    if neck and not framework:
        raise typer.BadParameter("got --neck without a framework, expected --framework too")
    return Architecture(architecture.backbone, framework, neck or architecture.neck)


def _count_model(architecture: Architecture, size: str | None) -> list[dict[str, Any]]:
    wanted = options.parse_size(size) if size else INPUT_SIZES[architecture.framework]
    with waiting(f"counting {architecture}"):
        from atmviz.complexity import count_flops, count_parameters, create_meta

        network = create_meta(architecture)
        counted = {"params": count_parameters(network), "flops": count_flops(network, wanted)}
    return [{"model": str(architecture), "size": list(wanted), **counted}]


def _count_tables(tables: list[int]) -> list[dict[str, Any]]:
    with waiting("counting"):
        from atmviz.complexity import count_row

        counted = [count_row(row) for table in sorted({*tables}) for row in PAPER_ROWS if row.table == table]
    return [
        {
            "table": one.row.table,
            "row": one.row.label,
            "model": one.row.architecture,
            "size": list(one.row.size),
            "params": one.params,
            "paper_params_m": one.row.params_m,
            "params_match": one.params_match,
            "flops": one.flops,
            "paper_flops_g": one.row.flops_g,
            "flops_match": one.flops_match,
            "remark": one.row.remark,
        }
        for one in counted
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    """What people read of a row, under `_headings`."""
    counted = [f"{row['params'] / 1e6:.3f}", f"{row['flops'] / 1e9:.3f}"]
    if "table" not in row:
        return [row["model"], "×".join(map(str, row["size"])), *counted]
    printed = [
        f"{row[name]} {_MARKS[row[match]]}" if row[name] else "–"
        for name, match in (("paper_params_m", "params_match"), ("paper_flops_g", "flops_match"))
    ]
    return [row["row"], counted[0], printed[0], counted[1], printed[1]]


def _headings(row: dict[str, Any]) -> list[str]:
    first = ["model", "size"] if "table" not in row else [""]
    paper = ["paper"] if "table" in row else []
    return [*first, "#P (M)", *paper, "FLOPs (G)", *paper]


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """How many cells of a table are met, and why the others are not."""
    matches = [row[name] for row in rows for name in ("params_match", "flops_match") if row[name] is not None]
    remarks = [f"{row['row']}: {row['remark']}" for row in rows if row["remark"]]
    return [f"{sum(matches)} of {len(matches)} cells as printed", *remarks]


def _by_table(rows: list[dict[str, Any]]) -> dict[int | None, list[dict[str, Any]]]:
    return {
        number: [row for row in rows if row.get("table") == number] for number in [row.get("table") for row in rows]
    }


def _as_text(rows: list[dict[str, Any]], form: TableFormat) -> str:
    if form == TableFormat.CSV:
        target = io.StringIO()
        writer = csv.DictWriter(target, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "size": "x".join(map(str, row["size"]))} for row in rows)
        return target.getvalue()
    blocks = []
    for number, chosen in _by_table(rows).items():
        head = _headings(chosen[0])
        lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *map(_cells, chosen))]
        if number:
            lines = [f"Table {number}: {CAPTIONS[number]}", "", *lines, "", "; ".join(_notes(chosen))]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _show(rows: list[dict[str, Any]]) -> None:
    for number, chosen in _by_table(rows).items():
        shown = Table(title=f"Table {number}: {CAPTIONS[number]}" if number else None, title_justify="left")
        for position, name in enumerate(_headings(chosen[0])):
            shown.add_column(name, justify="right" if position and name != "size" else "left")
        for row in chosen:
            shown.add_row(*_cells(row))
        notes = _notes(chosen) if number else ["FLOPs in the convention of the paper's tables (see atmviz.complexity)"]
        shown.caption, shown.caption_justify = "\n".join(notes), "left"
        print_table(shown)
