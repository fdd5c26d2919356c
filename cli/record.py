"""`atmviz record`."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atmviz.choices import DataChoice, FitChoice, ModelChoice, require_files
from atmviz.events import Events
from atmviz.settings import split_settings

from . import options
from .console import image_progress, is_main_process, print_json, say, say_if_alone, say_skipped, waiting

if TYPE_CHECKING:
    from atmviz.recording.run import RecordResult
    from atmviz.recording.store import Recording
    from atmviz.sources import ImageFiles


@options.with_settings(DataChoice, FitChoice, ModelChoice)
def record(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE", help="Images, folders or globs; else the bundled photographs.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the recording; started again, it continues.")
    ] = Path("recording"),
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Layers: 3_18, 3_*, 3_last, all; repeatable.")
    ] = None,
    query: Annotated[str, typer.Option(help="center, fractions X,Y of the input, or ROW:COL in tokens.")] = "center",
    shard: Annotated[str, typer.Option(help="K/N: record the K-th of N parts; all may share one --out.")] = "1/1",
    batch_size: options.BatchSize = 8,
    workers: options.Workers = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first unreadable image.")] = False,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Record what every ATM layer fetches, image by image, into a folder that opens without torch.

    Interrupted, even killed, the same command continues and ends with the same recording. Processes of torchrun share
    the images.
    """
    part = _parse_shard(shard)
    data, fit, choice = split_settings(options.given(settings), DataChoice, FitChoice, ModelChoice)
    preprocessing = fit.for_recording(data.dataset)
    images = require_files(data.open(sources, preprocessing.size, _Said()))
    recording = run_recording(
        images,
        out,
        choice,
        layer_patterns=layer,
        preprocessing=preprocessing,
        query=query,
        batch_size=batch_size,
        workers=workers,
        shard=part,
        strict=strict,
    )
    if as_json and is_main_process():
        from atmviz.views.drawn import describe_recording

        print_json(describe_recording(recording))


class _Said(Events):
    def message(self, text: str) -> None:
        say(text)


def run_recording(
    images: "ImageFiles", out: Path, choice: ModelChoice, layer_patterns: list[str] | None = None, **settings: Any
) -> "Recording":
    """Load the model, record these layers (all without patterns) with a progress bar, say what came out."""
    say_if_alone()
    with waiting("loading the model"):
        from atmviz.observe import find_sites
        from atmviz.recording.run import record_offsets

        network = choice.load(_Said())
        chosen = [site.name for site in find_sites(network, layer_patterns)] if layer_patterns else None
    start = perf_counter()
    try:
        with image_progress(f"recording {images.title}") as progress:
            result = record_offsets(images, out, network, layers=chosen, on_images=progress, **settings)
    except KeyboardInterrupt:
        say(f"interrupted: finished images are kept in {out}; the same command continues")
        raise typer.Exit(130) from None
    recording, seconds = result.recording, perf_counter() - start
    state = "" if recording.complete else f" (of {len(images)}: other parts are missing)"
    say(f"{out} holds {len(recording)} images{state}{_rate(result, seconds)}")
    say_skipped(result.skipped)
    return recording


def _rate(result: "RecordResult", seconds: float) -> str:
    """`, 85.0 images/s, bound by the network (91 % of the time; input 7 %, output 2 %)`."""
    if not result.images:
        return ", nothing was left to do"
    total = sum(result.seconds.values())
    shares = {what: f"{own / total:.0%}" for what, own in result.seconds.items()}
    most = shares.pop(result.bound)
    rest = ", ".join(f"{what} {share}" for what, share in shares.items())
    return f", {result.images / seconds:.1f} images/s, bound by the {result.bound} ({most} of the time; {rest})"


def _parse_shard(text: str) -> tuple[int, int]:
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        part = parts = 0
    if not 1 <= part <= parts:
        raise typer.BadParameter(f"got shard {text!r}, expected K/N with K from 1 to N, as in 2/4")
    return part, parts
