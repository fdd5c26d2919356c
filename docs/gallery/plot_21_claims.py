"""
The paper's claims, put to the test
===================================

Does training lengthen offsets? Do samples stay on the object? Are they longer on larger objects? A line is a
95 % interval over images, the gray band is what the same measure gives without what is claimed.
"""

import atmviz

recording = atmviz.record("shapes", out="scenes", limit=400, labels="auto", keep=["positions"])
claims = atmviz.claims(recording, width="text")

# %%
# A filled marker is decided, an open one is not. Effects have either sign, and some are not decidable:
table = atmviz.claims_table(recording)
columns = ["layer", "axis", "effect", "effect_low", "effect_high", "verdict"]
gap = table[table.measure == "mirror_gap"][columns]
gap.round(1)
