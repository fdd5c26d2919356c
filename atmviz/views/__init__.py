"""Finished figures of your images and network: what notebooks and commands call."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptivity": ["draw_adaptivity"],
        "claims": ["draw_claims"],
        "comparison": ["compare", "draw_comparison"],
        "depth": ["draw_depth"],
        "drawn": ["DrawnFigure"],
        "histograms": ["draw_histogram", "histogram"],
        "interventions": ["intervene"],
        "moving": ["MovingOverlay", "MovingOverlays", "draw_moving"],
        "overlays": ["Overlays", "draw_overlays", "overlay"],
        "settings": ["AnswerSettings", "ClaimSettings", "DepthSettings", "HistogramSettings", "OverlaySettings"],
    },
)
