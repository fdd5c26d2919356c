"""Figures: numbers in, matplotlib out. No torch, no model, no screen. Each loads what it needs on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "histograms": ["draw_histograms"],
        "overlay": ["OverlayPanel", "draw_overlay", "overlay_panels"],
        "style": ["MOST_PANELS", "figure_name", "save_figure"],
    },
)
