"""
One query in several photographs
================================

Several images stand side by side, equally high. ``figure=5`` takes size, fit and layer from the paper's
Figure 5.
"""

import atmviz
from atmviz.sources import bundled_photos

folder = bundled_photos().path(0).parent
photos = [folder / f"{name}.jpg" for name in ("astronaut", "cat", "coffee", "rocket")]
overlay_montage = atmviz.overlay(photos, figure=5, queries=["0.4,0.4"], width="text")

# %%
# If offsets followed the place alone, all four pictures would show the same pattern. They do not.
