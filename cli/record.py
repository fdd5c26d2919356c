"""`atmviz record`, and the recording that other commands make on the way."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import image_progress, is_main_process, print_json, say, say_if_alone, say_skipped, waiting

if TYPE_CHECKING:
    from atmviz.data import ImageSet
    from atmviz.geometry import Preprocessing
    from atmviz.recording.run import RecordResult
    from atmviz.recording.store import Recording


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
    dataset: options.DatasetOption = None,
    data_dir: options.DataDir = None,
    split: options.SplitOption = options.Split.VAL,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    strict: options.Strict = False,
    size: options.Size = None,
    fit: options.FitOption = None,
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    model: options.ModelOption = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 8,
    workers: options.Workers = None,
    as_json: options.JsonOption = False,
) -> None:
    """Record what every ATM layer fetches, image by image, into a folder that opens without torch.

    Interrupted, even killed, the same command continues and ends with the same recording. Processes of torchrun share
    the images.
    """
    part = _parse_shard(shard)
    preprocessing = options.choose_preprocessing(size, fit, dataset)
    images = find_source(sources, dataset, data_dir, split, limit, seed)
    recording = run_recording(
        images,
        out,
        checkpoint=checkpoint,
        model=model,
        weights=weights.value if weights else None,
        device=device,
        preprocessing=preprocessing,
        layer_patterns=layer,
        query=query,
        batch_size=batch_size,
        workers=workers,
        shard=part,
        strict=strict,
    )
    if as_json and is_main_process():
        print_json(summary(recording))


def find_source(
    sources: list[str] | None,
    dataset: options.Dataset | None,
    data_dir: Path | None,
    split: options.Split,
    limit: int | None,
    seed: int,
) -> "ImageSet":
    """The images that the options name: paths, a dataset, or the bundled photographs without either."""
    from atmviz.data import bundled_photos, find_dataset, find_images

    if sources and dataset:
        raise typer.BadParameter(f"got {sources[0]} and --dataset {dataset.value}, expected one of the two")
    if data_dir and not dataset:
        raise typer.BadParameter("got --data-dir without --dataset, expected both, or a folder of images as SOURCE")
    if dataset:
        images = find_dataset(dataset.value, data_dir, split.value)
    else:
        images = find_images(list(sources)) if sources else bundled_photos()
    if images.note:
        say(images.note)
    if limit and len(images) < limit:
        say(f"only {len(images)} images there: taking all, not {limit}")
    return images.sample(limit, seed) if limit else images


def run_recording(
    images: "ImageSet",
    out: Path,
    *,
    checkpoint: str,
    model: str | None,
    weights: str | None,
    device: str,
    preprocessing: "Preprocessing",
    layer_patterns: list[str] | None = None,
    needed: list[str] | None = None,
    **settings: Any,
) -> "Recording":
    """Load the model, record with a progress bar, say what came out.

    `layer_patterns` are recorded, all layers without them; `needed` ones must be among the model's.
    """
    say_if_alone()
    with waiting("loading the model"):
        from atmviz.checkpoints import load_model
        from atmviz.layers import select_layers
        from atmviz.observe import find_sites
        from atmviz.recording.run import record_offsets

        network = load_model(checkpoint, model=model, weights=weights, device=device, report=say)  # type: ignore[arg-type]
        available = [site.name for site in find_sites(network)]
        chosen = select_layers(layer_patterns, available) if layer_patterns else None
        select_layers(needed or [], available)
    start = perf_counter()
    try:
        with image_progress(f"recording {images.name}") as progress:
            result = record_offsets(
                images, out, network, preprocessing=preprocessing, layers=chosen, on_images=progress, **settings
            )
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


def summary(recording: "Recording") -> dict[str, Any]:
    """What `--json` says of a recording."""
    return {
        "recording": str(recording.path),
        "model": recording.model,
        "trained": recording.trained,
        "dataset": recording.attrs["dataset"],
        "images": len(recording),
        "skipped": recording.skipped,
        "complete": recording.complete,
        "layers": [site.name for site in recording.sites],
    }


def _parse_shard(text: str) -> tuple[int, int]:
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        part = parts = 0
    if not 1 <= part <= parts:
        raise typer.BadParameter(f"got shard {text!r}, expected K/N with K from 1 to N, as in 2/4")
    return part, parts
