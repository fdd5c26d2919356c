"""
Watch and change a forward pass
===============================

Hooks read what every layer samples, and may replace its offsets before they are used.
"""

import matplotlib.pyplot as plt
import torch

import atmviz

network = atmviz.load_model(device="cpu")
images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
with torch.no_grad(), atmviz.observing(network, "3_*") as seen:
    before = network(images)
with torch.no_grad(), atmviz.observing(network, edits={"3_13": torch.zeros_like}):
    after = network(images)
change = float((after - before).abs().max())

# %%
# The offsets that were seen: one map for each axis and distinct offset. Here the first horizontal one.
figure, axes = plt.subplots(figsize=(4, 3.2), layout="constrained")
picture = axes.imshow(seen.offsets["3_13"][0, :, :, 0, 0], cmap="RdBu")
figure.colorbar(picture, label="offset, tokens")
axes.set(title="one distinct offset of layer 3_13", xlabel="column", ylabel="row")
