"""How the offsets of two recordings differ, layer by layer: Wasserstein distance, shift, growth, difference of reach.

Reach is the mean |offset| over all tokens and distinct offsets. Histograms count samples by their nearest token; the
outermost bins, at the size of the map, also hold all beyond.

Legend: N images, K chunks of images, D draws of images or chunks. A and B are the two recordings.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from atmviz.errors import RecordingFormatError, count
from atmviz.layers import Layers
from atmviz.observe.site import AXES
from atmviz.recording.layout import CHUNK_IMAGES
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording, open_recording
from atmviz.statistics.depth import untrained_reach
from atmviz.statistics.intervals import MIN_IMAGES, Interval, holm, resample
from atmviz.statistics.matching import MatchedImages, describe_differences, match_images, match_layers

if TYPE_CHECKING:
    from pandas import DataFrame

DEFINITION = "wasserstein1/1"
Baseline = Recording | Literal["init"]
"""What growth is measured against: a recording, or offset layers before training, by formula."""


def wasserstein1(
    positions_a: np.ndarray, counts_a: np.ndarray, positions_b: np.ndarray, counts_b: np.ndarray
) -> np.ndarray:
    """Return the Wasserstein-1 distance of two histograms: the area between their cumulative shares.

    It is the mean distance by which samples of A must be moved to become those of B, in the unit of the positions.

    Args:
        positions_a, positions_b: Position of each bin, ascending, [bins of A] and [bins of B].
        counts_a, counts_b: Samples per bin, [..., bins of A] and [..., bins of B].

    Returns:
        The distances, [...]; NaN where a histogram is empty.

    Source: Vallender, Calculation of the Wasserstein distance between probability distributions on the line, 1974.

    >>> float(wasserstein1(np.arange(3), np.array([1, 1, 0]), np.arange(3), np.array([0, 1, 1])))
    1.0
    """
    positions = np.union1d(positions_a, positions_b)
    cumulative = []
    for own, counts in ((positions_a, counts_a), (positions_b, counts_b)):
        shares = np.zeros((*counts.shape[:-1], len(positions)))
        with np.errstate(invalid="ignore"):
            shares[..., np.searchsorted(positions, own)] = counts / counts.sum(-1, keepdims=True)
        cumulative.append(shares.cumsum(-1))
    return (np.abs(cumulative[0] - cumulative[1])[..., :-1] * np.diff(positions)).sum(-1)


@dataclass(frozen=True)
class ComparedLayer:
    """One layer and axis of both recordings, A before B.

    Attributes:
        sites: The layer.
        axis: "horizontal" or "vertical".
        counts: Samples of the compared chunks by nearest offset -n ... n, of n tokens along the axis, [2n + 1] each.
        reach: Mean |offset| of each compared image, tokens, [N] each.
        w1: Wasserstein-1 distance of the histograms, tokens.
        difference: Mean reach of B less that of A, tokens.
    """

    sites: tuple[RecordedSite, RecordedSite]
    axis: str
    counts: tuple[np.ndarray, np.ndarray]
    reach: tuple[np.ndarray, np.ndarray]
    w1: Interval
    difference: Interval

    @property
    def sizes(self) -> tuple[int, int]:
        """Tokens along the axis."""
        first, second = (site.grid[::-1][AXES.index(self.axis)] for site in self.sites)
        return first, second

    def distance(self, scales: tuple[float, float]) -> float:
        """Return the Wasserstein-1 distance of the histograms, a token of A and of B being as long as `scales` say."""
        first, second = (scale * nearest_offsets(counts) for scale, counts in zip(scales, self.counts, strict=True))
        return float(wasserstein1(first, self.counts[0], second, self.counts[1]))

    def row(self) -> dict[str, Any]:
        """Return the numbers that `compare_recordings` lists, as far as they follow from this layer and axis."""
        axis = AXES.index(self.axis)
        first_px, second_px = (site.stride_px[::-1][axis] for site in self.sites)
        means = [nearest_offsets(counts) @ counts / counts.sum() for counts in self.counts]
        reach_a, reach_b = (float(reach.mean()) for reach in self.reach)
        return {
            "layer": self.sites[0].name,
            "axis": self.axis,
            "w1": self.w1.estimate,
            "w1_low": self.w1.low,
            "w1_high": self.w1.high,
            "w1_px": self.distance((first_px, second_px)),
            "w1_percent": self.distance((100 / self.sizes[0], 100 / self.sizes[1])),
            "shift": float(means[1] - means[0]),
            "reach_a": reach_a,
            "reach_b": reach_b,
            "growth": _ratio(reach_b, reach_a),
            "difference": self.difference.estimate,
            "difference_low": self.difference.low,
            "difference_high": self.difference.high,
            "p": self.difference.p_value(0),
        }


@dataclass(frozen=True)
class Comparison:
    """Two recordings compared.

    Attributes:
        layers: Each layer and axis, in order.
        rows: The numbers of each; see `compare_recordings`.
        is_paired: Whether each image is compared with itself.
        left_out: What is not compared, and which intervals cannot be given, in a few words each.
    """

    layers: list[ComparedLayer]
    rows: list[dict[str, Any]]
    is_paired: bool
    left_out: list[str]


def compare_table(
    a: Recording | str | Path,
    b: Recording | str | Path,
    layers: Layers = (),
    *,
    baseline: Recording | str | Path | None = None,
    seed: int = 0,
) -> "DataFrame":
    """Return the rows of `compare_recordings` as a table; recordings may be named by their folders.

    Raises:
        LayerNotFoundError, RecordingFormatError: see `compare_recordings`.
    """
    import pandas

    against = baseline if baseline is None or baseline == "init" else open_recording(baseline)
    comparison = compare_recordings(open_recording(a), open_recording(b), layers, against, seed)  # type: ignore[arg-type]
    return pandas.DataFrame(comparison.rows)


def compare_recordings(
    a: Recording, b: Recording, layers: Layers = (), baseline: Baseline | None = None, seed: int = 0
) -> Comparison:
    """Compare the offsets of recordings A and B in the layers and images that they share.

    Rows:
        layer, axis: Of both recordings.
        w1, w1_low, w1_high: Wasserstein-1 distance of the histograms over all tokens, tokens, and its 95 % interval
            over chunks of images.
        w1_px, w1_percent: The same of positions in px, and in % of each map's axis.
        shift: Mean nearest token of B less that of A, tokens.
        reach_a, reach_b, growth: Mean |offset|, tokens, and B over A.
        difference, difference_low, difference_high: Reach of B less that of A, tokens, and its 95 % interval over
            images.
        p, p_corrected: Two-sided p-value of no difference of reach, alone and by Holm for all rows.
        paired: Whether images are compared with themselves; otherwise those of A and B are drawn independently.
        map_a, map_b: Tokens along the axis.
        n_images_a, n_images_b, n_images: Images of each histogram, and those that reach and difference rest on.
        baseline_a, baseline_b, growth_a, growth_b: With a baseline: its reach, tokens, and reach over it.
        definition: "wasserstein1/1".

    Args:
        a, b: The recordings.
        layers: Names or patterns; by default all layers that generate offsets in both.
        baseline: A recording, or "init" for `untrained_reach` of the layer's channels.
        seed: Of the draws.

    Returns:
        The comparison. NaN stands for what cannot be given.

    Raises:
        LayerNotFoundError: there is no such layer in both.
        RecordingFormatError: a recording is damaged or holds no finished image.
    """
    for recording in (a, b, baseline):
        if isinstance(recording, Recording) and not len(recording):
            raise RecordingFormatError(f"{recording.path} holds no finished image: resume the recording first")
    chosen, fewer_layers = match_layers(a, b, layers)
    matched = match_images(a, b)
    sides = _sides(a, b, matched, seed)
    compared = [one for layer in chosen for one in _compare(sides, layer)]
    rows = [one.row() for one in compared]
    images = [len(rows) for rows in matched.images]
    counted = images if matched.are_chunks_paired else [len(a), len(b)]
    about = {"paired": matched.is_paired}
    for one, row, corrected in zip(compared, rows, holm(np.array([row["p"] for row in rows])), strict=True):
        row |= {"p_corrected": float(corrected), **about, "map_a": one.sizes[0], "map_b": one.sizes[1]}
        row |= {"n_images_a": counted[0], "n_images_b": counted[1]}
        row |= {"n_images": images[0] if matched.is_paired else sum(images)}
        row |= _growth(one, row, baseline) if baseline else {}
        row["definition"] = DEFINITION
    left_out = [*fewer_layers, *matched.left_out, *describe_differences(a, b), *_missing_intervals(sides)]
    return Comparison(compared, rows, matched.is_paired, left_out)


@dataclass(frozen=True)
class _Side:
    """A recording, its compared rows, and how often each draw has an image [D, N] or a chunk [D, K]."""

    recording: Recording
    images: np.ndarray
    chunks: np.ndarray
    image_draws: np.ndarray
    chunk_draws: np.ndarray


def _sides(a: Recording, b: Recording, matched: MatchedImages, seed: int) -> tuple[_Side, _Side]:
    """Return A and B: pairs are drawn together, others independently."""
    draws = []
    for rows, together in ((matched.images, matched.is_paired), (matched.chunks, matched.are_chunks_paired)):
        first = resample(len(rows[0]), seed)
        second = first if together else resample(len(rows[1]), seed + 1)
        shown = min(len(first), len(second))  # no draws where one of them has too few
        draws.append((first[:shown], second[:shown]))
    first_side, second_side = (
        _Side(*each) for each in zip((a, b), matched.images, matched.chunks, *draws, strict=True)
    )
    return first_side, second_side


def _missing_intervals(sides: tuple[_Side, _Side]) -> list[str]:
    """Return which intervals cannot be given, and why."""
    images, chunks = (min(map(len, rows)) for rows in zip(*((side.images, side.chunks) for side in sides), strict=True))
    of_images = f"no interval of the difference: got {count(images, 'image')}, expected {MIN_IMAGES} or more"
    of_chunks = (
        f"no interval of W1: got {count(chunks, 'chunk')} of {CHUNK_IMAGES} images, expected {MIN_IMAGES} or more"
    )
    return [of_images] * (images < MIN_IMAGES) + [of_chunks] * (chunks < MIN_IMAGES)


def _compare(sides: tuple[_Side, _Side], layer: str) -> list[ComparedLayer]:
    """Compare the horizontal and the vertical offsets of a layer."""
    sites = sides[0].recording.site(layer), sides[1].recording.site(layer)
    chunks = [_chunk_counts(side, layer) for side in sides]
    reach = [side.recording.mean_abs_offset(layer)[side.images].astype(np.float64) for side in sides]
    compared = []
    for axis, name in enumerate(AXES):
        totals = chunks[0][axis].sum(0), chunks[1][axis].sum(0)
        drawn = [side.chunk_draws @ counts[axis] for side, counts in zip(sides, chunks, strict=True)]
        w1 = distance_interval(totals, (drawn[0], drawn[1]))
        own = reach[0][:, axis], reach[1][:, axis]
        means = [side.image_draws @ values / len(values) for side, values in zip(sides, own, strict=True)]
        difference = Interval.of_draws(own[1].mean() - own[0].mean(), means[1] - means[0])
        compared.append(ComparedLayer(sites, name, totals, own, w1, difference))
    return compared


def distance_interval(counts: tuple[np.ndarray, np.ndarray], draws: tuple[np.ndarray, np.ndarray]) -> Interval:
    """Return the Wasserstein-1 distance of two histograms of nearest offsets, tokens, with its interval.

    A distance cannot be negative, so noise adds to it: once in the estimate, twice in the draws. The mean of the draws
    less the estimate says how much. The lower end is that of the draws less twice that, at least 0.

    Args:
        counts: Samples by offset -n ... n, of A and of B, [2n + 1] each.
        draws: The same of D draws, [D, 2n + 1] each.
    """
    first, second = map(nearest_offsets, counts)
    drawn = wasserstein1(first, draws[0], second, draws[1])
    interval = Interval.of_draws(float(wasserstein1(first, counts[0], second, counts[1])), drawn)
    if not len(drawn):
        return interval
    added = max(float(drawn.mean()) - interval.estimate, 0)
    return replace(interval, low=max(interval.low - 2 * added, 0))


def nearest_offsets(counts: np.ndarray) -> np.ndarray:
    """Return the offset of each bin, -n ... n tokens, for counts [..., 2n + 1]."""
    return np.arange(counts.shape[-1]) - counts.shape[-1] // 2


def _chunk_counts(side: _Side, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of the compared chunks by nearest offset: horizontal [K, 2W + 1] and vertical [K, 2H + 1]."""
    of_map = side.recording.counts(layer)  # raises where they do not add up
    stored = side.recording.read("counts", layer)[side.chunks]
    rest = [(stored.shape[2] - len(counts)) // 2 for counts in of_map]
    horizontal, vertical = (stored[:, axis, cut : stored.shape[2] - cut] for axis, cut in enumerate(rest))
    return horizontal, vertical


def _growth(layer: ComparedLayer, row: dict[str, Any], baseline: Baseline) -> dict[str, float]:
    """Return the reach of the baseline for A and for B, and the reach of each over it."""
    if isinstance(baseline, Recording):
        known = layer.sites[0].name in baseline.layers
        reach = baseline.mean_abs_offset(layer.sites[0].name) if known else np.full((1, len(AXES)), np.nan)
        of_a = of_b = float(reach[:, AXES.index(layer.axis)].mean(dtype=np.float64))
    else:
        of_a, of_b = (untrained_reach(site.channels) for site in layer.sites)
    growth = {"growth_a": _ratio(row["reach_a"], of_a), "growth_b": _ratio(row["reach_b"], of_b)}
    return {"baseline_a": of_a, "baseline_b": of_b, **growth}


def _ratio(value: float, by: float) -> float:
    return value / by if by > 0 else math.nan
