"""`atmviz convert`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.files import check_writable, find_checkpoint

from . import options
from .console import CONSOLE, print_json, say, waiting


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint of any public layout, or hf://user/repo.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A name ending in .safetensors or .onnx.")],
    weights: options.Weights = None,
    size: Annotated[str | None, options.size_option(" of an ONNX file; by default 224")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Write a checkpoint as a safetensors file under timm's names, or as an ONNX file.

    An ONNX file takes any number of normalized images of one size (224 px without --size). Its scores are compared
    with PyTorch's. ONNX needs `pip install 'atmviz[onnx]'`.
    """
    if target.suffix not in (".safetensors", ".onnx"):
        raise typer.BadParameter(f"got {target}, expected a name ending in .safetensors or .onnx")
    if size and target.suffix != ".onnx":
        raise typer.BadParameter("got --size for a safetensors file, which is for any size: leave it out")
    if target.is_dir():
        raise typer.BadParameter(f"{target} is a folder, expected the name of a file")
    if target.exists() and not overwrite:
        raise typer.BadParameter(f"{target} exists: choose another name, or pass --overwrite")
    check_writable(target)
    image_size = options.parse_size(size or 224)
    find_checkpoint(source, random=False)
    result: dict[str, Any] = {"out": str(target)}
    with waiting("converting"):
        if target.suffix == ".onnx":
            from atmviz.export import export_onnx

            difference = export_onnx(source, target, weights=weights, size=image_size, events=CONSOLE)
            result["largest_difference"] = float(difference)
            say(f"largest difference from PyTorch's scores: {difference:.0e} of the largest score")
        else:
            from atmviz.checkpoints import convert_checkpoint

            origin = convert_checkpoint(source, target, weights)
            result |= {"model": origin.model, "weights": origin.weights, "source_sha256": origin.sha256}
            say(origin.describe())
    if as_json:
        print_json(result | {"bytes": target.stat().st_size})
    say(f"wrote {target}, {target.stat().st_size / 1e6:.1f} MB")
