"""
Objects as a table
==================

A recording with labels has one row for each object and layer. From here on it is your own plot: reach against
the length of the object, in the layer 3_13.
"""

import matplotlib.pyplot as plt

import atmviz

recording = atmviz.record("shapes", out="scenes", limit=400, labels="auto", keep=["positions"])
objects = atmviz.object_table(recording)
layer = objects[(objects.layer == "3_13") & (objects.tokens >= 4)]

figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
axes.scatter(layer.length_px, layer.mean_abs_h, s=8, label="horizontal")
axes.scatter(layer.length_px, layer.mean_abs_v, s=8, marker="D", label="vertical")
axes.set(xlabel="length of the object, px", ylabel="mean |offset| on it, tokens")
axes.legend()

# %%
# Is there a slope? The eye cannot tell, because images differ as a whole. The
# :doc:`elasticity </docs/definitions/elasticity>` compares objects of one image, with an interval.
means = layer[["length_px", "mean_abs_h", "mean_abs_v", "other_abs_h", "other_abs_v"]].mean()
means.round(2).to_frame("mean")
