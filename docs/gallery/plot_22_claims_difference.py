"""
Claims of two networks, as differences
======================================

The same scenes by another network. Each row is this network less the other one, paired image by image.
"""

import atmviz

recording = atmviz.record("shapes", out="scenes", limit=400, labels="auto", keep=["positions"])
untrained = atmviz.record(like=recording, network="init:atmnet_nano.shapes", out="untrained")
difference = atmviz.claims(recording, against=untrained, width="text")
