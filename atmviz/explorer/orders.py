"""Orders of a layer's columns, from left to right. Torch-free.

Legend: N images, H/W grid in tokens, O distinct offsets per direction.
"""

import numpy as np

from atmviz.explorer.data import RECORDED_UNIT
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording
from atmviz.statistics.adaptivity import PARTS, layer_shares, variance_components


def keeps_parts(recording: Recording) -> bool:
    """Return whether a recording itself tells the parts of offsets, over all its images."""
    return {"moments", "positions"} <= recording.quantities.keys() and len(recording) > 1


def column_orders(recording: Recording, maps: np.ndarray, site: RecordedSite) -> dict[str, list[list[int]]]:
    """Return columns from left to right by axis: by index, by content share, and by role.

    A role is the largest part of an offset's mean square: constant, position, image or content. Columns of a role stand
    together, those with the largest share of it first.

    Args:
        recording: A recording; its images tell the parts if it keeps positions.
        maps: Offsets of the images on the page, [N, H, W, 2, O], in 1/64 token, which tell them otherwise.
        site: The layer.

    Returns:
        "index", "content" and "role": columns; "roles": the part's index of each column. "index" alone of a single
        image.
    """
    index = {"index": [list(range(site.num_offsets))] * 2}
    if keeps_parts(recording):
        components = layer_shares(recording, [site.name])[site.name].components
    elif len(maps) > 1:
        components = parts_of_maps(maps)
    else:
        return index
    sizes = np.nan_to_num(components)
    shares = sizes / np.maximum(sizes.sum(axis=0), np.finfo(float).tiny)
    roles = shares.argmax(axis=0)
    orders = {
        "content": np.argsort(-shares[PARTS.index("content")], kind="stable"),
        "role": np.lexsort((-shares.max(axis=0), roles)),
        "roles": roles,
    }
    return index | {name: order.tolist() for name, order in orders.items()}


def image_orders(offsets: np.ndarray) -> dict[str, list[list[int]]]:
    """Return columns from left to right by axis, the largest first: by their mean offset over an image, by variance.

    Args:
        offsets: Of each token of the image, [H, W, 2, O].
    """
    values = offsets.reshape(-1, *offsets.shape[2:]).astype(float)
    ranks = {"mean": values.mean(axis=0), "spread": values.var(axis=0)}
    return {name: np.argsort(-rank, kind="stable").tolist() for name, rank in ranks.items()}


def parts_of_maps(maps: np.ndarray) -> np.ndarray:
    """Return mu^2 and the variances of position, image and content, [4, 2, O], in tokens^2, of maps as above."""
    positions: np.ndarray = np.zeros((maps[0, ..., 0, 0].size, *maps.shape[3:]))
    moments = np.empty((len(maps), *maps.shape[3:], 2))
    for image, steps in enumerate(maps):
        offsets = steps.reshape(positions.shape) / RECORDED_UNIT
        positions += offsets
        moments[image] = np.stack([offsets.sum(axis=0), (offsets**2).sum(axis=0)], axis=-1)
    return variance_components(moments, positions)
