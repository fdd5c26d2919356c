"""
Several queries on one photograph
=================================

Each query has a color. Circles are samples along its row, squares along its column.
"""

import atmviz
from atmviz.sources import bundled_photos

cat = bundled_photos().path(0).with_name("cat.jpg")
overlay_together = atmviz.overlay(cat, queries=["0.34,0.35", "0.79,0.43", "0.55,0.7"], together=True)
