"""`atmviz convert`."""

from pathlib import Path
from typing import Annotated

import typer

from atmviz.files import check_writable

from . import options
from .console import CONSOLE, say, waiting


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint of any public layout.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="OUT.safetensors, or OUT.onnx for any runtime.")],
    weights: options.Weights = None,
    size: Annotated[str | None, typer.Option("--size", help="Image size of an ONNX file, px: 224, or 512x512.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a checkpoint as safetensors under timm's names, or as an ONNX file that equals PyTorch.

    An ONNX file takes any number of normalized images of one size. It needs the extra `onnx`.
    """
    if target.suffix not in (".safetensors", ".onnx"):
        raise typer.BadParameter(f"got {target}, expected a name ending in .safetensors or .onnx")
    if size and target.suffix != ".onnx":
        raise typer.BadParameter("got --size for a file of weights, which fits any size: leave it out")
    if target.is_dir():
        raise typer.BadParameter(f"{target} is a folder, expected the name of a file")
    if target.exists() and not overwrite:
        raise typer.BadParameter(f"{target} exists: choose another name, or pass --overwrite")
    check_writable(target)
    image_size = options.parse_size(size or 224)
    with waiting("converting"):
        if target.suffix == ".onnx":
            from atmviz.export import export_onnx

            difference = export_onnx(source, target, weights=weights, size=image_size, events=CONSOLE)
            say(f"its scores equal PyTorch's to {difference:.0e} of the largest")
        else:
            from atmviz.checkpoints import convert_checkpoint

            say(convert_checkpoint(source, target, weights).describe())
    say(f"wrote {target}, {target.stat().st_size / 1e6:.1f} MB")
