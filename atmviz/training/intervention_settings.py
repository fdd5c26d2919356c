"""Settings of `intervene`. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from atmviz.layers import layer_patterns
from atmviz.observe.interventions import KINDS, read_interventions
from atmviz.settings import Settings, setting, settings_under

_intervention = settings_under("Intervention")


@dataclass(frozen=True)
class InterventionSettings(Settings):
    """What is done to the offsets of which layers.

    Raises:
        SettingsError: no such intervention, or a value of another type or out of range.
    """

    do: tuple[str, ...] = setting(
        (),
        f"{', '.join(kind.pattern for kind in KINDS.values())}; several with commas, as in clamp:0.5,1,2; repeatable. "
        "By default all, with clamp:1, but for scale; of dense tasks also but for position and other.",
        "Intervention",
        read=read_interventions,
    )
    by: Literal["layer", "stage"] | None = _intervention(
        None,
        "layer: one layer that generates offsets at a time, with those that reuse them. stage: one stage. By default "
        "all layers together.",
    )
    layers: tuple[str, ...] = setting(
        ("all",),
        "Only these layers, each with all that use the same offsets: 3_18, 2_1,3_7, 3_*, all; repeatable.",
        "Intervention",
        flags=("--layer",),
        read=layer_patterns,
    )
    calibration: int = _intervention(64, "Images over which constant and position average; none is evaluated.", 1)
