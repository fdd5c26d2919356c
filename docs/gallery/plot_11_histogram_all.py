"""
All layers at once
==================

More than eight layers become a heat map for each axis, one row per layer. A pattern such as ``*`` also takes
the layers that reuse the offsets of an earlier layer.
"""

import atmviz

recording = atmviz.record(out="photos")
histogram_all = atmviz.histogram(recording, layers="*", width="text")
