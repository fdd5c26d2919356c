"""Parts of an offset: constant, position, image and content, as shares of its mean square. Torch-free.

An offset of image n at token p is o = mu + alpha_p + beta_n + eps_np: a two-way random-effects model, one value a cell.

Legend: N images, P tokens, A axes, O distinct offsets per direction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atmviz.errors import RecordingFormatError, SettingsError, count
from atmviz.layers import LayerId, Layers
from atmviz.observe.site import AXES, sources_of
from atmviz.recording.label_quantities import GROUPS
from atmviz.recording.store import Recording, open_recording
from atmviz.statistics.histogram import choose_layers
from atmviz.statistics.intervals import T_QUANTILE, Interval, jackknife_error

if TYPE_CHECKING:
    from pandas import DataFrame

PARTS = ("constant", "position", "image", "content")
"""What an offset consists of: mu^2 and the variances of alpha, beta and eps, in the order of every array here."""
DEFINITION = "variance_shares/1"


@dataclass(frozen=True)
class VarianceShares:
    """Parts of the offsets of one layer.

    Attributes:
        components: mu^2 and the variances of position, image and content of each distinct offset, [4, A, O], tokens^2.
            A variance may be estimated below 0.
        shares: Interval of each part and axis, over all offsets of the layer; the estimates of an axis add to 1.
        images: Number of images.
    """

    components: np.ndarray
    shares: Sequence[Sequence[Interval]]
    images: int

    @property
    def channel_shares(self) -> np.ndarray:
        """Share of each part of each distinct offset, [4, A, O]; NaN for an offset that is always 0."""
        return _shares(self.components)

    @property
    def rms(self) -> np.ndarray:
        """Root mean square of each distinct offset, [A, O], tokens."""
        return np.sqrt(self.components.sum(axis=0))


def adaptivity_table(recording: Recording | str | Path, layers: Layers = ()) -> "DataFrame":
    """Return which part of the offsets is constant, position, image and content: the CSV beside a figure.

    Args:
        recording: An opened recording that keeps positions, or its folder.
        layers: Names or patterns, e.g. "3_18" or ["2_1", "3_*"]; by default all that generate offsets.

    Returns:
        One row per layer and axis, with the columns of `share_rows`.

    Raises:
        LayerNotFoundError, SettingsError, RecordingFormatError: see `layer_shares`.
    """
    import pandas

    return pandas.DataFrame(share_rows(layer_shares(open_recording(recording), layers)))


def layer_shares(recording: Recording, layers: Layers = ()) -> dict[str, VarianceShares]:
    """Return the shares by name of the layer, for layers that patterns select.

    Without patterns: the layers that generate offsets, or the first recorded layer that uses these.

    Raises:
        LayerNotFoundError: a pattern selects no recorded layer.
        SettingsError, RecordingFormatError: see `recorded_shares`.
    """
    used = [site.name for site in sources_of(recording.sites).values()]
    chosen = choose_layers(recording, layers) if layers else used
    return {layer: recorded_shares(recording, layer) for layer in chosen}


def recorded_shares(recording: Recording, layer: str | LayerId) -> VarianceShares:
    """Return the shares of constant, position, image and content in the offsets that a layer uses.

    Raises:
        LayerNotFoundError: the layer was not recorded.
        SettingsError: the recording holds no sums by token, or fewer than two images.
        RecordingFormatError: it is damaged.
    """
    if missing := {"moments", "positions"} - recording.quantities.keys():
        raise SettingsError(
            f"{recording.path} holds no {max(missing)} of offsets: record the images again and keep positions"
        )
    if len(recording) < 2:
        raise SettingsError(
            f"{recording.path} holds {count(len(recording), 'image')}, expected 2 or more, to tell image and content "
            "apart: record more"
        )
    moments, positions = recording.read("moments", layer), recording.total("positions", layer)
    groups = recording.part_indices % GROUPS
    of_groups = np.stack([moments[groups == group, ..., 0].sum(axis=0) for group in range(GROUPS)])
    limit = 1e-9 * moments[..., 2].sum(axis=0)
    if not (np.abs(positions.sum(axis=(1, 2)) - of_groups) <= limit).all():
        raise RecordingFormatError(
            f"positions and moments in {recording.path} are not of the same images: delete it and record again"
        )
    return variance_shares(moments, positions, groups)


def variance_shares(moments: np.ndarray, positions: np.ndarray, groups: np.ndarray) -> VarianceShares:
    """Return the shares of constant, position, image and content in the mean square of offsets.

    The 95 % interval is that of the delete-one-group jackknife over 16 groups of images, with the quantile of Student's
    t for 15 degrees of freedom. Tokens are not drawn again: they are all tokens of the map.

    Args:
        moments: Sum of o and of o^2 over the tokens of each image, [N, A, O, 2 or more].
        positions: Sum of o over the images of each group, [16, H, W, A, O].
        groups: Group of each image, [N], 0 to 15.

    Returns:
        The shares, without intervals where a group has no image. They are NaN where there is one image or one token, of
        which the parts cannot be told apart, and where all offsets are 0.

    Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (two-way crossed, balanced).
    """
    positions = positions.reshape(len(positions), -1, *positions.shape[3:])
    members = [groups == group for group in range(GROUPS)]
    components = variance_components(moments, positions.sum(axis=0))
    estimate = _shares(components.sum(axis=-1))
    errors = np.full_like(estimate, math.nan)
    if all(member.any() for member in members):
        total = positions.sum(axis=0)
        kept = (
            variance_components(moments[~member], total - removed)
            for member, removed in zip(members, positions, strict=True)
        )
        errors = jackknife_error(np.stack([_shares(each.sum(axis=-1)) for each in kept]))
    reach = T_QUANTILE * errors
    intervals = [
        [Interval(*map(float, values)) for values in zip(*part, strict=True)]
        for part in zip(estimate, estimate - reach, estimate + reach, errors, strict=True)
    ]
    return VarianceShares(components, intervals, len(moments))


def variance_components(moments: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return mu^2 and the unbiased variances of position, image and content, [4, A, O], tokens^2.

    mu is the mean of all samples. The variances are s2_pos = (MS_pos - MS_res) / N, s2_img = (MS_img - MS_res) / P and
    s2_eps = MS_res, from sums alone.

    Args:
        moments: Sum of o and of o^2 over the tokens of each image, [N, A, O, 2 or more].
        positions: Sum of o over the images, [P, A, O].

    Returns:
        The components; NaN for one image or one token.
    """
    num_images, num_tokens = len(moments), len(positions)
    sums, squares = moments[..., 0], moments[..., 1].sum(axis=0)
    total = sums.sum(axis=0)
    correction = total**2 / (num_images * num_tokens)
    of_positions = (positions**2).sum(axis=0) / num_images - correction
    of_images = (sums**2).sum(axis=0) / num_tokens - correction
    freedom_p, freedom_n = num_tokens - 1, num_images - 1
    if not freedom_p * freedom_n > 0:
        return np.full((len(PARTS), *total.shape), math.nan)
    residual = (squares - correction - of_positions - of_images) / (freedom_p * freedom_n)
    return np.stack(
        [
            (total / (num_images * num_tokens)) ** 2,
            (of_positions / freedom_p - residual) / num_images,
            (of_images / freedom_n - residual) / num_tokens,
            residual,
        ]
    )


def share_rows(layers: Mapping[str, VarianceShares]) -> list[dict[str, Any]]:
    """Return one row per layer and axis, of the shares of layers by name.

    Columns:
        layer, axis: Whose offsets.
        constant, position, image, content: Shares of the mean square; they add to 1.
        constant_low, constant_high and so on: Ends of their 95 % intervals over images, else NaN.
        rms: Root mean square of the offsets, tokens.
        n_images: Images.
        definition: "variance_shares/1".
    """
    return [
        {
            "layer": layer,
            "axis": axis,
            **{
                f"{part}{end}": value
                for part, intervals in zip(PARTS, shares.shares, strict=True)
                for end, value in _ends(intervals[index]).items()
            },
            "rms": float(np.sqrt((shares.rms[index] ** 2).mean())),
            "n_images": shares.images,
            "definition": DEFINITION,
        }
        for layer, shares in layers.items()
        for index, axis in enumerate(AXES)
    ]


def _ends(interval: Interval) -> dict[str, float]:
    return {"": interval.estimate, "_low": interval.low, "_high": interval.high}


def channel_rows(layers: Mapping[str, VarianceShares]) -> list[dict[str, Any]]:
    """Return one row per layer, axis and distinct offset, those with the largest content share first.

    Columns:
        layer, axis: Whose offsets.
        offset: Index of the distinct offset: k is that of channels k S to (k + 1) S - 1, where S channels share one.
        constant, position, image, content: Shares of its mean square; NaN where it is always 0.
        rms: Its root mean square, tokens.
    """
    rows = []
    for layer, shares in layers.items():
        for index, axis in enumerate(AXES):
            values, rms = shares.channel_shares[:, index], shares.rms[index]
            for offset in np.argsort(-values[PARTS.index("content")]).tolist():  # NaN last
                parts = dict(zip(PARTS, values[:, offset].tolist(), strict=True))
                rows.append({"layer": layer, "axis": axis, "offset": offset, **parts, "rms": float(rms[offset])})
    return rows


def _shares(components: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return components / components.sum(axis=0)
