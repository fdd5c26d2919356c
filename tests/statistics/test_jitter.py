"""How much offsets change between frames, against arithmetic by hand."""

import numpy as np
import pytest

from atmviz.statistics.jitter import temporal_jitter


def test_jitter_is_the_mean_change_over_tokens_and_offsets_by_axis():
    before = np.zeros((2, 3, 2, 4), np.float32)
    after = before.copy()
    after[0, 0, 0] = [1, -1, 2, 0]  # horizontal: 4 / (6 tokens x 4 offsets)
    after[:, :, 1] = -0.5
    assert temporal_jitter(before, after) == {"horizontal": pytest.approx(4 / 24), "vertical": 0.5}
    assert temporal_jitter(after, before) == temporal_jitter(before, after)
    assert temporal_jitter(after, after) == {"horizontal": 0, "vertical": 0}
