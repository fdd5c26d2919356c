"""`atmviz eval`."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from atmviz.files import check_writable, write_csv
from atmviz.training.evaluation_settings import EvaluationSettings

from . import options
from .console import (
    METRIC_LABELS,
    import_matplotlib,
    is_main_process,
    print_json,
    print_table,
    say,
    say_if_alone,
    waiting,
)
from .progress import shown

if TYPE_CHECKING:
    from atmviz.training.evaluate import EvaluationResult


@options.with_settings(EvaluationSettings, without=("weights", "confusion"))
def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint file of any layout, or a variant's name.")
    ] = options.DEFAULT_MODEL,
    weights: Annotated[
        Literal["ema", "model", "both"] | None,
        typer.Option(help="Which weights; averaged ones if the file has them. both: one after the other."),
    ] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Draw the confusion matrix: a .png, .pdf or .svg file."),
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Draw predictions beside labels: the first 24 images."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.csv", dir_okay=False, help="Write the results as CSV.")
    ] = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Evaluate a classifier (top-1, top-5), a segmenter (mIoU) or a detector (COCO's AP) on a dataset.

    Several processes of torchrun share the images; none is counted twice.
    """
    _require_files(out, confusion, show)
    say_if_alone()
    with waiting("starting"):
        import_matplotlib()
        from atmviz.figures.predictions import PredictionFolder
        from atmviz.training import evaluate as library

    kinds: list[Any] = ["ema", "model"] if weights == "both" else [weights]
    results: list[EvaluationResult] = []
    for kind in kinds:
        suffix = kind if len(kinds) > 1 else ""
        with shown("loading the model", "evaluating") as events:
            result = library.evaluate(
                checkpoint,
                weights=kind,
                confusion=confusion is not None,
                events=events,
                on_prediction=PredictionFolder(show / suffix, events=events) if show else None,
                **options.given(settings),
            )
        results.append(result)
        if confusion and is_main_process():
            _draw_confusion(result, confusion.with_stem(f"{confusion.stem}-{kind}") if suffix else confusion)
    if not is_main_process():
        return
    rows, paper = [result.row for result in results], results[0].paper  # the same for both weights
    if out:
        write_csv(out, rows)
        say(f"wrote {out}")
    if as_json:
        print_json([{**row, "paper": paper} for row in rows])
        return
    print_table(_table(rows, paper))


def _draw_confusion(result: "EvaluationResult", path: Path) -> None:
    from atmviz.figures.confusion import draw_confusion

    if result.confusion is not None:
        draw_confusion(result.confusion, result.classes, path, title=result.title)
        say(f"wrote {path}")


def _require_files(out: Path | None, confusion: Path | None, show: Path | None) -> None:
    """See that the results can be written, before long work."""
    if confusion and confusion.suffix not in (".png", ".pdf", ".svg"):
        raise typer.BadParameter(f"got --confusion {confusion}, expected a name ending in .png, .pdf or .svg")
    for path in (out, confusion, show and show / "image.png"):
        if path:
            check_writable(path)
    if out and out.suffix != ".csv":
        raise typer.BadParameter(f"got --out {out}, expected a name ending in .csv")


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
    for name in (metric for metric in METRIC_LABELS if metric in first):
        values = ("–" if isnan(row[name]) else f"{row[name]:.{4 if name == 'loss' else 3}f}" for row in rows)
        printed = (source.get(name, "") for source in paper.values())
        table.add_row(METRIC_LABELS[name] + (" (%)" if name != "loss" else ""), *values, *printed)
    if paper:
        table.caption = f"as printed by the paper and its authors, for all validation images of {first['dataset']}"
    return table
