"""`atmviz record`, and the recording that other commands make on the way."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atmviz.recording.settings import RecordingSettings

from . import options
from .console import CONSOLE, ConsoleEvents, image_progress, is_main_process, print_json, say, say_if_alone, waiting

if TYPE_CHECKING:
    from atmviz.recording.store import Recording
    from atmviz.sources import Source


@options.with_settings(RecordingSettings)
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
    dataset: options.DatasetOption = None,
    data_dir: options.DataDir = None,
    split: options.SplitOption = options.Split.VAL,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    model: options.ModelOption = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Record what every ATM layer fetches, image by image, into a folder that opens without torch.

    Interrupted or killed, the same command resumes and ends with the same recording. Processes of torchrun share the
    images.
    """
    chosen = options.read_settings(RecordingSettings, settings)
    images = find_source(sources, dataset, data_dir, split, limit, seed, chosen.input_size)
    recording = run_recording(
        images,
        out,
        chosen,
        checkpoint=checkpoint,
        model=model,
        weights=weights.value if weights else None,
        device=device,
    )
    if as_json and is_main_process():
        print_json(recording.summary())


def find_source(
    sources: list[str] | None,
    dataset: options.Dataset | None,
    data_dir: Path | None,
    split: options.Split,
    limit: int | None,
    seed: int,
    size: tuple[int, int] | None = None,
) -> "Source":
    """Return the images that the options name: paths, a dataset, or the bundled photographs without either."""
    from atmviz.sources import open_source

    if sources and dataset:
        raise typer.BadParameter(f"got {sources[0]} and --dataset {dataset.value}, expected one of the two")
    if data_dir and not dataset:
        raise typer.BadParameter("got --data-dir without --dataset, expected both, or a folder of images as SOURCE")
    named = dataset.value if dataset else list(sources) if sources else None
    images = open_source(named, data_dir=data_dir, split=split.value, seed=seed, size=size)
    if images.note:
        say(images.note)
    if limit and len(images) < limit:
        say(f"only {len(images)} images there: taking all, not {limit}")
    return images.sample(limit, seed) if limit else images


def run_recording(
    images: "Source",
    out: Path,
    settings: RecordingSettings,
    *,
    checkpoint: str,
    model: str | None,
    weights: str | None,
    device: str,
    needed: list[str] | None = None,
) -> "Recording":
    """Load the model and record with a progress bar; the layers `needed` must be among the model's."""
    say_if_alone()
    with waiting("loading the model"):
        from atmviz.checkpoints import load_model
        from atmviz.observe import find_sites
        from atmviz.recording.run import record as record_images

        network = load_model(checkpoint, model=model, weights=weights, device=device, events=CONSOLE)  # type: ignore[arg-type]
        find_sites(network, needed or ["all"])
    try:
        with image_progress(f"recording {images.title}") as progress:
            return record_images(images, network, out=out, settings=settings, events=ConsoleEvents(progress))
    except KeyboardInterrupt:
        say(f"interrupted: finished images are kept in {out}; the same command resumes")
        raise typer.Exit(130) from None
