"""What the commands that train share: recipe options, progress, the lines of an epoch."""

import signal
from contextlib import AbstractContextManager
from dataclasses import fields
from itertools import groupby
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from atmviz import events
from atmviz.errors import RecipeError, SettingsError
from atmviz.layers import LayerId
from atmviz.training.recipe import Recipe, require_device
from atmviz.training.recipe_files import read_recipe

from . import options
from .console import CONSOLE, METRIC_LABELS, ConsoleEvents, say, stderr

if TYPE_CHECKING:
    from atmviz.training.health import OffsetHealth


def read_chosen(name: str, settings: dict[str, Any], device: str, is_complete: bool = True) -> Recipe:
    """Return a recipe with the settings that were given; `--finetune none` and its like take a value back.

    Raises:
        SettingsError: a given setting is at fault, or one is missing.
        RecipeError: the recipe itself is at fault.
    """
    optional = {declared.name for declared in fields(Recipe) if declared.default is None}
    values = {k: None if v == "none" and k in optional else v for k, v in options.given(settings).items()}
    try:
        recipe = read_recipe(name, values, is_complete=is_complete, events=CONSOLE)
    except RecipeError as error:
        read_recipe(name, is_complete=False)
        raise SettingsError(str(error)) from None
    require_device(device)
    return recipe


def exit_if_stopped(by: signal.Signals | None) -> None:
    """Say how a stopped run is resumed, and exit as shells expect after that signal."""
    if by:
        say(f"stopped by {by.name} and saved: run the same command to resume")
        raise typer.Exit(128 + by)


class TrainingConsole(ConsoleEvents, AbstractContextManager["TrainingConsole"]):
    """Shows a progress line on a terminal, one line per epoch anywhere."""

    def __init__(self) -> None:
        super().__init__()
        text = "epoch {task.fields[epoch]}  loss {task.fields[loss]:.3f}{task.fields[more]}"
        columns = (TextColumn(text), BarColumn(), TextColumn("{task.fields[rate]:.0f} images/s"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True)
        self.task: TaskID | None = None

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, progress: events.Progress) -> None:
        done = (progress.epoch - 1) * progress.updates + progress.update
        total = progress.epochs * progress.updates
        shown: dict[str, Any] = {
            "epoch": f"{progress.epoch}/{progress.epochs}",
            "loss": progress.means["loss"],
            "more": f"  top-1 {progress.means['top1']:.1f} %" if "top1" in progress.means else "",
            "rate": progress.rate,
        }
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("", total=total, completed=done, **shown)
        self.bar.update(self.task, completed=done, **shown)

    def epoch(self, row: dict[str, float], health: "list[OffsetHealth]") -> None:
        say(epoch_line(row, health))
        for layer in health:
            if layer.warning:
                say(f"  warning: {layer.warning}")


def epoch_line(row: dict[str, float], health: "list[OffsetHealth]") -> str:
    """Return an epoch's row of the log as one line."""
    text = f"epoch {row['epoch']:>3}: loss {row['train_loss']:.3f}, {metrics_line(row)}"
    layers = ((LayerId.parse(layer.layer), layer.mean_abs) for layer in health)
    if by_stage := sorted((layer.stage, mean) for layer, mean in layers if not layer.unit):  # without a neck's
        means = (fmean(mean for _, mean in layers) for _, layers in groupby(by_stage, lambda pair: pair[0]))
        text += "; mean |offset| by stage " + " ".join(f"{mean:.2f}" for mean in means)
    return text


def metrics_line(row: dict[str, float]) -> str:
    """Return the validation metrics of a row of the log as part of a line."""
    parts = []
    for name, label in METRIC_LABELS.items():
        if f"val_{name}" in row and not name.endswith(("_small", "_medium", "_large")):
            value = row[f"val_{name}"]
            shown = "–" if isnan(value) else f"{value:.2f} %"  # NaN: there was no object to detect
            parts.append(f"validation loss {value:.3f}" if name == "loss" else f"{label} {shown}")
    return ", ".join(sorted(parts, key=lambda text: not text.startswith("validation")))
