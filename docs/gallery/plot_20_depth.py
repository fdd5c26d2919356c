"""
Reach against depth
===================

Deeper layers reach further before anything is learned, because they are wider. The gray line is the untrained
network: what lies above it is learned.
"""

import atmviz

recording = atmviz.record("shapes", out="scenes", limit=400, labels="auto", keep=["positions"])
depth = atmviz.depth(recording, width="text")

# %%
# The median of \|offset\|, beside that of the untrained network:
table = atmviz.depth_table(recording)
medians = table[["layer", "axis", "median", "untrained_median"]]
medians.round(2)
