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
from .console import print_json_rows, print_rows, stdout, waiting

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
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images per forward pass.")] = 8,
    precision: Annotated[
        Precision, typer.Option("--dtype", help="Type of features and offsets; for model, that of autocast.")
    ] = "float32",
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Timed calls of each version.")] = 15,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, max=50_000, help="JPEG files for record. Default: 256."),
    ] = None,
    spread: Annotated[
        Literal["narrow", "wide"],
        typer.Option("--spread", help="For op: offsets of 1.5 tokens (standard deviation), or to any token."),
    ] = "narrow",
    device: options.Device = "auto",
    as_json: options.JsonOption = False,
) -> None:
    """Time atmviz beside the released code, which samples by torchvision's deform_conv2d.

    All versions run in turns on the same tensors, and their results must agree. Compare speed-ups, not times: a
    speed-up is the median over rounds of the first version's time divided by this version's time in the same round.
    Compiling a network takes minutes. On a GPU, op also gives the time without Python's, in microseconds, and the
    speed-up of that. With --json, each row is printed when it is measured, on a line of its own.
    """
    if model not in VARIANTS:
        raise typer.BadParameter(
            f"got --model {model}, expected one of {', '.join(VARIANTS)}{nearest(model, VARIANTS)}"
        )
    if what == "record" and precision != "float32":
        raise typer.BadParameter(f"got --dtype {precision}, expected float32: a recording has no other")
    if images and what != "record":
        raise typer.BadParameter(f"got --images for {what}, expected it only for record: leave it out")
    if spread == "wide" and what != "op":
        raise typer.BadParameter(f"got --spread wide for {what}, expected it only for op: leave it out")
    pixels, device = options.parse_size(size or 224), read_device(device)
    with waiting("loading"):
        import torch

        from atmviz import benchmark as library
        from atmviz.devices import pick_device

        torch_device = pick_device(device)
    machine, dtype = library.describe_machine(torch_device), getattr(torch, precision)
    if what == "record":
        timings = library.benchmark_record(model, pixels, batch_size, torch_device, rounds, images or 256)
    elif what == "model":
        timings = library.benchmark_model(model, pixels, batch_size, dtype, torch_device, rounds)
    else:
        wide = spread == "wide"
        timings = library.benchmark_operator(model, pixels, batch_size, dtype, torch_device, rounds, wide=wide)
    if as_json:
        print_json_rows({"machine": machine}, (asdict(timing) for timing in _awaited(timings)))
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
        "GPU µs": lambda timing: f"{timing.gpu_us:.1f}" if timing.gpu_us else "",
        "GPU speed-up": lambda timing: f"{timing.gpu_speedup:.2f}" if timing.gpu_speedup else "",
        "GB/s": lambda timing: f"{timing.gb_per_s:.1f}" if timing.gb_per_s else "",
        "images/s": lambda timing: f"{1e3 * timing.images / timing.milliseconds:.1f}" if timing.images else "",
        "peak MB": lambda timing: f"{timing.peak_mb:.0f}" if timing.peak_mb is not None else "",
    }
    shown = {name: cell for name, cell in cells.items() if any(cell(timing) for timing in timings)}
    rows = [[cell(timing) for cell in shown.values()] for timing in timings]
    fraction = next((timing.copy_fraction for timing in timings if timing.copy_fraction is not None), None)
    caption = None if fraction is None else f"sampling alone moves its bytes at {fraction:.0%} of a copy's speed"
    print_rows(f"{timings[0].operation}: {timings[0].case}", shown, rows, caption)
