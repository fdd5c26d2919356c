"""What every claim is measured by: an estimate and its null over the same draws of images, and the rows of a table.

Legend: N images, D draws, see `atmviz.statistics.intervals`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atmviz.statistics.intervals import MIN_IMAGES, Interval, holm

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Definition:
    """How a number is defined; its formula, null and oracle stand in docs/definitions under `id`.

    Attributes:
        id: Name and version; a change of the formula counts the version up.
        claim: The claim that it is about: depth, segment, scale, shape or boundary.
        unit: Unit of the estimate and of its null.
        title: Name in tables and figures.
        tested: Whether it decides a claim: the paper's is that the estimate is above its null.
    """

    id: str
    claim: str
    unit: str
    title: str
    tested: bool = False

    @property
    def measure(self) -> str:
        """The name without the version."""
        return self.id.partition("/")[0]


DEFINITIONS = {
    definition.measure: definition
    for definition in (
        Definition("reach/1", "depth", "tokens", "reach"),
        Definition("reach_px/1", "depth", "px", "reach"),
        Definition("reach_percent/1", "depth", "% of the axis", "reach"),
        Definition("beyond_1_5/1", "depth", "%", "samples beyond 1.5 tokens"),
        Definition("beyond_2_5/1", "depth", "%", "samples beyond 2.5 tokens"),
        Definition("beyond_half/1", "depth", "%", "samples beyond half the map"),
        Definition("growth/1", "depth", "× untrained", "growth by training", tested=True),
        Definition("trend/1", "depth", "tau", "trend of reach in tokens"),
        Definition("trend_px/1", "depth", "tau", "trend of reach in px"),
        Definition("trend_growth/1", "depth", "tau", "trend of growth", tested=True),
        Definition("hit_rate/1", "segment", "%", "samples in the same segment"),
        Definition("mirror_gap/1", "segment", "pp", "mirror gap", tested=True),
        Definition("achievable/1", "segment", "%", "share of the achievable gap"),
        Definition("elasticity/1", "scale", "% per %", "scale elasticity", tested=True),
        Definition("anisotropy/1", "shape", "% per %", "slope of anisotropy", tested=True),
        Definition("boundary/1", "boundary", "%", "samples near the border", tested=True),
    )
}
"""Every measure by its name."""


@dataclass(frozen=True)
class Estimate:
    """A number over all images, and over each draw of images.

    Attributes:
        value: Over all images; NaN where nothing can be estimated.
        draws: [D]; [0] where fewer than 8 images say something.
    """

    value: float
    draws: np.ndarray

    @classmethod
    def ratio(cls, numerators: np.ndarray, denominators: np.ndarray, weights: np.ndarray) -> "Estimate":
        """Return the sum of numerators [N] over the sum of denominators [N]; an image of denominator 0 says nothing."""
        return cls.of_sums(np.stack([numerators, denominators], 1), weights, lambda sums: sums[0] / sums[1])

    @classmethod
    def of_sums(cls, sums: np.ndarray, weights: np.ndarray, estimate: Any) -> "Estimate":
        """Return what a function makes of sums over images.

        Args:
            sums: Sums of each image, [N, K]; the last is 0 in an image that says nothing.
            weights: How often each draw holds each image, [D, N]; see `resample`.
            estimate: Takes the K sums, of all images or [K, D], and returns the number.
        """
        enough = np.count_nonzero(sums[:, -1]) >= MIN_IMAGES
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = estimate((weights[: None if enough else 0] @ sums).T)
            return cls(float(estimate(sums.sum(0))), draws)

    def __sub__(self, other: "Estimate | float") -> "Estimate":
        """Return the difference, draw by draw: of the same images, it is paired."""
        return self._with(other, np.subtract)

    def __truediv__(self, other: "Estimate | float") -> "Estimate":
        return self._with(other, np.divide)

    def __mul__(self, factor: float) -> "Estimate":
        return self._with(factor, np.multiply)

    def _with(self, other: "Estimate | float", operate: Any) -> "Estimate":
        with np.errstate(divide="ignore", invalid="ignore"):
            if not isinstance(other, Estimate):
                return Estimate(float(operate(self.value, other)), operate(self.draws, other))
            draws = min(len(self.draws), len(other.draws))  # none where either has too few images
            return Estimate(float(operate(self.value, other.value)), operate(self.draws[:draws], other.draws[:draws]))

    @property
    def interval(self) -> Interval:
        """The estimate with its 95 % interval."""
        return Interval.of_draws(self.value, self.draws)


Null = Estimate | Interval | float
"""What an estimate is without what is claimed: of the same draws of images, of other draws, or a known number."""


@dataclass(frozen=True)
class Measured:
    """A measure of one layer and axis.

    Attributes:
        measure: A key of `DEFINITIONS`.
        layer: A layer that generates offsets; "all" for a trend over layers.
        axis: "horizontal", "vertical"; "both" for a measure of their ratio.
        estimate: The number.
        null: What it is without what is claimed.
        effect: The estimate less its null.
        images: Images that say something.
        samples: Samples, or objects.
    """

    measure: str
    layer: str
    axis: str
    estimate: Estimate
    null: Null
    effect: Estimate
    images: int
    samples: int

    @classmethod
    def of(cls, name: tuple[str, str, str], estimate: Estimate, null: Null, images: int, samples: int) -> "Measured":
        """Return a measure with its effect, paired with the null where both have the same draws.

        Args:
            name: Measure, layer and axis.
            estimate, null, images, samples: See the attributes.
        """
        effect = estimate - (null.estimate if isinstance(null, Interval) else null)
        return cls(*name, estimate, null, effect, images, samples)

    def less(self, other: "Measured") -> "Measured":
        """Return the difference to the measure of another recording of the same images, paired by image."""
        return Measured(
            *(self.measure, self.layer, self.axis),
            self.estimate - other.estimate,
            _value(self.null) - _value(other.null),
            self.effect - other.effect,
            min(self.images, other.images),
            min(self.samples, other.samples),
        )


def _value(null: Null) -> float:
    return null.value if isinstance(null, Estimate) else null.estimate if isinstance(null, Interval) else null


def claim_rows(measured: Sequence[Measured], *, differences: bool = False) -> list[dict[str, Any]]:
    """Return measures as rows of a table, with p-values corrected over the layers and axes of each measure.

    Args:
        measured: Measures of a recording.
        differences: They are differences of two recordings: every measure is tested, for either sign.

    Returns:
        Rows with the keys:
            claim, measure, layer, axis: See `Definition` and `Measured`.
            estimate, low, high: The number with its 95 % interval over images.
            null, null_low, null_high: The same of the null; without interval (None) where it is known.
            effect, effect_low, effect_high: Estimate less null, with the interval of the paired difference.
            p, p_corrected: Two-sided p-value of the effect, and corrected by Holm; NaN where nothing is tested.
            n_images, n: Images that say something, and samples or objects.
            unit, definition: See `Definition`.
            verdict: "holds", "fails" or "not decidable"; "" where nothing is tested. Of differences "higher", "lower"
                or "not decidable".
    """
    rows = []
    for measure in dict.fromkeys(each.measure for each in measured):
        alike, definition = [each for each in measured if each.measure == measure], DEFINITIONS[measure]
        effects = [each.effect.interval for each in alike]
        is_tested = differences or definition.tested
        p_values = np.array([effect.p_value(0.0) if is_tested else math.nan for effect in effects])
        corrected = holm(p_values).tolist()
        names = ("higher", "lower") if differences else ("holds", "fails")
        for each, effect, p, p_corrected in zip(alike, effects, p_values.tolist(), corrected, strict=True):
            decided = names[effect.estimate < 0] if p_corrected < SIGNIFICANT else "not decidable"
            rows.append(
                {
                    **{"claim": definition.claim, "measure": measure, "layer": each.layer, "axis": each.axis},
                    **_ends("estimate", "", each.estimate),
                    **_ends("null", "null_", each.null),
                    **_ends("effect", "effect_", each.effect),
                    **{"p": p, "p_corrected": p_corrected, "n_images": each.images, "n": each.samples},
                    **{"unit": definition.unit, "definition": definition.id},
                    "verdict": decided if is_tested else "",
                }
            )
    return rows


def _ends(name: str, prefix: str, value: Null) -> dict[str, float | None]:
    """Return a number and the ends of its interval, by the names of columns."""
    interval = value.interval if isinstance(value, Estimate) else value
    if not isinstance(interval, Interval):
        return {name: interval, f"{prefix}low": None, f"{prefix}high": None}
    return {name: interval.estimate, f"{prefix}low": interval.low, f"{prefix}high": interval.high}
