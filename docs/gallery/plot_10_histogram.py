"""
How far the channels look
=========================

Figures 3, 6 and 7 of the paper: the offsets of the center token of each image, layer by layer. One bar is one
token. Blue bars move along the row, orange ones along the column.
"""

import pandas

import atmviz

recording = atmviz.record(out="photos")  # the bundled photographs
histogram = atmviz.histogram(recording, layers=["2_1", "3_1", "3_18"])

# %%
# How far on average, over all tokens and images? In tokens:
reach = {layer: recording.mean_abs_offset(layer).mean(axis=0).round(2) for layer in ("2_1", "3_1", "3_18")}
pandas.DataFrame(reach, index=["horizontal", "vertical"])
