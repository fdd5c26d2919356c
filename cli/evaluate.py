"""`atmviz eval`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from . import options
from .console import image_progress, is_main_process, print_json, say, stdout, waiting


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
        typer.Option(help="imagenet, folder, shapes, digits or a timm reader; else what it was trained on."),
    ] = None,
    data_dir: options.DataDir = None,
    split: options.SplitOption = options.Split.VAL,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    size: Annotated[int | None, typer.Option(min=32, help="Side of the input, px; 224, or that of training.")] = None,
    crop_pct: Annotated[float | None, typer.Option(min=0.01, max=1, help="Part of the resized image to crop.")] = None,
    weights: Annotated[
        EvalWeights | None, typer.Option(help="EMA where the file has them; both evaluates one after the other.")
    ] = None,
    offsets: Annotated[
        OffsetsChoice, typer.Option(help="zero: read the query token itself; shuffle: another token's offsets.")
    ] = OffsetsChoice.LEARNED,
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffled positions.")] = 0,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 64,
    workers: options.Workers = None,
    confusion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Draw the confusion matrix: a .png, .pdf or .svg file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.csv", dir_okay=False, help="Write the results as CSV.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Evaluate a classifier: top-1 and top-5 over exactly the images of a dataset.

    Several processes of torchrun share the images; none is counted twice.
    """
    if confusion and confusion.suffix not in (".png", ".pdf", ".svg"):
        raise typer.BadParameter(f"got --confusion {confusion}, expected a name ending in .png, .pdf or .svg")
    with waiting("loading the model"):
        from atmviz.training.evaluate import evaluate_checkpoint

    kinds: list[Any] = ["ema", "model"] if weights == EvalWeights.BOTH else [weights.value if weights else None]
    rows: list[dict[str, Any]] = []
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
                offsets=offsets.value,
                seed=seed,
                limit=limit,
                device=device,
                batch_size=batch_size,
                workers=workers,
                confusion=confusion is not None,
                report=say,
                on_images=on_images,
            )
        rows.append(found.row)
        if confusion and found.evaluation.confusion is not None and is_main_process():
            from atmviz.figures.confusion import draw_confusion

            place = confusion.with_stem(f"{confusion.stem}-{kind}") if len(kinds) > 1 else confusion
            draw_confusion(
                found.evaluation.confusion, found.classes, place, title=f"{found.row['model']}, {found.row['dataset']}"
            )
            say(f"wrote {place}")
    if not is_main_process():
        return
    if out:
        from atmviz.files import write_csv

        write_csv(out, rows)
        say(f"wrote {out}")
    if as_json:
        print_json(rows)
        return
    stdout.print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    first = rows[0]
    table = Table(title=f"{first['model']} on {first['dataset']} {first['split']}, {first['images']} images")
    for heading in ("weights", "offsets", "size", "top-1 (%)", "top-5 (%)", "loss"):
        table.add_column(heading, justify="left" if heading in ("weights", "offsets") else "right")
    for row in rows:
        accuracies = (f"{row['top1']:.3f}", f"{row['top5']:.3f}", f"{row['loss']:.4f}")
        table.add_row(row["weights"], row["offsets"], str(row["size"]), *accuracies)
    return table
