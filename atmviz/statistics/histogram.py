"""Histograms of recorded offsets.

A sample counts for the token nearest to it: bin k of a histogram holds the samples nearest to the token k tokens away,
and a sample is outside the map when that token is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from atmviz.errors import LayerNotFoundError, RecordingFormatError, SettingsError, describe
from atmviz.layers import LayerId, Layers
from atmviz.observe.site import AXES, select_sites
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording, open_recording
from atmviz.statistics import TokenSelection
from atmviz.statistics.sampling import nearest_index

if TYPE_CHECKING:
    from pandas import DataFrame


Axis = Literal["horizontal", "vertical"]
DEFAULT_LAYERS = ("2_1", "3_1", "3_last")


@dataclass(frozen=True)
class OffsetHistogram:
    """Samples of one layer and axis by nearest integer offset.

    Attributes:
        site: The layer.
        axis: "horizontal" or "vertical".
        first: Offset of the first bin, tokens.
        counts: Samples per bin, int64, over the whole possible range of the map.
        below, above: Samples beyond the range on either side.
        outside_share: Fraction of all samples whose nearest token is outside the map.
        mean_abs: Mean |offset|, tokens.
        images: Number of images.
        tokens: The query token as recorded, e.g. "center" or "0.3,0.6"; "all" for every token.
        reused_by: Names of the recorded layers that use the offsets of this one.
    """

    site: RecordedSite
    axis: Axis
    first: int
    counts: np.ndarray
    below: int
    above: int
    outside_share: float
    mean_abs: float
    images: int
    tokens: str
    reused_by: tuple[str, ...] = ()

    @property
    def offsets(self) -> np.ndarray:
        """Offset of each bin, tokens."""
        return np.arange(self.first, self.first + len(self.counts))

    @property
    def last(self) -> int:
        """Offset of the last bin, tokens."""
        return self.first + len(self.counts) - 1

    @property
    def total(self) -> int:
        """Number of samples, with those beyond the range."""
        return int(self.counts.sum()) + self.below + self.above

    @property
    def fractions(self) -> np.ndarray:
        """Fraction of all samples per bin."""
        return self.counts / max(self.total, 1)


def offset_histogram(
    recording: Recording | str | Path, layer: str | LayerId, axis: str | int, tokens: TokenSelection = "center"
) -> OffsetHistogram:
    """Return the histogram of a layer's offsets over the whole possible range of its map.

    For a query token at q of n tokens the range is [-q, n - 1 - q], e.g. [-32, 31] for the center of 64 (Figs. 3, 6,
    7); over all tokens it is [-(n - 1), n - 1]. Each of the C channels counts, also where channels share an offset.

    Args:
        recording: An opened recording, or its folder.
        layer: A layer, e.g. "3_18" or "3_last".
        axis: "horizontal" (0) or "vertical" (1).
        tokens: "center": offsets of the recorded query token. "all": of every token.

    Returns:
        The histogram, with one bin per token of offset.

    Raises:
        LayerNotFoundError: the layer was not recorded.
        RecordingFormatError: there is no recording, or it holds no finished image.
        SettingsError: an unknown axis, or unknown tokens.
    """
    recording = open_recording(recording)
    site = recording.site(layer)
    if axis not in (*AXES, 0, 1):
        raise SettingsError(f"got axis {describe(axis)}, expected 'horizontal' (0) or 'vertical' (1)")
    index = AXES.index(axis) if isinstance(axis, str) else int(axis)
    if tokens not in get_args(TokenSelection):
        raise SettingsError(f"got tokens {describe(tokens)}, expected 'center' or 'all'")
    if not len(recording):
        raise RecordingFormatError(f"{recording.path} holds no finished image: resume the recording first")
    size = site.grid[::-1][index]
    if tokens == "all":
        first, counts = 1 - size, recording.counts(layer)[index]
        outside_share = recording.outside_share(layer)[:, index].mean()
        mean_abs = recording.mean_abs_offset(layer)[:, index].mean()
    else:
        query_index = site.query[::-1][index]
        offsets = recording.distinct_offsets(layer)[:, index]
        nearest = nearest_index(offsets, query_index, size).ravel()
        first, counts = -query_index, np.bincount(nearest + 1, minlength=size + 2)
        outside_share = (counts[0] + counts[-1]) / counts.sum()
        mean_abs = np.abs(offsets).mean(dtype=np.float64)
    counts = counts * site.channels_per_offset
    return OffsetHistogram(
        site=site,
        axis=AXES[index],  # type: ignore[arg-type]
        first=first,
        counts=counts[1:-1],
        below=int(counts[0]),
        above=int(counts[-1]),
        outside_share=float(outside_share),
        mean_abs=float(mean_abs),
        images=len(recording),
        tokens=tokens if tokens == "all" else str(recording.attrs["query"]),
        reused_by=tuple(other.name for other in recording.sites if other.name != other.source == site.name),
    )


def choose_layers(recording: Recording, layers: Layers = ()) -> list[str]:
    """Return the names of the recorded layers that patterns select; see `atmviz.layers.select_layers`.

    Without patterns: 2_1, 3_1 and 3_last, or all layers where one of these was not recorded.

    Raises:
        LayerNotFoundError: a pattern selects no recorded layer.
    """
    try:
        return [site.name for site in select_sites(layers or DEFAULT_LAYERS, recording.sites)]
    except LayerNotFoundError:
        if layers:
            raise
        return recording.layers


def layer_histograms(
    recording: Recording, layers: Sequence[str], tokens: TokenSelection = "center"
) -> list[tuple[OffsetHistogram, OffsetHistogram]]:
    """Return the horizontal and the vertical histogram of each layer; see `offset_histogram`."""
    of_axes = ([offset_histogram(recording, layer, axis, tokens) for layer in layers] for axis in AXES)
    return list(zip(*of_axes, strict=True))


def histogram_table(
    recording: Recording | str | Path, layers: Layers = (), tokens: TokenSelection = "center"
) -> "DataFrame":
    """Return the histograms of layers as a table, one row per bin: the CSV beside a figure.

    Args:
        recording: An opened recording, or its folder.
        layers: Names or patterns, e.g. "3_18" or ["2_1", "3_*"]; by default 2_1, 3_1 and 3_last.
        tokens: "center": offsets of the recorded query token. "all": of every token.

    Returns:
        Columns:
            layer, source: The layer, and the layer whose offsets it uses.
            axis: "horizontal" or "vertical".
            tokens: The query token as recorded, e.g. "center"; "all" for every token.
            offset: Offset of the bin in tokens, an integer; the first and the last row of a histogram hold what lies
                beyond the range, as text: "<-32" and ">31".
            count: Samples.
            share: Fraction of all samples of the histogram.

    Raises:
        LayerNotFoundError: a pattern selects no recorded layer.
        RecordingFormatError, SettingsError: see `offset_histogram`.
    """
    recording = open_recording(recording)
    pairs = layer_histograms(recording, choose_layers(recording, layers), tokens)
    return tabulate(histogram for pair in pairs for histogram in pair)


def tabulate(histograms: Iterable[OffsetHistogram]) -> "DataFrame":
    """Return histograms as a table with the columns of `histogram_table`."""
    import pandas

    rows = [
        {
            "layer": histogram.site.name,
            "source": histogram.site.source,
            "axis": histogram.axis,
            "tokens": histogram.tokens,
            "offset": offset,
            "count": count,
            "share": count / max(histogram.total, 1),
        }
        for histogram in histograms
        for offset, count in (
            (f"<{histogram.first}", histogram.below),
            *zip(histogram.offsets.tolist(), histogram.counts.tolist(), strict=True),
            (f">{histogram.last}", histogram.above),
        )
    ]
    return pandas.DataFrame(rows)
