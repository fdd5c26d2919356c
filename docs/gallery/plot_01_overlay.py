"""
Which tokens one query samples
==============================

Figure 5 of the paper, for any photograph. The ring is the query token. Circles are the tokens that its
channels fetch: blue along the row, orange along the column. The more channels fetch a token, the more opaque
is its circle.
"""

import atmviz
from atmviz.sources import bundled_photos

rocket = bundled_photos().path(0).with_name("rocket.jpg")
overlay = atmviz.overlay(rocket, layers=["3_1", "4_2"], queries=["0.49,0.72"], width="text")

# %%
# The later layer reaches further. What lies outside the map is counted at the border.
