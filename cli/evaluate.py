"""`atmviz eval`."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atmviz.choices import ModelChoice
from atmviz.data.names import require_labeled
from atmviz.errors import count
from atmviz.files import check_writable, write_csv
from atmviz.layers import Layers
from atmviz.training.evaluation_settings import EvaluationSettings

from . import options
from .console import (
    METRIC_LABELS,
    import_matplotlib,
    is_main_process,
    print_json,
    print_line,
    print_rows,
    say,
    say_if_alone,
    waiting,
)
from .progress import ProgressConsole

if TYPE_CHECKING:
    from atmviz.training.evaluate import EvaluationResult

_CLASS_LABELS = {"iou": "IoU", "acc": "accuracy", **METRIC_LABELS}


@options.with_settings(EvaluationSettings, without=("weights", "confusion"))
def evaluate(
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    weights: Annotated[
        Literal["ema", "model", "both"] | None,
        typer.Option(help="ema (averaged), model or both; by default ema if the file has it."),
    ] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Draw the confusion matrix into a .png, .pdf or .svg file."),
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Segmentation and detection: draw predictions beside labels, of the first 24 images.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.csv",
            dir_okay=False,
            help="Also write the results as CSV; those of --per-class go to FILE-classes.csv.",
        ),
    ] = None,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Evaluate a classifier (top-1, top-5), a segmenter (mIoU) or a detector (COCO's AP) on a dataset.

    Processes of torchrun share the images. No image is counted twice.
    """
    require_inputs(checkpoint, settings)
    _require_writable(out, ".csv")
    _require_writable(confusion, ".png", ".pdf", ".svg")
    _require_writable(show and show / "image.png")
    say_if_alone()
    with waiting("starting"):
        import_matplotlib()
        from atmviz.figures.confusion import draw_confusion
        from atmviz.figures.predictions import PredictionFolder
        from atmviz.training import evaluate as library

    results: list[EvaluationResult] = []
    kinds: list[Any] = ["ema", "model"] if weights == "both" else [weights]
    for kind in kinds:
        suffix = kind if len(kinds) > 1 else ""
        drawn = PredictionFolder(show / suffix) if show else None
        with ProgressConsole("loading the model", "evaluating") as events:
            result = library.evaluate(
                checkpoint,
                weights=kind,
                confusion=confusion is not None,
                events=events,
                on_prediction=drawn,
                **options.given(settings),
            )
        results.append(result)
        if drawn:  # in every process: each draws the first of its images
            print_line(f"wrote {count(len(drawn.drawn), 'image')} into {drawn.folder}")
        if confusion and result.confusion is not None and is_main_process():
            path = confusion.with_stem(f"{confusion.stem}-{suffix}") if suffix else confusion
            draw_confusion(result.confusion, result.classes, path, title=result.title)
            say(f"wrote {path}")
    if not is_main_process():
        return
    rows, paper = [result.row for result in results], results[0].paper  # the same for both weights
    if out:
        _write(out, results)
    if as_json:
        pairs = zip(rows, results, strict=True)
        print_json([row | {"paper": paper} | ({"per_class": x.class_rows} if x.per_class else {}) for row, x in pairs])
    else:
        _show(rows, paper)
        if results[0].per_class:
            _show_classes(results)


def _write(out: Path, results: "list[EvaluationResult]") -> None:
    """Write the results as CSV, the paper's values as further columns, and those of classes into a second file."""
    printed = {
        f"{metric} ({source})": value for source, values in results[0].paper.items() for metric, value in values.items()
    }
    write_csv(out, [result.row | printed for result in results])
    say(f"wrote {out}")
    if results[0].per_class:
        path = out.with_stem(f"{out.stem}-classes")
        write_csv(path, [{"weights": x.setup["weights"], **row} for x in results for row in x.class_rows])
        say(f"wrote {path}")


def _digits(images: int) -> int:
    """Return the decimals of a percentage that so many images support; files have all."""
    return 1 if images < 10_000 else 3


def _show_classes(results: "list[EvaluationResult]") -> None:
    """Print a table with a row per class and a column per metric, for each of the weights."""
    metrics = list(results[0].per_class)
    suffixes = [f", {result.setup['weights']}" if len(results) > 1 else "" for result in results]
    headings = ("class", *(f"{_CLASS_LABELS[name]} (%){suffix}" for suffix in suffixes for name in metrics))
    rows = zip(*(result.class_rows for result in results), strict=True)
    values = ([row[name] for row in of_class for name in metrics] for of_class in rows)
    digits = _digits(results[0].images)
    shown = ([None if isnan(value) else f"{value:.{digits}f}" for value in of_class] for of_class in values)
    print_rows("by class", headings, ([name, *cells] for name, cells in zip(results[0].classes, shown, strict=True)))


def require_inputs(checkpoint: str, settings: dict[str, Any], layers: Layers = ()) -> None:
    """Check without torch that checkpoint, layers and dataset are there."""
    ModelChoice(checkpoint=checkpoint).require(layers)
    if settings["dataset"]:
        require_labeled(settings["dataset"], settings["data_dir"], settings["split"] or "val")


def _require_writable(path: Path | None, *suffixes: str) -> None:
    """Check before long work that a file can be written and has one of the suffixes."""
    if path and suffixes and path.suffix not in suffixes:
        raise typer.BadParameter(f"got {path}, expected a name ending in {' or '.join(suffixes)}")
    if path:
        check_writable(path)


def _show(rows: list[dict[str, Any]], paper: dict[str, dict[str, str]]) -> None:
    """Print a table with a row per metric, because a detector's twelve would not fit beside each other."""
    first = rows[0]
    cells: list[list[Any]] = [
        [heading, *(row[name] for row in rows), *("" for _ in paper)]
        for heading, name in (("offsets", "offsets"), ("size (px)", "size"))
    ]
    for name in (metric for metric in METRIC_LABELS if metric in first):
        percent = _digits(first["images"])
        label, digits = (METRIC_LABELS[name], 4) if name == "loss" else (f"{METRIC_LABELS[name]} (%)", percent)
        values = (None if isnan(row[name]) else f"{row[name]:.{digits}f}" for row in rows)
        cells.append([label, *values, *(source.get(name, "") for source in paper.values())])
    images = f"{first['images']} image{'s' * (first['images'] != 1)}"
    scales = ", multi-scale" if first.get("multi_scale") else ""
    print_rows(
        f"{first['model']} on {first['dataset']} {first['split']}, {images}{scales}",
        ("weights", *(row["weights"] for row in rows), *paper),
        cells,
        f"as printed by the paper and its authors, for all validation images of {first['dataset']}" if paper else None,
    )
