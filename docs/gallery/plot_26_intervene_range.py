"""
How much range is needed
========================

Offsets are limited to a radius, one stage at a time. Vertical lines mark how far mixers of fixed offsets
reach.
"""

import atmviz

ranges = atmviz.intervene(do=["clamp:0.5,1,2"], by="stage", limit=100, width="text")
changes = ranges.table[["intervention", "layer", "change"]]
