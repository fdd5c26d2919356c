"""See where Active Token Mixer networks (ATMNet) look: record learned offsets, draw them.

Importing this package does not import torch; the names below load what they need on first use.
"""

from typing import Any

import lazy_loader

from atmviz.errors import nearest

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": ["convert_checkpoint", "load_model"],
        "errors": ["AtmvizError"],
        "explorer.exploring": ["explore"],
        "figures.settings": ["FigureStyle"],
        "geometry": ["Preprocessing"],
        "inspection": ["inspect"],
        "layers": ["LayerId"],
        "models": ["create_model"],
        "observe": ["find_sites", "observing"],
        "publishing": ["publish"],
        "recording.merge": ["merge_recordings"],
        "recording.quantities": ["QUANTITIES", "Quantity"],
        "recording.run": ["record"],
        "recording.store": ["open_recording"],
        "statistics": [
            "adaptivity_table",
            "claims_table",
            "compare_table",
            "depth_table",
            "histogram_table",
            "object_table",
            "offset_histogram",
        ],
        "training.evaluate": ["evaluate"],
        "training.loop": ["train"],
        "views.adaptivity": ["adaptivity"],
        "views.claims": ["claims"],
        "views.depth": ["depth"],
        "views.comparison": ["compare"],
        "views.histograms": ["histogram"],
        "views.interventions": ["intervene"],
        "views.overlays": ["overlay"],
    },
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"atmviz has no {name!r}{nearest(name, __all__)}", name=name)
    return _load(name)
