"""Recordings and offsets in, counts and tables out. Torch-free."""

from typing import Literal

import lazy_loader

TokenSelection = Literal["center", "all"]
"""Whose offsets are counted: those of the recorded query token, or of every token."""
ReachUnit = Literal["tokens", "px", "percent"]
"""Units of reach: tokens of the layer, pixels of the input, or percent of the map's axis."""

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptivity": ["VarianceShares", "adaptivity_table", "variance_shares"],
        "claims": ["claims_table"],
        "comparison": ["compare_table"],
        "histogram": ["OffsetHistogram", "histogram_table", "offset_histogram"],
        "objects": ["object_table"],
        "reach": ["depth_table"],
        "sampling": ["SampledTokens", "SamplingMap", "nearest_index", "sampling_map"],
    },
)
