"""
What the branches weigh
=======================

A layer mixes what its channels fetch along the row, along the column, and at the query itself. A branch of
little weight hardly matters, however far its samples reach.
"""

import atmviz
from atmviz.sources import bundled_photos

cat = bundled_photos().path(0).with_name("cat.jpg")
overlay_fusion = atmviz.overlay(cat, view="fusion", layers=["2_1", "3_18"], width="column")

# %%
# Of a recording the same weights are numbers: width, height, identity; their mean over channels and images.
recording = atmviz.record(out="photos")
weights = recording.fusion("3_18").mean(axis=0)
