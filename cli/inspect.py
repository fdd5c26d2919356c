"""`atmviz inspect`: what a figure, a recording or a checkpoint is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import print_json, stdout, waiting


def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A figure of atmviz, a recording, a run folder or a checkpoint."),
    ],
    as_json: options.JsonOption = False,
) -> None:
    """Print what a figure, a recording or a checkpoint says of itself."""
    with waiting("reading"):
        from atmviz.inspection import inspect as inspect_path

        said = inspect_path(path)
    if as_json:
        print_json(said)
        return
    for name, value in _lines(said):
        stdout.print(f"{name}: {value}")


def _lines(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested values with their names, as `data images`; empty ones are left out."""
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += _lines(value, f"{above}{name} ")
        elif value not in (None, "", []):
            lines.append((f"{above}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return lines
