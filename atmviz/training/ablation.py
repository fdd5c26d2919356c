"""The paper's ablations at a small size: Table 8's three rows and Fig. 2's two other ways to sample."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from atmviz.architecture import NETWORK_OPTIONS
from atmviz.errors import RecipeError
from atmviz.events import QUIET, Events
from atmviz.files import write_csv
from atmviz.training.loop import train
from atmviz.training.recipe import Recipe


@dataclass(frozen=True)
class Ablation:
    """One way to build the network.

    Attributes:
        name: Name in tables and folders.
        where: Where the paper reports it.
        settings: Recipe settings that it changes.
        paper_top1: Top-1 on ImageNet-1K as printed (Table 8: ATMNet-T; Fig. 2: ATMNet-xT), None where it is only drawn.
    """

    name: str
    where: str
    settings: Mapping[str, Any]
    paper_top1: float | None


ABLATIONS = (
    Ablation("zero offsets, no PEG", "Table 8, 1", {"offset_mode": "zero", "peg": False}, 79.3),
    Ablation("no PEG", "Table 8, 2", {"peg": False}, 82.0),
    Ablation("full", "Table 8, 3; Fig. 2", {}, 82.0),
    # One offset per channel: with it B costs ATMNet-xT the +50 % of Sec. 4.5, and A is "very close"
    Ablation("not decoupled", "Fig. 2, A", {"offset_mode": "joint", "channels_per_offset": 1}, None),
    Ablation("3 samples", "Fig. 2, B", {"num_samples": 3, "channels_per_offset": 1}, 79.9),  # 79.7 + 0.2
)


@dataclass
class AblationResult:
    """Validation top-1 in percent after the last epoch: `top1` has one value per finished seed."""

    ablation: Ablation
    top1: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean top-1 over the seeds, %."""
        return fmean(self.top1) if self.top1 else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds (n - 1)."""
        return stdev(self.top1) if len(self.top1) > 1 else float("nan")


def ablate(
    recipe: Recipe,
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    ablations: Sequence[Ablation] = ABLATIONS,
    device: str = "auto",
    events: Events = QUIET,
) -> tuple[list[AblationResult], signal.Signals | None]:
    """Train every ablation with every seed, seed by seed, so that an early end leaves comparable numbers.

    Args:
        recipe: Settings that all runs share.
        out: Folder of the runs and of ablation.csv; finished runs in it are read, others resume.
        seeds: Seeds of weights, order and synthetic images; validation images are the same for all.
        ablations: Which ablations to train.
        device: See `train`.
        events: Receives the name and seed of each run, then what `train` reports.

    Returns:
        One result per ablation, and the signal that stopped the runs, if one did.

    Raises:
        RecipeError, TrainingError, DatasetError: see `train`.
    """
    if recipe.task != "classify":
        raise RecipeError(f"got {recipe.architecture} to ablate, expected a classifier: leave the head out")
    out = Path(out)
    results = [AblationResult(ablation) for ablation in ablations]
    for seed in seeds:
        for result in results:
            name = result.ablation.name
            events.message(f"{name}, seed {seed}")
            variant = recipe.override({**NETWORK_OPTIONS, **result.ablation.settings, "seed": seed})
            folder = out / f"{name.replace(', ', '_').replace(' ', '_')}-{seed}"
            run = train(variant, folder, device=device, events=events)
            if run.stopped:
                return results, run.stopped
            result.top1.append(run.history[-1]["val_top1"])
            write_csv(out / "ablation.csv", [_row(result) for result in results])
    return results, None


def _row(result: AblationResult) -> dict[str, Any]:
    return {
        "ablation": result.ablation.name,
        "where": result.ablation.where,
        "seeds": len(result.top1),
        "top1_mean": result.mean,
        "top1_std": result.spread,
        "top1": " ".join(f"{value:.2f}" for value in result.top1),
        "paper_top1": result.ablation.paper_top1,
    }
