"""What the shell offers for the values of options; where nothing fits, it offers files."""

from collections.abc import Callable, Iterable
from typing import Any

import typer

from atmviz.files import BUNDLED_CHECKPOINTS
from atmviz.layers import offset_sources
from atmviz.variants import VARIANTS


def _starting(names: Iterable[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.lower().startswith(incomplete.lower())]

    return complete


def recipes(incomplete: str) -> list[str]:
    """Return the recipes of the package that begin so."""
    from atmviz.training.recipe_files import recipe_names

    return _starting(recipe_names())(incomplete)


def datasets(incomplete: str) -> list[str]:
    """Return the datasets that begin so and that networks are trained and evaluated on."""
    from atmviz.sources import DATASETS

    return _starting([*DATASETS, "folder"])(incomplete)


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the layers of the checkpoint that was named, if it is a variant, that begin as the last of a list."""
    name = str(ctx.params.get("checkpoint") or BUNDLED_CHECKPOINTS[0]).split(".")[0]
    variant = VARIANTS.get(name)
    named = map(str, offset_sources(variant.depths, variant.offset_interval)) if variant else ()
    known = ["all", "generating", *(f"{stage}_last" for stage in range(1, 5)), *named]
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + layer for layer in _starting(known)(last)]


models = _starting(VARIANTS)
checkpoints = _starting((*BUNDLED_CHECKPOINTS, *VARIANTS))
queries = _starting(("center", "grid:4x4", "random:8"))
fixed_query = _starting(("center",))
BY_NAME: dict[str, Any] = {
    "checkpoint": checkpoints,
    "model": models,
    "layers": layers,
    "queries": queries,
    "query": fixed_query,
    "dataset": datasets,
}
"""What completes an option that is made of a setting, by the setting's name."""
