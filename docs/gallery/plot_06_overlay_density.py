"""
How often each token is sampled
===============================

The samples of *all* queries, counted at the token nearest to them. The average over a map is 1, less what
lies outside.
"""

import atmviz
from atmviz.sources import bundled_photos

rocket = bundled_photos().path(0).with_name("rocket.jpg")
overlay_density = atmviz.overlay(rocket, view="density", layers=["3_18"], width="column")
