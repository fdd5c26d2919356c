"""`atmviz convert`."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import say, waiting


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint of any public layout.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="Where to write.")],
    weights: options.Weights = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a checkpoint as safetensors under timm's names, its configuration as metadata."""
    if target.suffix != ".safetensors":
        raise typer.BadParameter(f"got {target}, expected a name ending in .safetensors")
    if target.exists() and not overwrite:
        raise typer.BadParameter(f"{target} exists: choose another name, or pass --overwrite")
    with waiting("converting"):
        from atmviz.checkpoints import convert_checkpoint

        origin = convert_checkpoint(source, target, weights.value if weights else None)
    say(origin.describe())
    say(f"wrote {target}, {target.stat().st_size / 1e6:.1f} MB")
