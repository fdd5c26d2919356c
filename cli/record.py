"""`atmviz record`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.choices import DataChoice, ModelChoice
from atmviz.recording.settings import RecordingSettings

from . import options
from .console import is_main_process, print_json, say_if_alone
from .progress import ProgressConsole


@options.with_settings(RecordingSettings, DataChoice, ModelChoice)
def record(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE", help="Images, folders or globs. Default: the bundled photographs.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the recording.")] = Path("recording"),
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDING",
            help="Repeat images, geometry, query, labels and kept quantities of a recording; by default of none.",
            rich_help_panel="Data",
        ),
    ] = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Record which tokens every ATM layer fetches, image by image, into a folder that opens without torch.

    After a stop or a kill, the same command resumes and ends with the same recording. Processes of torchrun share the
    images.
    """
    say_if_alone()
    with ProgressConsole("loading the model", "recording", f"finished images are kept in {out}") as events:
        from atmviz.recording.run import record as record_images

        recording = record_images(sources or None, out=out, like=like, events=events, **options.given(settings))
    if as_json and is_main_process():
        print_json(recording.summary())
