"""`atmviz benchmark`: how fast atmviz is beside the released arrangement, on this machine."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from atmviz.variants import VARIANTS

from . import options
from .console import print_json, print_table, stdout, waiting

if TYPE_CHECKING:
    from atmviz.benchmark import Row


class What(StrEnum):
    OP = "op"
    MODEL = "model"
    RECORD = "record"


class Precision(StrEnum):
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def benchmark(
    what: Annotated[
        What, typer.Argument(help="op: one branch on each stage's maps. model: a whole network. record: recording.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Whose maps, or which network.")] = "atmnet_xtiny",
    size: options.Size = None,
    batch_size: options.BatchSize = 8,
    precision: Annotated[Precision, typer.Option("--dtype", help="Of features and offsets; a network autocasts.")] = (
        Precision.FLOAT32
    ),
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Timings of each version; the median counts.")] = 15,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, max=50_000, help="JPEG files to record; of `record`: 256, fewer measure less."),
    ] = None,
    device: options.Device = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Time atmviz beside the released arrangement, in turns, on the same tensors; the results must agree.

    The released code samples with torchvision's deform_conv2d. Compare ratios, which hold where the machine's speed
    drifts: "times as fast" is the median over the rounds of the first version's time by this one's, of the same round;
    of `record`, the first is plain inference. Compiling a network takes minutes, for inference and for training.
    """
    if model not in VARIANTS:
        raise typer.BadParameter(f"got --model {model}, expected one of {', '.join(VARIANTS)}")
    if what == What.RECORD and precision != Precision.FLOAT32:
        raise typer.BadParameter(f"got --dtype {precision}, expected float32: a recording has no other")
    if images and what != What.RECORD:
        raise typer.BadParameter(f"got --images for {what}, expected it for record alone: leave it out")
    # It misses a CUDA runtime wherever a compiler for one is installed.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with waiting("loading"):
        import torch

        from atmviz.benchmark import benchmark_model, benchmark_operator, benchmark_record, describe_machine
        from atmviz.devices import pick_device

        place = pick_device(device)
    wanted = options.parse_size(size) if size else (224, 224)
    machine = describe_machine(place)
    if what == What.RECORD:
        rows = benchmark_record(model, wanted, batch_size, place, rounds, images or 256)
    else:
        timed = benchmark_operator if what == What.OP else benchmark_model
        rows = timed(model, wanted, batch_size, getattr(torch, precision), place, rounds)
    if as_json:
        print_json({"machine": machine, "rows": [asdict(row) for row in _awaited(rows)]})
    else:
        _show(_awaited(rows))
        stdout.print(", ".join(f"{name} {value}" for name, value in machine.items()))


def _awaited(rows: Iterator["Row"]) -> Iterator["Row"]:
    """The rows, with a spinner until each is there."""
    while True:
        with waiting("compiling and timing"):
            row = next(rows, None)
        if row is None:
            return
        yield row


def _show(rows: Iterator["Row"]) -> None:
    """A table for each case, as soon as it is timed."""
    case: list[Row] = []
    for row in rows:
        if case and (row.what, row.case) != (case[0].what, case[0].case):
            _show_case(case)
            case = []
        case.append(row)
    _show_case(case)


def _show_case(rows: list["Row"]) -> None:
    table = Table(title=f"{rows[0].what}: {rows[0].case}")
    table.add_column("")
    headings = {
        "ms": lambda row: f"{row.milliseconds:.2f}",
        "quartiles": lambda row: f"{row.spread[0]:.2f}–{row.spread[1]:.2f}",
        "times as fast": lambda row: f"{row.ratio:.2f}",
        "images/s": lambda row: f"{1e3 * row.images / row.milliseconds:.1f}" if row.images else "",
        "peak MB": lambda row: f"{row.peak_mb:.0f}" if row.peak_mb is not None else "",
    }
    shown = {name: cell for name, cell in headings.items() if any(cell(row) for row in rows)}
    for name in shown:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.version, *(cell(row) for cell in shown.values()))
    share = next((row.copy_share for row in rows if row.copy_share is not None), None)
    table.caption = None if share is None else f"sampling alone moves its bytes at {share:.0%} of a copy's speed"
    print_table(table)
