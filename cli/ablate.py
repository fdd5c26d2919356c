"""`atmviz ablate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atmviz.architecture import NETWORK_OPTIONS
from atmviz.training.recipe import DENSE_SETTINGS, Recipe

from . import completion, options
from .console import import_matplotlib, is_main_process, print_json, print_rows, waiting
from .training import TrainingConsole, exit_if_stopped, read_chosen


@options.with_settings(Recipe, without=(*NETWORK_OPTIONS, "seed", *DENSE_SETTINGS), overriding=True)
def ablate(
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="Recipe that all runs share.", autocompletion=completion.recipes)
    ] = "ablation",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; finished ones are kept.")] = Path(
        "runs/ablation"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Runs per ablation, with seeds 0, 1, ...")] = 3,
    device: options.TrainingDevice = "auto",
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Train the ablations of Table 8 and Fig. 2 at a small size, and print them beside the paper's numbers.

    After a stop, the same command resumes.
    """
    chosen = read_chosen(recipe, settings, device)
    with waiting("starting"):
        import_matplotlib()
        from atmviz.training import ablation
    with TrainingConsole() as console:
        results, stopped = ablation.ablate(chosen, out, range(seeds), device=device, events=console)
    exit_if_stopped(stopped)
    if not is_main_process():
        return
    if as_json:
        print_json([{**vars(x.ablation), "top1": x.top1, "mean": x.mean, "std": x.spread} for x in results])
        return
    print_rows(
        f"{chosen.model} on {chosen.dataset} at {chosen.image_size} px, {chosen.epochs} epochs",
        ("ablation", "in the paper", "top-1 (%)", "paper's top-1 (%)"),
        ((x.ablation.name, x.ablation.where, f"{x.mean:.2f} ± {x.spread:.2f}", x.ablation.paper_top1) for x in results),
        f"mean ± standard deviation over {seeds} seeds; the paper's values are for ImageNet-1K\n"
        "Fig. 2's A and B have one offset per channel, by their FLOPs",
        texts=2,
    )
