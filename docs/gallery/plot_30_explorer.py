"""
The explorer
============

One HTML file for any browser: move over the image, and every layer shows what the token below the pointer
samples. It asks for nothing else, so it can be mailed and opened from a disk.
"""

import atmviz

start = atmviz.overlay(layers=["3_18"], width="column")  # the picture that the page starts from

# %%
# Click to pin a query, press ? for all keys.
page = atmviz.explore(layers=["2_1", "3_1", "3_18"], max_images=3)
page
