"""
What learned offsets are worth
==============================

The network is evaluated with other offsets in place of its own, and is not retrained. A bar is the change of
top-1.
"""

import atmviz

worth = atmviz.intervene(do=["zero", "constant", "mirror", "shuffle", "clamp:1"], limit=200, width="text")
changes = worth.table[["intervention", "value", "change", "low", "high"]]
changes.round(1)
