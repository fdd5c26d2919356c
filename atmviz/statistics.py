"""From recorded offsets to what figures show: histograms, and the tokens a query samples. Numpy only.

A sample counts for the token nearest to it (`numpy.rint`): bin k of a histogram holds the samples nearest to the token
k tokens away, and a sample is outside the map when that token is.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from atmviz.errors import RecordingFormatError
from atmviz.layers import LayerId
from atmviz.observe.site import AXES
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording

Tokens = Literal["center", "all"]


@dataclass(frozen=True)
class OffsetHistogram:
    """Samples by nearest integer offset, of one layer and axis.

    Attributes:
        site: Where the offsets are used.
        axis: 0 horizontal, 1 vertical.
        first: Offset of the first bin, tokens.
        counts: Samples per bin, int64, over the whole possible range of the map.
        below, above: Samples beyond the range on either side.
        outside_share: Share of all samples whose nearest token is outside the map.
        mean_abs: Mean |offset|, tokens.
        images: Images counted.
        tokens: "center": offsets of the recorded query token. "all": of every token.
    """

    site: RecordedSite
    axis: int
    first: int
    counts: np.ndarray
    below: int
    above: int
    outside_share: float
    mean_abs: float
    images: int
    tokens: Tokens

    @property
    def offsets(self) -> np.ndarray:
        """Offset of each bin, tokens."""
        return np.arange(self.first, self.first + len(self.counts))

    @property
    def last(self) -> int:
        return self.first + len(self.counts) - 1

    @property
    def total(self) -> int:
        """All samples, those beyond the range included."""
        return int(self.counts.sum()) + self.below + self.above

    @property
    def shares(self) -> np.ndarray:
        """Share of all samples per bin, 0 to 1."""
        return self.counts / max(self.total, 1)


def offset_histogram(
    recording: Recording, layer: str | LayerId, axis: int, tokens: Tokens = "center"
) -> OffsetHistogram:
    """Histogram of a layer's offsets over its whole possible range.

    The range is [-q, n - 1 - q] for a query token at q of n, e.g. [-32, 31] for the centre of 64 (Figs. 3, 6, 7), and
    [-(n - 1), n - 1] over all tokens. Each of the C channels counts, also where channels share an offset.
    """
    info = recording.site(layer)
    if not len(recording):
        raise RecordingFormatError(f"{recording.path} holds no finished image: run its `atmviz record` command again")
    size = info.grid[::-1][axis]
    if tokens == "all":
        counts = recording.counts(layer)[axis] * info.channels_per_offset
        inside = counts[1:-1]
        return OffsetHistogram(
            site=info,
            axis=axis,
            first=-(size - 1),
            counts=inside,
            below=int(counts[0]),
            above=int(counts[-1]),
            outside_share=float(recording.outside_share(layer)[:, axis].mean()),
            mean_abs=float(recording.mean_abs_offset(layer)[:, axis].mean()),
            images=len(recording),
            tokens=tokens,
        )
    own = info.query[::-1][axis]
    offsets = recording.distinct_offsets(layer)[:, axis]
    counts = _count_positions(offsets, own, size) * info.channels_per_offset
    return OffsetHistogram(
        site=info,
        axis=axis,
        first=-own,
        counts=counts[1:-1],
        below=int(counts[0]),
        above=int(counts[-1]),
        outside_share=float((counts[0] + counts[-1]) / counts.sum()),
        mean_abs=float(np.abs(offsets).mean(dtype=np.float64)),
        images=len(recording),
        tokens=tokens,
    )


def _count_positions(offsets: np.ndarray, own: int, size: int) -> np.ndarray:
    """How many offsets from token `own` of `size` lead to each token, [size + 2]; first and last: outside the map."""
    position = np.clip(np.rint(offsets) + own, -1, size).astype(np.int64)
    return np.bincount(position.ravel() + 1, minlength=size + 2)


def histogram_table(histograms: list[OffsetHistogram]) -> list[dict[str, object]]:
    """Rows of the CSV beside a figure: one per bin, and one for what lies beyond on either side."""
    rows: list[dict[str, object]] = []
    for histogram in histograms:
        named = [
            (f"<{histogram.first}", histogram.below),
            *zip(histogram.offsets.tolist(), histogram.counts.tolist(), strict=True),
            (f">{histogram.last}", histogram.above),
        ]
        rows += [
            {
                "layer": histogram.site.name,
                "source": histogram.site.source,
                "axis": AXES[histogram.axis],
                "tokens": histogram.tokens,
                "offset": offset,
                "count": count,
                "share": count / max(histogram.total, 1),
            }
            for offset, count in named
        ]
    return rows


@dataclass(frozen=True)
class SamplingMap:
    """The tokens one query samples in one layer.

    Attributes:
        grid: (H, W) in tokens.
        query: The query token (i, j).
        horizontal: Channels that sample each token of the query's row, [W].
        vertical: Channels that sample each token of its column, [H].
        left, right, top, bottom: Channels whose sample lies outside the map on that side.
        channels: C, the channels per axis.
    """

    grid: tuple[int, int]
    query: tuple[int, int]
    horizontal: np.ndarray
    vertical: np.ndarray
    left: int
    right: int
    top: int
    bottom: int
    channels: int


def sampling_map(offsets: np.ndarray, query: tuple[int, int], grid: tuple[int, int]) -> SamplingMap:
    """Count the channels that sample each token.

    Args:
        offsets: Offsets of the query token, [2, C], tokens; axis 0: horizontal, vertical.
        query: (i, j).
        grid: (H, W).
    """
    horizontal = _count_positions(offsets[0], query[1], grid[1])
    vertical = _count_positions(offsets[1], query[0], grid[0])
    return SamplingMap(
        grid=grid,
        query=query,
        horizontal=horizontal[1:-1],
        vertical=vertical[1:-1],
        left=int(horizontal[0]),
        right=int(horizontal[-1]),
        top=int(vertical[0]),
        bottom=int(vertical[-1]),
        channels=offsets.shape[1],
    )
