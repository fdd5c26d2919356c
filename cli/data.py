"""`atmviz data`: what public datasets must look like, and whether they do."""

from typing import Annotated, Any

import typer
from rich.table import Table

from . import options
from .console import image_progress, print_json, print_table, say, waiting

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Public datasets: where their files are, and whether yours are whole.",
)
Name = Annotated[options.Dataset, typer.Argument(metavar="NAME", help="ade20k, coco or imagenet.", show_default=False)]


@app.command("info")
def info(name: Name, as_json: options.JsonOption = False) -> None:
    """Say where a dataset's files are, their checksums, and the tree they must unpack to."""
    from dataclasses import asdict

    from atmviz.data.check import dataset_info

    found = dataset_info(name.value)
    if as_json:
        print_json(asdict(found))
        return
    lines = [found.title, f"terms: {found.page}", ""]
    for file in found.files:
        size = f", {file.size / 1e9:.1f} GB" if file.size else ""
        lines.append(f"{file.url}  (md5 {file.md5}{size})")
    lines += ["", found.tree, "", f"then: atmviz data check {name.value} --data-dir FOLDER"]
    typer.echo("\n".join(lines))


@app.command("check")
def check(
    name: Name,
    data_dir: options.DataDir = None,
    split: Annotated[options.Split | None, typer.Option(help="Only train or val.")] = None,
    read: Annotated[bool, typer.Option("--read", help="Open every image and mask too: minutes to hours.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Look for every part of a dataset; exit code 1 where something is missing or wrong."""
    with waiting("looking"):
        from atmviz.data.check import check_dataset
    splits = [split.value] if split else ["train", "val"]
    with image_progress("reading") as on_images:
        found = check_dataset(name.value, data_dir, splits=splits, read=read, on_images=on_images)
    whole = all(one.ok for one in found)
    if as_json:
        rows: list[dict[str, Any]] = [vars(one) for one in found]
        print_json({"dataset": name.value, "whole": whole, "findings": rows})
    else:
        table = Table()
        for heading in ("", name.value, "found", "expected"):
            table.add_column(heading, justify="right" if heading in ("found", "expected") else "left")
        for one in found:
            table.add_row("✓" if one.ok else "✗", one.what, one.found, one.expected)
        print_table(table)
        for one in found:
            for line in filter(None, (one.problem, one.note)):
                say(f"{one.what}: {line}")
        say(f"{name.value} is whole" if whole else f"{name.value} is not whole: see `atmviz data info {name.value}`")
    if not whole:
        raise typer.Exit(1)
