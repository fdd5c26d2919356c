"""
One column of print
===================

``width="column"`` is one column of a two-column paper, ``"text"`` both. Letters stay readable: 6 points or
more.
"""

import atmviz

recording = atmviz.record(out="photos")
histogram_column = atmviz.histogram(recording, layers=["2_1", "3_1", "3_18"], width="column")
