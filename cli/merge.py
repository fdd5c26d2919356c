"""`atmviz merge`."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import print_json, say, waiting


def merge(
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING", help="Complete recordings that differ only in their images.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the merged recording; must not exist.")],
    as_json: options.JsonOption = False,
) -> None:
    """Join recordings of the same model and settings into one, in the order given."""
    with waiting("merging"):
        from atmviz.recording.merge import merge_recordings

        there = out.exists()
        merged = merge_recordings(recordings, out)
    say(f"{'already ' * there}merged {len(recordings)} recordings in {out}, images: {len(merged)}")
    if as_json:
        print_json(merged.summary())
