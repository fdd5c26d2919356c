"""`atmviz train`."""

import shlex
import signal
from contextlib import AbstractContextManager
from dataclasses import fields
from enum import StrEnum
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from atmviz.architecture import HEAD_TASKS
from atmviz.files import file_name
from atmviz.layers import LayerId
from atmviz.training.recipe import Recipe, read_recipe, recipe_names

from . import options
from .console import METRIC_LABELS, import_matplotlib, is_main_process, print_json, say, say_if_alone, stderr, waiting

if TYPE_CHECKING:
    from atmviz.training import engine
    from atmviz.training.health import OffsetHealth


class TaskChoice(StrEnum):
    CLASSIFY = "classify"
    SEGMENT = "segment"
    DETECT = "detect"


def recipe_with(name: str, settings: dict[str, Any]) -> Recipe:
    """A recipe with those of the options that were given; `--finetune none` and its like take a value back."""
    optional = {one.name for one in fields(Recipe) if one.default is None}
    given = options.given(settings)
    return read_recipe(name, {k: None if v == "none" and k in optional else v for k, v in given.items()})


def exit_if_stopped(by: signal.Signals | None) -> None:
    """Say how a stopped run goes on, and exit as shells expect after that signal."""
    if by:
        say(f"stopped by {by.name} and saved: the same command goes on")
        raise typer.Exit(128 + by)


@options.with_settings(Recipe, overriding=True)
def train(
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help=f"{', '.join(recipe_names())}, or a YAML file. [default: by --task]"),
    ] = None,
    task: Annotated[
        TaskChoice | None, typer.Option("--task", help="Picks the recipe: shapes, shapes_segment, shapes_detect.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/RECIPE-MODEL-SEED without it.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    print_recipe: Annotated[bool, typer.Option("--print-recipe", help="Print all settings as YAML and stop.")] = False,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Train a classifier, a segmenter or a detector by a recipe; each setting below overrides the recipe's.

    Without arguments: the demonstration model, on scenes drawn as it goes. Stopped or killed, the same command goes on.
    """
    if recipe is None:
        wanted = task.value if task else HEAD_TASKS.get(settings["head"], "classify")
        recipe = {"classify": "shapes", "segment": "shapes_segment", "detect": "shapes_detect"}[wanted]
    chosen = recipe_with(recipe, settings)
    if task and chosen.task != task.value:
        raise typer.BadParameter(
            f"got --task {task.value} and {chosen.architecture}, which is to {chosen.task}: leave one of the two out"
        )
    if print_recipe:
        typer.echo(chosen.to_yaml(), nl=False)
        return
    parts = (Path(recipe).stem, *(["atmfpn"] if chosen.neck == "atmfpn" else []), chosen.model, chosen.seed)
    if chosen.head and chosen.head not in recipe:
        parts = (parts[0], chosen.head, *parts[1:])
    folder = out or Path("runs") / file_name("-".join(map(str, parts)))
    with waiting("starting"):
        import_matplotlib()
        from atmviz.training import engine
    say_if_alone()
    say(f"training {chosen.architecture} on {chosen.dataset} into {folder}")
    with TrainingConsole() as console:
        result = engine.train(chosen, folder, device=device, reporter=console.reporter(engine.Reporter))
    exit_if_stopped(result.stopped)
    best = next((row for row in result.history if row[result.headline] == result.best), result.history[-1])
    say(f"best epoch {best['epoch']}: {_metrics(best)}")
    say(f"weights: {folder / 'best.safetensors'}; evaluate with: {_eval_command(chosen, folder)}")
    if as_json and is_main_process():
        print_json({"out": str(folder), "best": best, "epochs": result.history})


def _eval_command(recipe: Recipe, folder: Path) -> str:
    """What evaluates a run's weights, from any folder."""
    from atmviz.data.images import DATASET_LAYOUTS, data_folder
    from atmviz.training.evaluate import OFFLINE

    words = ["atmviz", "eval", str(folder.absolute() / "best.safetensors")]
    if recipe.dataset not in OFFLINE:
        words += ["--dataset", recipe.dataset]
    if recipe.data_dir or recipe.dataset in ("folder", *DATASET_LAYOUTS):
        words += ["--data-dir", str(data_folder(recipe.data_dir).absolute())]
    return shlex.join(words)


class TrainingConsole(AbstractContextManager["TrainingConsole"]):
    """A progress line on a terminal, one line per epoch anywhere."""

    def __init__(self) -> None:
        text = "epoch {task.fields[epoch]}  loss {task.fields[loss]:.3f}{task.fields[more]}"
        columns = (TextColumn(text), BarColumn(), TextColumn("{task.fields[rate]:.0f} images/s"), TimeRemainingColumn())
        self.progress = Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True)
        self.task: TaskID | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def reporter(self, base: "type[engine.Reporter]") -> "engine.Reporter":
        console = self

        class Reporter(base):  # type: ignore[misc, valid-type]
            def message(self, text: str) -> None:
                say(text)

            def update(self, now: "engine.Progress") -> None:
                console.show(now)

            def epoch(self, row: dict[str, float], health: "list[OffsetHealth]") -> None:
                say(_epoch_line(row, health))
                for one in health:
                    if one.complaint:
                        say(f"  warning: {one.complaint}")

        return Reporter()

    def show(self, now: "engine.Progress") -> None:
        done, total = (now.epoch - 1) * now.updates + now.update, now.epochs * now.updates
        shown: dict[str, Any] = {
            "epoch": f"{now.epoch}/{now.epochs}",
            "loss": now.means["loss"],
            "more": f"  top-1 {now.means['top1']:.1f} %" if "top1" in now.means else "",
            "rate": now.rate,
        }
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task("", total=total, completed=done, **shown)
        self.progress.update(self.task, completed=done, **shown)


def _epoch_line(row: dict[str, float], health: "list[OffsetHealth]") -> str:
    text = f"epoch {row['epoch']:>3}: loss {row['train_loss']:.3f}, {_metrics(row)}"
    if health:
        stages = sorted({LayerId.parse(one.layer).stage for one in health})
        means = [[one.mean_abs for one in health if LayerId.parse(one.layer).stage == stage] for stage in stages]
        text += "; mean |offset| by stage " + " ".join(f"{sum(m) / len(m):.2f}" for m in means)
    return text


def _metrics(row: dict[str, float]) -> str:
    """The validation part of a row of the log."""
    found = []
    for name, label in METRIC_LABELS.items():
        if f"val_{name}" in row and not name.endswith(("_small", "_medium", "_large")):
            value = row[f"val_{name}"]
            shown = "–" if isnan(value) else f"{value:.2f} %"  # nothing of it was there to find
            found.append(f"validation loss {value:.3f}" if name == "loss" else f"{label} {shown}")
    return ", ".join(sorted(found, key=lambda text: not text.startswith("validation")))
