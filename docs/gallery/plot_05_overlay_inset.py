"""
Fine maps have an inset
=======================

The first stage has a token for every 4 pixels. Where a map has more than 40 tokens a side, an inset shows the
tokens around the query.
"""

import atmviz
from atmviz.sources import bundled_photos

astronaut = bundled_photos().path(0).with_name("astronaut.jpg")
inset = atmviz.overlay(astronaut, layers=["1_1", "2_1"], queries=["0.44,0.22"], size=384, width="text")
