"""How many samples lie at each offset, image by image, and the interval of their shares over images. Torch-free.

Legend: N images, H/W grid in tokens, O distinct offsets, n tokens along an axis.
"""

import numpy as np

from atmviz.statistics.intervals import resample


def offset_counts(offsets: np.ndarray, size: int) -> np.ndarray:
    """Return how many samples of each image lie at each nearest integer offset, [N, 2n + 1].

    Args:
        offsets: Offsets along one axis, [N, H, W, O], tokens.
        size: n. The first and the last bin, -n and n, also count all beyond.
    """
    bins = np.clip(np.rint(offsets), -size, size).astype(np.int64) + size
    return np.stack([np.bincount(image.ravel(), minlength=2 * size + 1) for image in bins])


def share_interval(counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the 95 % interval over images of the share of all samples that lies in each bin, [2, bins]: low, high.

    Images are drawn again, and the 2.5th and 97.5th percentiles of the shares are taken.

    Args:
        counts: Samples by image and bin, [N, bins].
        seed: Seed of the draws.

    Returns:
        [0, bins] for fewer than 8 images.
    """
    totals = resample(len(counts), seed) @ counts
    if not len(totals):
        return totals
    return np.percentile(totals / totals.sum(axis=1, keepdims=True), (2.5, 97.5), axis=0)
