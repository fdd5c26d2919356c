"""Figures: numbers in, matplotlib out. No torch, no model, no screen."""

from atmviz.figures.histograms import draw_histograms
from atmviz.figures.overlay import OverlayPanel, draw_overlay, overlay_panels
from atmviz.figures.style import figure_name, save_figure

__all__ = ["OverlayPanel", "draw_histograms", "draw_overlay", "figure_name", "overlay_panels", "save_figure"]
