"""See where Active Token Mixer networks (ATMNet) look: record learned offsets, draw them.

Importing this package does not import torch; the names below load what they need on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
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
        "recording.merge": ["merge_recordings"],
        "recording.quantities": ["QUANTITIES", "Quantity"],
        "recording.run": ["record"],
        "recording.store": ["open_recording"],
        "statistics": ["histogram_table", "object_table", "offset_histogram"],
        "training.evaluate": ["evaluate"],
        "training.loop": ["train"],
        "views.histograms": ["histogram"],
        "views.overlays": ["overlay"],
    },
)
