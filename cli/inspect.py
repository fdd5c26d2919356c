"""`atmviz inspect`: what a figure, a page, a recording or a checkpoint is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.errors import count
from atmviz.training.recipe import Recipe

from . import options
from .console import print_json, stdout, waiting


def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A figure or a page of atmviz, a recording, a run folder or a checkpoint."),
    ],
    as_json: options.JsonOption = False,
) -> None:
    """Print what a figure, a page, a recording or a checkpoint says of itself."""
    with waiting("reading"):
        from atmviz.inspection import inspect as inspect_path

        said = inspect_path(path)
    if as_json:
        print_json(said)
        return
    for name, value in _lines(_without_defaults(said)):
        stdout.print(f"{name}: {value}")


def _without_defaults(said: dict[str, Any]) -> dict[str, Any]:
    """Return what is said without the settings of a recipe that are the usual ones, and how many these are."""
    info = said.get("training_info", {})
    if not isinstance(info.get("recipe"), dict):
        return said
    usual = json.loads(json.dumps(asdict(Recipe())))
    changed = {name: value for name, value in info["recipe"].items() if value != usual.get(name, "")}
    left_out = len(info["recipe"]) - len(changed)
    changed["defaults"] = f"{count(left_out, 'other setting')}; --json prints all"
    return {**said, "training_info": {**info, "recipe": changed}}


def _lines(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested values with their names, as `data images`; empty ones are left out."""
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += _lines(value, f"{above}{name} ")
        elif value not in (None, "", []):
            lines.append((f"{above}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return lines
