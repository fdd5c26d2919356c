"""`atmviz eval`."""

from collections.abc import Callable
from enum import StrEnum
from itertools import chain, count
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from atmviz.architecture import CROP_RANGE, RANGES
from atmviz.files import check_writable, file_name, write_csv

from . import options
from .console import (
    METRIC_LABELS,
    image_progress,
    import_matplotlib,
    is_main_process,
    print_json,
    print_table,
    say,
    say_if_alone,
    waiting,
)

if TYPE_CHECKING:
    from atmviz.training.evaluate import Prediction

_SHOWN = 24


class EvalWeights(StrEnum):
    EMA = "ema"
    MODEL = "model"
    BOTH = "both"


class OffsetsChoice(StrEnum):
    LEARNED = "learned"
    ZERO = "zero"
    SHUFFLE = "shuffle"


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint file of any layout, or a variant's name.")
    ] = options.DEFAULT_MODEL,
    dataset: Annotated[
        str | None,
        typer.Option(help="imagenet, folder, shapes, digits, a timm reader, ade20k or coco; else that of training."),
    ] = None,
    data_dir: options.DataDir = None,
    split: options.SplitOption = options.Split.VAL,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=RANGES["image_size"][0],
            max=RANGES["image_size"][1],
            help="Of the input, px: side of a crop, shorter side of a whole image; else training's.",
        ),
    ] = None,
    crop_pct: Annotated[
        float | None, typer.Option(min=CROP_RANGE[0], max=CROP_RANGE[1], help="Part of the resized image to crop.")
    ] = None,
    weights: Annotated[
        EvalWeights | None, typer.Option(help="EMA where the file has them; both evaluates one after the other.")
    ] = None,
    offsets: Annotated[
        OffsetsChoice, typer.Option(help="zero: read the query token itself; shuffle: another token's offsets.")
    ] = OffsetsChoice.LEARNED,
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffled positions.")] = 0,
    device: options.Device = "auto",
    multi_scale: Annotated[
        bool, typer.Option("--multi-scale", help="Segment at 0.5 to 1.75 times the size, mirrored too, and average.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", min=1, help="Images per forward pass.")
    ] = None,
    workers: options.Workers = None,
    confusion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Draw the confusion matrix: a .png, .pdf or .svg file."),
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Draw predictions beside truth: the first 24 images."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.csv", dir_okay=False, help="Write the results as CSV.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Evaluate a classifier (top-1, top-5), a segmenter (mIoU) or a detector (COCO's AP) on a dataset.

    Several processes of torchrun share the images; none is counted twice.
    """
    if confusion and confusion.suffix not in (".png", ".pdf", ".svg"):
        raise typer.BadParameter(f"got --confusion {confusion}, expected a name ending in .png, .pdf or .svg")
    for place in (out, confusion, show and show / "image.png"):
        if place:
            check_writable(place)
    if out and out.suffix != ".csv":
        raise typer.BadParameter(f"got --out {out}, expected a name ending in .csv")
    say_if_alone()
    with waiting("loading the model"):
        import_matplotlib()
        from atmviz.training.evaluate import evaluate_checkpoint

    kinds: list[Any] = ["ema", "model"] if weights == EvalWeights.BOTH else [weights.value if weights else None]
    rows: list[dict[str, Any]] = []
    paper: dict[str, dict[str, str]] = {}
    for kind in kinds:
        with image_progress("evaluating") as on_images:
            found = evaluate_checkpoint(
                checkpoint,
                weights=kind,
                dataset=dataset,
                data_dir=data_dir,
                split=split.value,
                size=size,
                crop_pct=crop_pct,
                multi_scale=multi_scale,
                offsets=offsets.value,
                seed=seed,
                limit=limit,
                device=device,
                batch_size=batch_size,
                workers=workers,
                confusion=confusion is not None,
                report=say,
                on_images=on_images,
                on_prediction=_drawer(show / kind if len(kinds) > 1 else show) if show else None,
            )
        rows.append(found.row)
        paper = found.paper  # the same for both weights
        if confusion and found.evaluation.confusion is not None and is_main_process():
            from atmviz.figures.confusion import draw_confusion

            place = confusion.with_stem(f"{confusion.stem}-{kind}") if len(kinds) > 1 else confusion
            draw_confusion(
                found.evaluation.confusion,
                found.classes,
                place,
                title=f"{found.row['model']}, {found.row['dataset']} {split.value}, {found.row['images']} images",
            )
            say(f"wrote {place}")
    if not is_main_process():
        return
    if out:
        write_csv(out, rows)
        say(f"wrote {out}")
    if as_json:
        print_json([{**row, "paper": paper} for row in rows])
        return
    print_table(_table(rows, paper))


def _table(rows: list[dict[str, Any]], paper: dict[str, dict[str, str]]) -> Table:
    first = rows[0]
    scales = ", multi-scale" if first.get("multi_scale") else ""
    table = Table(title=f"{first['model']} on {first['dataset']} {first['split']}, {first['images']} images{scales}")
    table.add_column("weights")  # a detector's twelve metrics would not fit beside each other
    for row in rows:
        table.add_column(row["weights"], justify="right")
    for source in paper:
        table.add_column(source, justify="right")
    for setting, heading in (("offsets", "offsets"), ("size", "size (px)")):
        table.add_row(heading, *(str(row[setting]) for row in rows))
    for name in (one for one in METRIC_LABELS if one in first):
        values = ("–" if isnan(row[name]) else f"{row[name]:.{4 if name == 'loss' else 3}f}" for row in rows)
        printed = (source.get(name, "") for source in paper.values())
        table.add_row(METRIC_LABELS[name] + (" (%)" if name != "loss" else ""), *values, *printed)
    if paper:
        table.caption = f"as printed by the paper and its authors, for all validation images of {first['dataset']}"
    return table


def _drawer(folder: Path) -> Callable[["Prediction"], None]:
    """Draws each of the first predictions into its file."""
    from atmviz.figures.predictions import draw_detection, draw_segmentation

    drawn: list[Path] = []

    def draw(one: "Prediction") -> None:
        if len(drawn) < _SHOWN:
            function = draw_detection if isinstance(one.found, dict) else draw_segmentation
            path = folder.joinpath(*map(file_name, Path(one.name).parts))
            path = path.with_name(f"{path.name}.png")
            others = (path.with_stem(f"{path.stem}-{number}") for number in count(2))  # a.jpg beside a.png
            path = next(one for one in chain([path], others) if one not in drawn)
            drawn.append(function(one.image, one.truth, one.found, one.classes, path, title=one.name))
            if len(drawn) == _SHOWN:
                say(f"drew the first {_SHOWN} images into {folder}")

    return draw
