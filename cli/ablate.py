"""`atmviz ablate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from atmviz.architecture import NETWORK_OPTIONS
from atmviz.training.recipe import DENSE_SETTINGS, Recipe

from . import options
from .console import import_matplotlib, is_main_process, print_json, print_table, say, waiting
from .train import TrainingConsole, exit_if_stopped, recipe_with


@options.with_settings(Recipe, without=(*NETWORK_OPTIONS, "seed", *DENSE_SETTINGS), overriding=True)
def ablate(
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="What the runs have in common.")] = "ablation",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; finished ones are kept.")] = Path(
        "runs/ablation"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Runs per ablation, with the seeds 0, 1, ...")] = 3,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    as_json: options.JsonOption = False,
    **settings: Any,
) -> None:
    """Train Table 8's rows and Fig. 2's A and B at a small size, and print them beside the paper's numbers.

    Stopped or killed, the same command goes on.
    """
    chosen = recipe_with(recipe, settings)
    with waiting("starting"):
        import_matplotlib()
        from atmviz.training import ablation, engine
    with TrainingConsole() as console:
        results, stopped = ablation.ablate(
            chosen,
            out,
            range(seeds),
            device=device,
            reporter=console.reporter(engine.Reporter),
            on_run=lambda name, seed: say(f"{name}, seed {seed}"),
        )
    exit_if_stopped(stopped)
    if not is_main_process():
        return
    if as_json:
        print_json([{**vars(one.ablation), "top1": one.top1, "mean": one.mean, "std": one.spread} for one in results])
        return
    table = Table(title=f"{chosen.model} on {chosen.dataset} at {chosen.image_size} px, {chosen.epochs} epochs")
    for heading in ("ablation", "in the paper", "top-1 (%)", "its top-1 (%)"):
        table.add_column(heading, justify="right" if "top-1" in heading else "left")
    for one in results:
        paper = f"{one.ablation.paper_top1:.1f}" if one.ablation.paper_top1 else "–"
        table.add_row(one.ablation.name, one.ablation.where, f"{one.mean:.2f} ± {one.spread:.2f}", paper)
    table.caption = (
        f"mean ± standard deviation over {seeds} seeds; the paper's are of ImageNet-1K\n"
        "Fig. 2's A and B have one offset per channel, by their FLOPs"
    )
    print_table(table)
