"""Figures: numbers in, matplotlib out. No torch, no network, no screen."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "histograms": ["draw_histograms"],
        "overlay": ["draw_overlay"],
        "panels": ["OverlayPanel", "Photo", "QuerySamples", "TokenMap"],
        "saving": ["figure_name", "read_about", "save_figure"],
        "settings": ["FigureStyle"],
        "style": ["MAX_PANELS"],
    },
)
