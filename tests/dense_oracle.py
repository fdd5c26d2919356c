"""Everything that recordings sum up, from dense maps of offsets, sample by sample: the reference of other tests.

Plain loops over the definitions; axis 0 of an offset is horizontal, positive to the right; axis 1 vertical, down.

Legend: N images, H/W grid in tokens, O distinct offsets, C chunks of 64 images, M objects kept of an image.
"""

import math

import numpy as np

CHUNK = 64
GROUPS = 16
MOST_OBJECTS = 64


def token_labels(mask, stride_px, grid):
    """Return the labels [H, W] of tokens from those of pixels."""
    row, column = (
        [math.floor(step * (k + 0.5)) for k in range(size)] for step, size in zip(stride_px, grid, strict=True)
    )
    return np.array([[mask[y, x] for x in column] for y in row])


def label_at(labels, i, j):
    """Return the label of a position, None outside the map."""
    return labels[i, j] if 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1] else None


def border_distance(labels, i, j, axis, sign):
    """Return the steps along an axis until the label is another or the map ends, minus 1/2."""
    steps = 1
    while label_at(labels, i + sign * steps * (axis == 1), j + sign * steps * (axis == 0)) == labels[i, j]:
        steps += 1
    return steps - 0.5


def hits_of(offsets, labels):
    """Return hits [2, O, 5] of one image: offsets [H, W, 2, O], labels [H, W]."""
    hits = np.zeros((*offsets.shape[2:], 5), np.int64)
    for (i, j, axis, k), offset in np.ndenumerate(offsets):
        step = int(np.rint(offset))
        if labels[i, j] == 0 or step == 0:
            continue
        ahead, behind = (
            label_at(labels, i + s * (axis == 1), j + s * (axis == 0)) == labels[i, j] for s in (step, -step)
        )
        sign = 1 if step > 0 else -1
        near = [0.8 <= abs(offset) / border_distance(labels, i, j, axis, s) <= 1.2 for s in (sign, -sign)]
        hits[axis, k] += [1, ahead, behind, *near]
    return hits


def next_image(n, images):
    """Return the next image of the chunk, cyclic; None for a chunk of one image."""
    first = n - n % CHUNK
    size = min(CHUNK, images - first)
    return first + (n - first + 1) % size if size > 1 else None


def label_arrays(offsets, labels):
    """Return `hits` and `other_hits`: offsets [N, H, W, 2, O], labels [N, H, W]."""
    images = len(offsets)
    others = [next_image(n, images) for n in range(images)]
    other = [
        np.zeros((*offsets.shape[3:], 3), np.int64) if k is None else hits_of(offsets[k], labels[n])[..., :3]
        for n, k in enumerate(others)
    ]
    hits = [hits_of(offsets[n], labels[n]) for n in range(images)]
    return {"hits": np.array(hits), "other_hits": np.array(other)}


def object_rows(mask, things):
    """Return numbers in the mask [M] and rows [64, 7] of an image's visible objects, the largest first.

    `things`: by number in the mask, (class label, length px, elongation, angle); None for what is unknown.
    """
    rows = []
    for number, (label, *known) in things.items():
        y, x = np.nonzero(mask == number)
        if len(x):
            rows.append((number, [label, len(x), x.std(), y.std(), *(value or 0 for value in known)]))
    rows = sorted(rows, key=lambda row: -row[1][1])[:MOST_OBJECTS]  # of equal ones the first number first
    table = np.zeros((MOST_OBJECTS, 7))
    table[:, 0] = -1
    table[: len(rows)] = np.reshape([row for _, row in rows], (-1, 7))
    return [number for number, _ in rows], table


def object_arrays(offsets, labels, numbers):
    """Return `object_offsets` and `other_object_offsets`; `numbers`: those of each image's objects, in order."""
    images = len(offsets)
    own, other = np.zeros((images, MOST_OBJECTS, 3)), np.zeros((images, MOST_OBJECTS, 2))
    for n in range(images):
        for m, number in enumerate(numbers[n]):
            for i, j in zip(*np.nonzero(labels[n] == number), strict=True):
                own[n, m] += [1, *np.abs(offsets[n, i, j]).mean(axis=1)]
                if (k := next_image(n, images)) is not None:
                    other[n, m] += np.abs(offsets[k, i, j]).mean(axis=1)
    return {"object_offsets": own, "other_object_offsets": other}


def moment_arrays(offsets, bins):
    """Return `moments`, `beyond`, `distances` and `mean_abs_offset`; `bins` is the number of bins of distances."""
    images, height, width = offsets.shape[:3]
    far = np.abs(offsets)
    moments = np.stack([each.sum((1, 2)) for each in (offsets, offsets**2, far)], axis=-1)
    halves = np.array([width / 2, height / 2])[:, None]
    beyond = np.stack([(far > limit).sum((1, 2, 4)) for limit in (1.5, 2.5, halves)], axis=-1)
    distances = np.zeros((-(-images // CHUNK), 2, bins), np.int64)
    for (n, _, _, axis, _), distance in np.ndenumerate(far):
        distances[n // CHUNK, axis, min(math.floor(distance * 16), bins - 1)] += 1
    return {
        "moments": moments,
        "beyond": beyond,
        "distances": distances,
        "mean_abs_offset": far.mean((1, 2, 4)),
    }


def position_arrays(offsets):
    """Return `positions` [C, 16, H, W, 2, O]."""
    images = len(offsets)
    sums = np.zeros((-(-images // CHUNK), GROUPS, *offsets.shape[1:]))
    for n in range(images):
        sums[n // CHUNK, n % CHUNK % GROUPS] += offsets[n]
    return {"positions": sums}
