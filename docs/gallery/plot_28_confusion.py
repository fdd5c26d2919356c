"""
Which class is taken for which
==============================

With all offsets set to zero the network confuses shapes that it otherwise tells apart. Rows are the true
classes.
"""

from pathlib import Path

import atmviz
from atmviz.figures.confusion import draw_confusion

learned = atmviz.evaluate(limit=300)
zero = atmviz.evaluate(limit=300, offsets="zero", confusion=True)
confusion = draw_confusion(zero.confusion, zero.classes, Path("confusion.png"), title=zero.title)

# %%
# Top-1 with learned offsets and without, in percent:
top1 = [learned.metrics["top1"], zero.metrics["top1"]]
top1
