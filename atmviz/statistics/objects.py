"""The objects of a labeled recording as a table."""

import numpy as np
import pandas as pd

from atmviz.errors import SettingsError
from atmviz.layers import Layers
from atmviz.observe.site import select_sites
from atmviz.recording.label_quantities import OBJECT_FIELDS
from atmviz.recording.store import Recording


def require_labels(recording: Recording) -> None:
    """Raise SettingsError if a recording does not say what offsets hit."""
    if "hits" not in recording.quantities:
        raise SettingsError(
            f"got {recording.path}, which was recorded without labels, expected labels: record again with labels auto, "
            "where the dataset knows objects, or with a folder of masks"
        )


def object_table(recording: Recording, layers: Layers = "generating") -> pd.DataFrame:
    """Return one row per object and generating layer of a labeled recording.

    Args:
        recording: A recording with labels.
        layers: Layers; those that generate offsets by default.

    Returns:
        image, object (1 is the largest of its image), label, area_px, extent_h_px and extent_v_px (standard deviations
        of the visible pixels), length_px, elongation and angle (NaN where the source does not know them), layer, tokens
        (of the object, at this layer), mean_abs_h and mean_abs_v (mean |offset| over these tokens, in tokens; NaN
        without a token), other_abs_h and other_abs_v (with the offsets of the next image of the chunk).

    Raises:
        SettingsError: the recording has no labels.
        LayerNotFoundError: a layer was not recorded.
    """
    require_labels(recording)
    objects = recording.read("objects")
    image, number = np.nonzero(objects[..., 0] >= 0)
    known = pd.DataFrame(objects[image, number], columns=OBJECT_FIELDS).astype({"label": int})
    known.loc[known.length_px == 0, ["length_px", "elongation", "angle"]] = np.nan
    known.insert(0, "image", np.array(recording.images, object)[image])
    known.insert(1, "object", number + 1)
    tables = []
    for site in select_sites(layers, recording.sites):
        sums, others = (
            recording.read(name, site.name)[image, number] for name in ("object_offsets", "other_object_offsets")
        )
        tokens = sums[:, :1]
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.c_[sums[:, 1:] / tokens, others / tokens]
        columns = dict(zip(("mean_abs_h", "mean_abs_v", "other_abs_h", "other_abs_v"), means.T, strict=True))
        tables.append(known.assign(layer=site.name, tokens=tokens[:, 0].astype(int), **columns))
    return pd.concat(tables, ignore_index=True)
