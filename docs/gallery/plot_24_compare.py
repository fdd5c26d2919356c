"""
Two networks on the same images
===============================

A is the untrained network, B the demonstration model. W₁ is how far samples of A must be moved to become
those of B.
"""

import atmviz

recording = atmviz.record("shapes", out="scenes", limit=400, labels="auto", keep=["positions"])
untrained = atmviz.record(like=recording, network="init:atmnet_nano.shapes", out="untrained")
compare = atmviz.compare(untrained, recording, layers=["2_1", "3_1", "3_13"], width="text")

# %%
# Reach is the mean \|offset\|, in tokens. Growth is the second over the first:
table = atmviz.compare_table(untrained, recording)
growth = table[["layer", "axis", "w1", "reach_a", "reach_b", "growth"]]
growth.round(2)
