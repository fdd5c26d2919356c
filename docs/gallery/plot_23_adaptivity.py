"""
Which part of the offsets adapts
================================

A part of an offset is the same everywhere, a part follows the place, a part the image. What is left depends
on the content at that token.
"""

import atmviz

recording = atmviz.record("shapes", out="scenes", limit=400, labels="auto", keep=["positions"])
adaptivity = atmviz.adaptivity(recording, width="text")

# %%
# Shares of the mean square, which add up to 1:
table = atmviz.adaptivity_table(recording)[["layer", "axis", "constant", "position", "image", "content"]]
table.round(3)
