"""`atmviz data`: where public datasets are to be had, and whether a folder holds all of one."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from atmviz.choices import DatasetName

from . import options
from .console import print_json, print_rows, say
from .progress import ProgressConsole
from .usage import Command, Group

app = typer.Typer(
    cls=Group,
    add_completion=False,
    help="Say where the files of public datasets are, and check that yours are complete.",
)
Name = Annotated[DatasetName, typer.Argument(metavar="NAME", help="ade20k, coco or imagenet.")]


@app.command("info", cls=Command)
def info(name: Name, as_json: options.JsonOption = False) -> None:
    """Print the addresses and checksums of a dataset's files, and the folders they unpack to."""
    from atmviz.sources.datasets import dataset_info

    dataset = dataset_info(name)
    if as_json:
        print_json({key: asdict(dataset)[key] for key in ("title", "page", "files", "tree")})
        return
    lines = [dataset.title, f"terms: {dataset.page}", ""]
    for file in dataset.files:
        size = f", {file.size / 1e9:.1f} GB" if file.size else ""
        lines.append(f"{file.url}  (md5 {file.md5}{size})")
    lines += ["", dataset.tree, "", f"then: atmviz data check {name} --data-dir FOLDER"]
    typer.echo("\n".join(lines))


@app.command("check", cls=Command)
def check(
    name: Name,
    data_dir: options.DataDir = None,
    split: Annotated[Literal["train", "val"] | None, typer.Option(help="Check one split only.")] = None,
    read: Annotated[bool, typer.Option("--read", help="Also open every image and mask: minutes to hours.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Check that a dataset is complete and undamaged; exit code 1 if it is not."""
    with ProgressConsole("looking", "reading") as events:
        from atmviz.sources.check import SPLITS, check_dataset

        results = check_dataset(name, data_dir, splits=(split,) if split else SPLITS, read=read, events=events)
    whole = all(result.ok for result in results)
    if as_json:
        print_json({"dataset": name, "whole": whole, "findings": [vars(result) for result in results]})
    else:
        rows = [("✓" if result.ok else "✗", result.what, result.found, result.expected) for result in results]
        print_rows(None, ("", name, "found", "expected"), rows, texts=2)
        parts: dict[str, list[str]] = {}
        for result in results:
            for line in filter(None, (result.problem, result.note)):
                parts.setdefault(line, []).append(result.what)
        for line, names in parts.items():
            say(f"{', '.join(names)}: {line}")
        state = "complete" if whole else f"incomplete or damaged: see `atmviz data info {name}`"
        say(f"{name} is {state}")
    if not whole:
        raise typer.Exit(1)
