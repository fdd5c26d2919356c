"""`atmviz publish`: a folder for the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import print_json, print_paths, say, waiting


def publish(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="The folder of a training run, or a checkpoint of any public layout."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="An empty or new folder.", rich_help_panel="Output")] = Path(
        "published"
    ),
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="RECORDING", help="A recording by these weights: its claims stand in the card. By default none."
        ),
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="License of the weights as the Hub names it, e.g. mit; by default not stated.")
    ] = None,
    weights: options.Weights = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="USER/REPO", help="Also write it into this repository; by default nothing is sent."),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write weights, configuration and a model card into a folder, as the Hugging Face Hub expects them.

    Nothing leaves this machine unless a repository is named. Read the card before you do.
    """
    with waiting("writing"):
        from atmviz.publishing import publish as publish_checkpoint

        done = publish_checkpoint(source, out, weights=weights, recording=recording, license=license, push=push)
    if as_json:
        print_json(
            {
                **{"files": [str(file) for file in done.files], "model": done.origin.model, "sha256": done.sha256},
                **{"source_sha256": done.origin.sha256, "url": done.url},
            }
        )
    else:
        print_paths(done.files)
    if done.url:
        say(f"pushed to {done.url}")
