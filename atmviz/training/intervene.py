"""What learned offsets are worth: a network is evaluated again and again, each time with other offsets.

The network is not retrained: a change is what this network loses, not what a network trained so would lack.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from atmviz.architecture import Task
from atmviz.checkpoints import Origin
from atmviz.distributed import as_launched
from atmviz.errors import DatasetError, SettingsError, count
from atmviz.events import QUIET, Events
from atmviz.observe.hooks import find_sites, observing
from atmviz.observe.interventions import Intervention, References, edits_of, group_sites
from atmviz.observe.references import MeanOffsets, OtherOffsets
from atmviz.observe.site import Site
from atmviz.sources.source import Split
from atmviz.statistics.intervals import holm
from atmviz.statistics.paired import paired_change
from atmviz.training.evaluate import HEADLINES, OpenEvaluation, open_evaluation, open_images
from atmviz.training.evaluation import Evaluation, batches_of, evaluate_network, number_of_images, share_of
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.evaluator import Evaluator
from atmviz.training.evaluators import open_evaluator
from atmviz.training.intervention_settings import InterventionSettings

DEFINITION = "intervention/1"
_DENSE = ("zero", "mirror", "constant", "shuffle", "swap", "clamp:1", "round")
DEFAULTS: dict[Task, tuple[str, ...]] = {
    "classify": ("zero", "mirror", "constant", "position", "other", "shuffle", "swap", "clamp:1", "round"),
    "segment": _DENSE,  # whose images, and maps, differ in size
    "detect": _DENSE,
}
"""What is done where nothing is asked for."""


@dataclass(frozen=True)
class InterventionResult:
    """What interventions change.

    Attributes:
        origin: Where the weights of the network came from.
        setup: What was evaluated on what: checkpoint, model, weights, dataset, split, images, size, ...; "calibration"
            has the split and number of the images that means were taken over, None where none were.
        rows: For each intervention and group of layers: intervention, layer, metric, value, baseline and change, in
            percent; low and high, the ends of the change's 95 % interval; p, and p_corrected by Holm over all rows;
            n_images; definition. NaN where there is none.
    """

    origin: Origin
    setup: dict[str, Any]
    rows: list[dict[str, Any]]


@as_launched()
def measure_interventions(
    checkpoint: str | Path,
    asked: InterventionSettings,
    settings: EvaluationSettings,
    *,
    events: Events = QUIET,
) -> InterventionResult:
    """Evaluate a network with learned offsets, then with each intervention on each group of layers.

    Args:
        checkpoint: See `evaluate`.
        asked: Interventions and layers.
        settings: What to evaluate on, and how; see `evaluate`.
        events: Receives messages, and how many images of all evaluations are done.

    Raises:
        SettingsError: no images are left for calibration or there is no other image; or images differ in size and an
            intervention needs one.
        LayerNotFoundError: the network has no such layer.
        CheckpointError, DatasetError, AtmvizError: see `evaluate`.
    """
    if settings.offsets != "learned":
        raise SettingsError(f"got offsets {settings.offsets!r} beside interventions, expected one of the two")
    opened = open_evaluation(checkpoint, settings, events)
    sites = find_sites(opened.network)
    sources = {site.source for site in find_sites(opened.network, asked.layers)}
    groups = group_sites([site for site in sites if site.source in sources], asked.by)
    if asked.by is None and len(sources) < len({site.source for site in sites}):
        groups = {", ".join(site.name for site in sites if site.name in sources): groups["all"]}
    chosen = [Intervention.parse(text) for text in asked.do or DEFAULTS[opened.task]]
    if number_of_images(opened.images, opened.settings) < 2 and any(each.kind.name == "other" for each in chosen):
        raise SettingsError("got 1 image to evaluate on, expected 2 or more for other")
    run = _Run(opened, asked, _Passes(events, 1 + len(chosen) * len(groups)))
    calibration = run.calibrate(sites, {each.kind.name for each in chosen}, events)
    baseline = run.evaluate()
    rows = []
    for intervention in chosen:
        for name, group in groups.items():
            evaluation = run.evaluate(intervention, group)
            row = {"intervention": str(intervention), "layer": name}
            rows.append(row | _describe_change(baseline, evaluation, HEADLINES[opened.task]))
    corrected = holm(np.array([row["p"] for row in rows]))
    rows = [
        {**row, "p_corrected": float(p), "n_images": baseline.images, "definition": DEFINITION}
        for row, p in zip(rows, corrected, strict=True)
    ]
    setup = {name: value for name, value in opened.setup(baseline.images).items() if name != "offsets"}
    return InterventionResult(opened.origin, {**setup, "seed": settings.seed, "calibration": calibration}, rows)


def _describe_change(baseline: Evaluation, evaluation: Evaluation, metric: str) -> dict[str, Any]:
    before, after = baseline.metrics[metric], evaluation.metrics[metric]
    assert baseline.outcomes is not None
    assert evaluation.outcomes is not None
    change, p = paired_change(after - before, baseline.outcomes, evaluation.outcomes)
    return {
        **{"metric": metric, "value": after, "baseline": before, "change": after - before},
        **{"low": change.low, "high": change.high, "p": p},
    }


class _Passes(Events):
    """Reports the images of several evaluations in turn as those of one."""

    def __init__(self, events: Events, passes: int) -> None:
        self.events, self.passes, self.before = events, passes, 0

    def images(self, done: int, total: int) -> None:
        self.events.images(self.before + done, self.passes * total)
        if done == total:
            self.before += total


class _Run:
    """Evaluates a network with offsets changed."""

    def __init__(self, opened: OpenEvaluation, asked: InterventionSettings, events: Events) -> None:
        self.network, self.images, self.settings = opened.network, opened.images, opened.settings
        self.opened, self.asked, self.events = opened, asked, events
        self.total = number_of_images(self.images, self.settings)
        self.references: dict[str, References] = {}

    def evaluate(self, intervention: Intervention | None = None, sites: list[Site] | None = None) -> Evaluation:
        """Evaluate with the offsets of some sites changed; as learned without an intervention."""
        name, before_batch = intervention.kind.name if intervention else "", None
        references = self.references.get(name)
        if name == "other":
            references = OtherOffsets()
            before_batch = self._fetch_others(references)
        edits = edits_of(intervention or "learned", sites or [], self.settings.seed, references)
        with observing(self.network, sites or [], edits):
            options: dict[str, Any] = {"events": self.events, "before_batch": before_batch, "by_image": True}
            return evaluate_network(self.network, self.images, self.settings, **options)

    def _fetch_others(self, others: OtherOffsets) -> Callable[[Evaluator], None]:
        """Return what runs the unchanged network, before each batch, on another image for each image of the batch.

        It is the next image in an order drawn by the seed, cyclic, whatever the size of batches.
        """
        order = np.random.default_rng(self.settings.seed).permutation(self.total)
        following = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
        batches = batches_of(self.images, [following[index] for index in share_of(self.total)], self.settings)

        def fetch(evaluator: Evaluator) -> None:
            with others.keeping():
                evaluator.predict(self.network, next(batches))

        return fetch

    @torch.inference_mode()
    def calibrate(self, sites: list[Site], names: set[str], events: Events) -> dict[str, Any] | None:
        """Take the means that the named interventions need; return over which images, None for none."""
        means = {name: MeanOffsets(name == "position") for name in sorted({"constant", "position"} & names)}
        if not means:
            return None
        split, images = self._calibration_images()
        self.references.update(means)
        # One by one where a batch is padded to its largest image
        settings = replace(self.settings, batch_size=1) if self.opened.task == "detect" else self.settings
        evaluator = open_evaluator(self.network, self.images, self.total, settings)
        for items in batches_of(images, range(len(images)), settings):
            for mean in means.values():
                with observing(self.network, sites, mean.watching(sites)):
                    evaluator.predict(self.network, items)
        events.message(
            f"means over {count(len(images), 'image')} of {self.settings.dataset} {split}, none of them evaluated"
        )
        return {"split": split, "images": len(images)}

    def _calibration_images(self) -> tuple[str, Subset]:
        """Return images that are not evaluated, with their split: of the other split, else those left of this one."""
        number, split = self.asked.calibration, self.settings.split
        other: Split = "train" if split == "val" else "val"
        random = np.random.default_rng((self.settings.seed, 1))
        try:
            images: Any = open_images(self.opened.task, replace(self.settings, split=other))
        except DatasetError:
            left = range(self.total, len(self.images))
            if len(left) < number:
                raise SettingsError(
                    f"got {self.total} of {count(len(self.images), 'image')} of {split} to evaluate on and no {other} "
                    f"split, expected {count(number, 'image')} left for calibration: lower the limit"
                ) from None
            return split, Subset(self.images, sorted(random.choice(left, number, replace=False).tolist()))
        chosen = random.choice(len(images), min(number, len(images)), replace=False)
        return other, Subset(images, sorted(chosen.tolist()))
