"""
Every token, not the center alone
=================================

The center token is one of many. With ``tokens="all"`` the offsets of all tokens are counted, and the axis
covers the range of every token.
"""

import atmviz

recording = atmviz.record(out="photos")
everywhere = atmviz.histogram(recording, layers=["3_1", "3_18"], tokens="all", width="text")

# %%
# The share of horizontal samples that lie outside the map:
outside = atmviz.offset_histogram(recording, "3_18", axis="horizontal", tokens="all").outside_share
