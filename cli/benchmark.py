"""`atmviz benchmark`: how fast atmviz is beside the released code, on this machine."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atmviz.errors import nearest
from atmviz.settings import read_device
from atmviz.variants import VARIANTS

from . import completion, options
from .console import print_json, print_rows, stdout, waiting

if TYPE_CHECKING:
    from atmviz.benchmark import Timing

What = Literal["op", "model", "record"]
Precision = Literal["float32", "float16", "bfloat16"]


def benchmark(  # noqa: PLR0913  options
    what: Annotated[
        What,
        typer.Argument(help="op: one branch, on the map of each stage. model: a whole network. record: recording."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Variant to time.", autocompletion=completion.models)
    ] = "atmnet_xtiny",
    size: options.Size = "224",
    batch_size: options.BatchSize = 8,
    precision: Annotated[
        Precision, typer.Option("--dtype", help="Type of features and offsets; for model, that of autocast.")
    ] = "float32",
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Timed calls of each version.")] = 15,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, max=50_000, help="JPEG files for record. Default: 256."),
    ] = None,
    device: options.Device = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Time atmviz beside the released code, which samples by torchvision's deform_conv2d.

    All versions run in turns on the same tensors, and their results must agree. Compare speed-ups, not times: a
    speed-up is the median over rounds of the first version's time divided by this version's time in the same round.
    Compiling a network takes minutes.
    """
    if model not in VARIANTS:
        raise typer.BadParameter(
            f"got --model {model}, expected one of {', '.join(VARIANTS)}{nearest(model, VARIANTS)}"
        )
    if what == "record" and precision != "float32":
        raise typer.BadParameter(f"got --dtype {precision}, expected float32: a recording has no other")
    if images and what != "record":
        raise typer.BadParameter(f"got --images for {what}, expected it only for record: leave it out")
    pixels, device = options.parse_size(size or 224), read_device(device)
    with waiting("loading"):
        import torch

        from atmviz.benchmark import benchmark_model, benchmark_operator, benchmark_record, describe_machine
        from atmviz.devices import pick_device

        torch_device = pick_device(device)
    machine = describe_machine(torch_device)
    if what == "record":
        timings = benchmark_record(model, pixels, batch_size, torch_device, rounds, images or 256)
    else:
        run = benchmark_operator if what == "op" else benchmark_model
        timings = run(model, pixels, batch_size, getattr(torch, precision), torch_device, rounds)
    if as_json:
        print_json({"machine": machine, "rows": [asdict(timing) for timing in _awaited(timings)]})
        return
    for _, case in groupby(_awaited(timings), lambda timing: (timing.operation, timing.case)):
        _show(list(case))
    stdout.print(", ".join(f"{name} {value}" for name, value in machine.items()))


def _awaited(timings: Iterator["Timing"]) -> Iterator["Timing"]:
    """The timings, with a spinner until each is there."""
    while True:
        with waiting("compiling and timing"):
            timing = next(timings, None)
        if timing is None:
            return
        yield timing


def _show(timings: list["Timing"]) -> None:
    """Print the table of one case."""
    cells = {
        "": lambda timing: timing.version,
        "ms": lambda timing: f"{timing.milliseconds:.2f}",
        "quartiles": lambda timing: f"{timing.quartiles[0]:.2f}–{timing.quartiles[1]:.2f}",
        "speed-up": lambda timing: f"{timing.speedup:.2f}",
        "images/s": lambda timing: f"{1e3 * timing.images / timing.milliseconds:.1f}" if timing.images else "",
        "peak MB": lambda timing: f"{timing.peak_mb:.0f}" if timing.peak_mb is not None else "",
    }
    shown = {name: cell for name, cell in cells.items() if any(cell(timing) for timing in timings)}
    rows = [[cell(timing) for cell in shown.values()] for timing in timings]
    fraction = next((timing.copy_fraction for timing in timings if timing.copy_fraction is not None), None)
    caption = None if fraction is None else f"sampling alone moves its bytes at {fraction:.0%} of a copy's speed"
    print_rows(f"{timings[0].operation}: {timings[0].case}", shown, rows, caption)
