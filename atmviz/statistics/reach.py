"""Reach against depth: quantiles of |offset| of each layer that generates offsets, beside the untrained network's.

Legend: N images, O distinct offsets.
"""

from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from atmviz.errors import RecordingFormatError
from atmviz.layers import Layers
from atmviz.observe.site import AXES
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording, open_recording
from atmviz.statistics import ReachUnit
from atmviz.statistics.claims import generating_sites, require_alike, samples_of
from atmviz.statistics.depth import distance_quantiles, untrained_std

if TYPE_CHECKING:
    from pandas import DataFrame

DEFINITION = "quantiles/1"
QUANTILES = {"q2_5": 0.025, "q25": 0.25, "median": 0.5, "q75": 0.75, "q97_5": 0.975}
"""Levels of quantiles by the name of their column: the median, and the ends of 50 % and 95 % of the samples."""


def reach_rows(
    recording: Recording, layers: Layers = (), *, unit: ReachUnit = "tokens", baseline: Recording | None = None
) -> list[dict[str, Any]]:
    """Return the rows of `depth_table`."""
    rows, sites = [], generating_sites(recording, layers)
    if baseline is not None:
        require_alike(recording, baseline, sites)
    for name, site in sites.items():
        distances = _distances(recording, site)
        untrained = None if baseline is None else _distances(baseline, baseline.site(name))
        for axis, axis_name in enumerate(AXES):
            factor = unit_factor(site, axis, unit)
            quantiles = factor * distance_quantiles(distances[axis], tuple(QUANTILES.values()))
            if untrained is None:
                median = NormalDist(sigma=untrained_std(site.channels)).inv_cdf(0.75)
            else:
                median = float(distance_quantiles(untrained[axis], (0.5,))[0])
            rows.append(
                {
                    **{"layer": name, "axis": axis_name},
                    **dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
                    **{"untrained_median": factor * median, "unit": unit, "definition": DEFINITION},
                    **{"n_images": len(recording), "n": len(recording) * samples_of(site)},
                }
            )
    return rows


def unit_factor(site: RecordedSite, axis: int, unit: ReachUnit) -> float:
    """Return what one token along an axis is in a unit."""
    return {"tokens": 1.0, "px": float(site.stride_px[1 - axis]), "percent": 100 / site.grid[1 - axis]}[unit]


def _distances(recording: Recording, site: RecordedSite) -> np.ndarray:
    """Return samples by |offset| of all images, [2, bins]."""
    if "distances" not in recording.quantities:
        raise RecordingFormatError(
            f"{recording.path} holds no distances of offsets: record its images again, and keep moments"
        )
    if not len(recording):
        raise RecordingFormatError(f"{recording.path} holds no finished image: resume the recording first")
    distances = recording.read("distances", site.name).sum(0)
    if (distances < 0).any() or (distances.sum(1) != len(recording) * samples_of(site)).any():
        raise RecordingFormatError(
            f"array 'distances' in {recording.path} is damaged (not one for each sample): delete it and record again"
        )
    return distances


def depth_table(
    recording: Recording | str | Path,
    layers: Layers = (),
    *,
    unit: ReachUnit = "tokens",
    baseline: Recording | str | Path | None = None,
) -> "DataFrame":
    """Return how far each layer reaches, as quantiles of |offset| over all samples: the CSV beside the figure.

    Args:
        recording: An opened recording, or its folder, that keeps moments or labels.
        layers: Layers that generate offsets, by name or pattern; all without them.
        unit: Of |offset|: tokens, px of the network's input, or percent of the map's axis.
        baseline: A recording of the untrained network; without it, a formula stands for the untrained network.

    Returns:
        Columns:
            layer, axis: The layer that generates offsets, and "horizontal" or "vertical".
            q2_5, q25, median, q75, q97_5: Quantiles of |offset|, straight within bins of 1/16 token.
            untrained_median: The median of the untrained network.
            unit, definition: The unit, and the definition in docs/definitions.
            n_images, n: Images and samples.

    Raises:
        LayerNotFoundError: a layer was not recorded, in the recording or in the baseline.
        RecordingFormatError: a recording is damaged, empty or keeps no moments.
        SettingsError: no layer has offsets, or the baseline has maps of another size.

    Source: Figs. 3, 6 and 7; A2.2.
    """
    import pandas

    untrained = None if baseline is None else open_recording(baseline)
    return pandas.DataFrame(reach_rows(open_recording(recording), layers, unit=unit, baseline=untrained))
