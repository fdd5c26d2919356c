"""Finished figures of your images and network: what notebooks and commands call."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptivity": ["draw_adaptivity"],
        "comparison": ["compare", "draw_comparison"],
        "drawn": ["DrawnFigure"],
        "histograms": ["draw_histogram", "histogram"],
        "overlays": ["Overlays", "draw_overlays", "overlay"],
        "settings": ["AdaptivitySettings", "ComparisonSettings", "HistogramSettings", "OverlaySettings"],
    },
)
