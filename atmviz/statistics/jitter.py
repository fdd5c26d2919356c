"""How much offsets change from one frame of a clip to the next. Numpy only."""

import numpy as np

from atmviz.observe.site import AXES


def temporal_jitter(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Return the mean change of the offsets between two frames, tokens, by axis.

    It is the mean of |o_t - o_(t-1)| over all tokens of the map and all distinct offsets: 0 for a still clip.

    Args:
        before, after: Distinct offsets of one layer in two frames of equal size, [H, W, 2, O], tokens; axis 2:
            horizontal, vertical.
    """
    change = np.abs(np.asarray(after, np.float64) - before).mean((0, 1, 3))
    return dict(zip(AXES, change.tolist(), strict=True))
