"""`atmviz train`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.architecture import Task
from atmviz.data.names import require_labeled
from atmviz.files import find_checkpoint
from atmviz.training.recipe import Recipe
from atmviz.training.recipe_files import default_folder, default_recipe, recipe_names

from . import completion, options
from .console import import_matplotlib, is_main_process, print_json, say, say_if_alone, waiting
from .training import TrainingConsole, exit_if_stopped, metrics_line, read_chosen


@options.with_settings(Recipe, overriding=True)
def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            *("--recipe", "-r"),
            help=f"{', '.join(recipe_names())}, or a YAML file. Default: that of --task.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    task: Annotated[
        Task | None, typer.Option("--task", help="Choose recipe shapes, shapes_segment or shapes_detect.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run. Default: runs/RECIPE-MODEL-SEED.")
    ] = None,
    device: options.TrainingDevice = "auto",
    print_recipe: Annotated[bool, typer.Option("--print-recipe", help="Print all settings as YAML and stop.")] = False,
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Train a classifier, a segmenter or a detector by a recipe; options override its settings.

    Without options, train the demonstration model on synthetic images. After a stop, the same command resumes.
    """
    name = recipe or default_recipe(task, settings["head"])
    chosen = read_chosen(name, settings, device, is_complete=not print_recipe)
    if task and chosen.task != task:
        raise typer.BadParameter(
            f"got --task {task} and {chosen.architecture}, which is to {chosen.task}: leave one of the two out"
        )
    if print_recipe:
        typer.echo(chosen.to_yaml(), nl=False)
        return
    require_labeled(chosen.dataset, chosen.data_dir, "train", "val")
    if chosen.finetune:
        find_checkpoint(chosen.finetune, random=False)
    folder = out or default_folder(name, chosen)
    with waiting("starting"):
        import_matplotlib()
        from atmviz.training import loop
    say_if_alone()
    with TrainingConsole() as console:
        result = loop.train(chosen, folder, device=device, events=console)
    exit_if_stopped(result.stopped)
    best = result.best_row
    say(f"best epoch {best['epoch']}: {metrics_line(best)}")
    say(f"weights: {folder / 'best.safetensors'}; evaluate with: {_eval_command(chosen, folder)}")
    if as_json and is_main_process():
        print_json({"out": str(folder), "best": best, "epochs": result.history})


def _eval_command(recipe: Recipe, folder: Path) -> str:
    """Return the command that evaluates a run's weights, for any working folder."""
    from atmviz.sources import PUBLIC_DATASETS, data_folder
    from atmviz.training.evaluate import OFFLINE

    words = ["atmviz", "eval", str(folder.absolute() / "best.safetensors")]
    if recipe.dataset not in OFFLINE:
        words += ["--dataset", recipe.dataset]
    if recipe.data_dir or recipe.dataset in ("folder", *PUBLIC_DATASETS):
        words += ["--data-dir", str(data_folder(recipe.data_dir).absolute())]
    return shlex.join(words)
