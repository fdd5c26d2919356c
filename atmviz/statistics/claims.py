"""The paper's claims about offsets, measured on a recording: every measure of every layer that generates offsets.

Legend: N images, L layers, O distinct offsets, D draws.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atmviz.errors import RecordingFormatError, SettingsError
from atmviz.layers import Layers
from atmviz.observe.site import AXES, select_sites, sources_of
from atmviz.recording.label_quantities import THRESHOLDS
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording, open_recording
from atmviz.statistics.boundary import boundary_shares
from atmviz.statistics.depth import (
    kendall_trend,
    mean_of_images,
    untrained_beyond,
    untrained_reach,
)
from atmviz.statistics.intervals import resample
from atmviz.statistics.matching import have_same_images
from atmviz.statistics.measures import Estimate, Measured, Null, claim_rows
from atmviz.statistics.scale import in_comparison, log_reach, log_scale, scale_elasticity
from atmviz.statistics.segment import MOVED, achievable_share, hit_rates, mirror_gap
from atmviz.statistics.shape import anisotropy_slope, log_aspect, permuted_slopes

if TYPE_CHECKING:
    from pandas import DataFrame

BEYOND = ("beyond_1_5", "beyond_2_5", "beyond_half")
"""Measures of the shares beyond `THRESHOLDS` and half the map."""


def generating_sites(recording: Recording, layers: Layers = ()) -> dict[str, RecordedSite]:
    """Return the sites that generate offsets, by name in order; of layers that reuse offsets, their sources.

    Args:
        recording: An opened recording.
        layers: Names or patterns; all without them.

    Raises:
        LayerNotFoundError: a pattern selects no recorded layer.
        SettingsError: none of the layers has offsets.
    """
    chosen = select_sites(layers, recording.sites) if layers else recording.sites
    sites = {source: site for source, site in sources_of(chosen).items() if site.num_offsets}
    if not sites:
        raise SettingsError(f"no layer of {recording.path} has offsets: expected a network that learns them")
    return sites


def require_alike(recording: Recording, baseline: Recording, layers: Iterable[str]) -> None:
    """Raise SettingsError if a baseline has other maps or offsets in a layer, LayerNotFoundError if it lacks one."""
    for name in layers:
        ours, others = recording.site(name), baseline.site(name)
        if (ours.grid, ours.num_offsets) != (others.grid, others.num_offsets):
            raise SettingsError(
                f"layer {name} of {baseline.path} has maps or offsets of another size than in {recording.path}: "
                "record one like the other"
            )


def mean_reaches(recording: Recording, site: RecordedSite) -> np.ndarray:
    """Return mean |offset| of each image and axis, [N, 2], float64, tokens."""
    if "moments" not in recording.quantities:  # of an older recording; single precision
        return recording.mean_abs_offset(site.name).astype(np.float64)
    return recording.read("moments", site.name)[..., 2].sum(2) / samples_of(site)


def samples_of(site: RecordedSite) -> int:
    """Return the number of samples of one image and axis: tokens times distinct offsets."""
    return site.grid[0] * site.grid[1] * site.num_offsets


@dataclass(frozen=True)
class _Recorded:
    """A recording with draws of its images, and a recording of the untrained network or None.

    Attributes:
        weights, baseline_weights: Draws of the images of either, [D, N]; equal where the images are.
    """

    recording: Recording
    weights: np.ndarray
    baseline: Recording | None
    baseline_weights: np.ndarray
    seed: int

    def untrained_reaches(self, sites: Sequence[RecordedSite], axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean |offset| of the untrained network, [L, images], tokens, and the weights of these images.

        Without a baseline, it is known by formula: [L, 1].
        """
        if self.baseline is None:
            return np.array([[untrained_reach(site.channels)] for site in sites]), np.empty((0, 1))
        others = [self.baseline.site(site.source) for site in sites]
        return np.stack([mean_reaches(self.baseline, site)[:, axis] for site in others]), self.baseline_weights

    def untrained(self, site: RecordedSite, axis: int) -> Estimate | float:
        """Return mean |offset| of the untrained network, tokens; a number that is known without a baseline."""
        (reach,), weights = self.untrained_reaches([site], axis)
        return mean_of_images(reach, weights) if self.baseline is not None else float(reach[0])

    def beyond(self, site: RecordedSite, axis: int) -> Iterator[tuple[str, Estimate, Null]]:
        """Yield the shares of samples beyond limits, %, of this and of the untrained network."""
        limits = (*THRESHOLDS, site.grid[1 - axis] / 2)
        scale = 100 / samples_of(site)
        shares = self.recording.read("beyond", site.name)[:, axis] * scale
        others = None
        if self.baseline is not None:
            others = self.baseline.read("beyond", site.source)[:, axis] * scale
        for k, limit in enumerate(limits):
            null: Null = 100 * untrained_beyond(site.channels, limit)
            if others is not None:
                null = mean_of_images(others[:, k], self.baseline_weights)
            yield BEYOND[k], mean_of_images(shares[:, k], self.weights), null


def measure_claims(
    recording: Recording, layers: Layers = (), *, baseline: Recording | None = None, seed: int = 0
) -> list[Measured]:
    """Measure all claims that a recording can tell of.

    Args:
        recording: An opened recording. Without labels, only depth is measured; without moments, only reach.
        layers: Layers that generate offsets, by name or pattern; all without them.
        baseline: A recording of the untrained network; a formula stands for it otherwise.
        seed: Of the draws of images and the permutations.

    Raises:
        LayerNotFoundError: a layer was not recorded, in the recording or in the baseline.
        SettingsError: no layer has offsets, or the baseline has maps of another size.
        RecordingFormatError: the baseline lacks what the recording holds.
    """
    sites = generating_sites(recording, layers)
    weights = others = resample(len(recording), seed)
    if baseline is not None:
        require_alike(recording, baseline, sites)
        if not have_same_images(recording, baseline):
            others = resample(len(baseline), seed + 1)
    recorded = _Recorded(recording, weights, baseline, others, seed)
    measured = list(_trends(recorded, sites.values()))
    for site in sites.values():
        for axis in range(len(AXES)):
            measured += _depth(recorded, site, axis)
            if "hits" in recording.quantities:
                measured += _segments(recorded, site, axis)
        if "objects" in recording.quantities:
            measured += _objects(recorded, site)
    return measured


def _depth(recorded: _Recorded, site: RecordedSite, axis: int) -> Iterator[Measured]:
    recording, place = recorded.recording, (site.source, AXES[axis])
    images = len(recording)
    counts = images, images * samples_of(site)
    reach = mean_of_images(mean_reaches(recording, site)[:, axis], recorded.weights)
    untrained = recorded.untrained(site, axis)
    percent = 100 / site.grid[1 - axis]
    for measure, factor in (("reach", 1.0), ("reach_px", site.stride_px[1 - axis]), ("reach_percent", percent)):
        yield Measured.of((measure, *place), reach * factor, untrained * factor, *counts)
    yield Measured.of(("growth", *place), reach / untrained, 1.0, *counts)
    if "beyond" in recording.quantities:
        for measure, share, null in recorded.beyond(site, axis):
            yield Measured.of((measure, *place), share, null, *counts)


def _trends(recorded: _Recorded, sites: Iterable[RecordedSite]) -> Iterator[Measured]:
    """Yield the trends of reach over layers, where there are two or more."""
    sites, images = list(sites), len(recorded.recording)
    for axis, name in enumerate(AXES) if len(sites) > 1 else ():
        strides = np.array([[site.stride_px[1 - axis]] for site in sites])
        reaches = np.stack([mean_reaches(recorded.recording, site)[:, axis] for site in sites])
        usual, weights = recorded.untrained_reaches(sites, axis)
        for measure, factor in (("trend", 1), ("trend_px", strides)):
            tau = mean_of_images(kendall_trend(reaches * factor), recorded.weights)
            null = mean_of_images(kendall_trend(usual * factor), weights)
            known: Null = null if recorded.baseline is not None else null.value
            yield Measured.of((measure, "all", name), tau, known, images, images)
        growth = kendall_trend(reaches / usual.mean(1, keepdims=True))
        yield Measured.of(("trend_growth", "all", name), mean_of_images(growth, recorded.weights), 0.0, images, images)


def _segments(recorded: _Recorded, site: RecordedSite, axis: int) -> Iterator[Measured]:
    """Yield what is counted on the labels of tokens."""
    place, weights = (site.source, AXES[axis]), recorded.weights
    hits, other = (recorded.recording.read(name, site.name)[:, axis] for name in ("hits", "other_hits"))
    moved = hits[..., MOVED].sum(1, dtype=np.int64)
    counts = int(np.count_nonzero(moved)), int(moved.sum())
    yield Measured.of(("hit_rate", *place), *hit_rates(hits, weights), *counts)
    for measure, function in (("mirror_gap", mirror_gap), ("achievable", achievable_share)):
        yield Measured.of((measure, *place), function(hits, weights), function(other, weights), *counts)
    yield Measured.of(("boundary", *place), *boundary_shares(hits, weights), *counts)


def _objects(recorded: _Recorded, site: RecordedSite) -> Iterator[Measured]:
    """Yield what is measured on objects."""
    recording, weights = recorded.recording, recorded.weights
    objects = recording.read("objects")
    own, other = (recording.read(name, site.name) for name in ("object_offsets", "other_object_offsets"))
    scale, tokens = log_scale(objects), own[..., 0]
    reaches = [log_reach(own[..., 1 + axis], tokens) for axis in range(len(AXES))]
    for axis, name in enumerate(AXES):
        elasticity = scale_elasticity(scale, reaches[axis], weights)
        null = scale_elasticity(scale, log_reach(other[..., axis], tokens), weights)
        compared = in_comparison(scale, reaches[axis])
        counts = int(compared.any(1).sum()), int(compared.sum())
        yield Measured.of(("elasticity", site.source, name), elasticity, null, *counts)
    aspect, anisotropy = log_aspect(objects), reaches[0] - reaches[1]
    slope = anisotropy_slope(aspect, anisotropy, weights)
    used = np.isfinite(aspect + anisotropy)
    permuted = permuted_slopes(aspect, anisotropy, scale, recorded.seed)
    counts = int(used.any(1).sum()), int(used.sum())
    yield Measured.of(("anisotropy", site.source, "both"), slope, permuted, *counts)


def claims_of(
    recording: Recording,
    layers: Layers = (),
    *,
    against: Recording | None = None,
    baseline: Recording | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the rows of a recording, or of its differences to another of the same images; see `claims_table`."""
    for each in (recording, against, baseline):
        if each is not None and not len(each):
            raise RecordingFormatError(f"{each.path} holds no finished image: resume the recording first")
    if against is None:
        return claim_rows(measure_claims(recording, layers, baseline=baseline, seed=seed))
    if not have_same_images(recording, against):
        raise SettingsError(
            f"{recording.path} and {against.path} hold other images, expected the same: record one like the other"
        )
    shared = [name for name in generating_sites(recording, layers) if name in generating_sites(against)]
    if not shared:
        raise SettingsError(f"{recording.path} and {against.path} have no layer in common")
    both = (measure_claims(each, shared, baseline=baseline, seed=seed) for each in (recording, against))
    return claim_rows(paired_differences(*both), differences=True)


def claims_table(
    recording: Recording | str | Path,
    layers: Layers = (),
    *,
    against: Recording | str | Path | None = None,
    baseline: Recording | str | Path | None = None,
    seed: int = 0,
) -> "DataFrame":
    """Return the paper's claims about offsets as numbers: the CSV beside the figure.

    Args:
        recording: An opened recording, or its folder. Without labels it tells of depth only.
        layers: Layers that generate offsets, by name or pattern; all without them.
        against: A recording of the same images: each row becomes the difference, this recording less that one.
        baseline: A recording of the untrained network; without it, a formula stands for the untrained network.
        seed: Of the draws of images and the permutations.

    Returns:
        One row per measure, layer and axis; columns as in `atmviz.statistics.measures.claim_rows`. Definitions are in
        docs/definitions.

    Raises:
        LayerNotFoundError: a layer was not recorded, in one of the recordings.
        SettingsError: no layer has offsets, the recordings hold other images or have no layer in common, or the
            baseline has maps of another size.
        RecordingFormatError: a recording is damaged or empty, or the baseline lacks what the recording holds.

    Source: Sec. 3.2, A2.1 and A2.2.
    """
    import pandas

    first, second, untrained = (
        None if each is None else open_recording(each) for each in (recording, against, baseline)
    )
    assert first is not None
    return pandas.DataFrame(claims_of(first, layers, against=second, baseline=untrained, seed=seed))


def paired_differences(ours: Sequence[Measured], theirs: Sequence[Measured]) -> list[Measured]:
    """Return each measure less that of another recording of the same images; what only one has is left out."""
    other = {(each.measure, each.layer, each.axis): each for each in theirs}
    keys = [(each.measure, each.layer, each.axis) for each in ours]
    return [each.less(other[key]) for key, each in zip(keys, ours, strict=True) if key in other]
