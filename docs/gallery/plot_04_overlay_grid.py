"""
A grid of queries in two layers
===============================

Queries may be spread evenly over the image. Each has a row of panels, each layer a column.
"""

import atmviz
from atmviz.sources import bundled_photos

coffee = bundled_photos().path(0).with_name("coffee.jpg")
grid = atmviz.overlay(coffee, layers=["2_1", "3_18"], queries=["grid:2x2"], width="text")
