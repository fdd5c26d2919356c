"""Whether offsets are longer on larger objects: the elasticity of reach in scale, between objects of one image.

Legend: N images, M objects.

Source: Sec. 3.2 and A2.2 (offsets adapt to the scale of objects).
"""

import numpy as np

from atmviz.recording.label_quantities import OBJECT_FIELDS
from atmviz.statistics.intervals import ROUNDING
from atmviz.statistics.measures import Estimate

LEAST_TOKENS = 4  # of an object at a layer


def log_scale(objects: np.ndarray) -> np.ndarray:
    """Return the logarithm of each object's scale in px, [N, M], NaN where there is no object.

    The scale is the true length where the dataset knows it, else the square root of the visible area.

    Args:
        objects: As recorded, [N, M, 7].
    """
    label, area, length = (objects[..., OBJECT_FIELDS.index(name)] for name in ("label", "area_px", "length_px"))
    return np.log(np.where(label < 0, np.nan, np.where(length > 0, length, np.sqrt(area))))


def log_reach(sums: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the logarithm of mean |offset| on each object, [N, M]; NaN below 4 tokens or for offsets of 0.

    Args:
        sums: Sum over an object's tokens of the mean |offset| along one axis, [N, M].
        tokens: Tokens of each object at this layer, [N, M].
    """
    seen = (tokens >= LEAST_TOKENS) & (sums > 0)
    return np.log(np.divide(sums, tokens, out=np.full(sums.shape, np.nan), where=seen))


def scale_elasticity(scale: np.ndarray, reach: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the slope of log reach in log scale between objects of one image (fixed effects of images).

    Args:
        scale, reach: Logarithms, [N, M]; an object that is NaN in either is left out.
        weights: See `resample`.

    Returns:
        The slope; NaN where no image has objects of unequal scale.
    """
    usable = np.isfinite(scale) & np.isfinite(reach)
    numbers = np.maximum(usable.sum(1, keepdims=True), 1)
    centered = []
    for values in (scale, reach):
        values = np.where(usable, values, 0.0)
        centered.append(np.where(usable, values - values.sum(1, keepdims=True) / numbers, 0.0))
    x, y = centered
    x[np.abs(x) < ROUNDING] = 0  # of objects of equal scale
    return Estimate.ratio((x * y).sum(1), (x * x).sum(1), weights)


def in_comparison(scale: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return which objects `scale_elasticity` compares with another of their image, [N, M], bool."""
    usable = np.isfinite(scale) & np.isfinite(reach)
    return usable & (usable.sum(1, keepdims=True) > 1)
