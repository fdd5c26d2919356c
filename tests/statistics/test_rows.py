"""Rows of tables: where a query looks, inside the map and beyond it."""

import numpy as np
import pytest

from atmviz.observe.site import Site
from atmviz.statistics.fusion import BranchWeights
from atmviz.statistics.rows import density_rows, fusion_rows, sample_rows, weight_rows
from atmviz.statistics.sampling import sampling_map

SITE = Site("3_18", "3_13", "", "axis", 4, 4, 1, (16, 16), ("width", "height", "identity"))
HEAD = {"layer": "3_18", "source": "3_13"}


def places(rows):
    return [tuple(row[name] for name in ("axis", "i", "j", "dy", "dx", "channels", "share")) for row in rows]


def test_every_sample_has_a_row_also_beyond_the_map():
    samples = sampling_map(np.array([[0, 1, 1, -9], [2, 9, 0, 0]]), (1, 2), (4, 5))
    rows = sample_rows(SITE, "0.3,0.4", samples)
    assert all({**HEAD, "query": "0.3,0.4"}.items() <= row.items() for row in rows)
    assert places(rows) == [
        ("horizontal", 1, 2, 0, 0, 1, 0.25),
        ("horizontal", 1, 3, 0, 1, 2, 0.5),
        ("vertical", 1, 2, 0, 0, 2, 0.5),
        ("vertical", 3, 2, 2, 0, 1, 0.25),
        ("horizontal", 1, "<0", 0, "<-2", 1, 0.25),
        ("vertical", ">3", 2, ">2", 0, 1, 0.25),
    ]


def test_a_point_beyond_a_side_says_only_that():
    samples = sampling_map(np.array([[0, -9], [1, 0]]), (1, 2), (4, 5), "point")
    assert places(sample_rows(SITE, "center", samples)) == [
        ("point", 2, 2, 1, 0, 1, 0.5),
        ("point", "", "<0", "", "<-2", 1, 0.5),
    ]


def test_maps_have_a_row_for_each_token():
    values = np.array([[0.25, 1], [2, 0]])
    rows = density_rows(SITE, "vertical", values)
    assert rows[2] == {**HEAD, "axis": "vertical", "i": 1, "j": 0, "samples": 8, "per_channel": 2}
    assert [row["samples"] for row in rows] == [1, 4, 8, 0]
    rows = fusion_rows(SITE, "width", values)
    assert rows[1] == {**HEAD, "branch": "width", "i": 0, "j": 1, "weight": 1}


def test_weights_have_a_row_for_each_branch():
    weights = BranchWeights(("width", "identity"), np.array([0.4, 0.6]), np.array([0.1, 0.2]), np.array([0.7, 0.8]))
    assert weight_rows(SITE, weights) == [
        {**HEAD, "branch": "width", "weight": pytest.approx(0.4), "weight_p10": 0.1, "weight_p90": 0.7},
        {**HEAD, "branch": "identity", "weight": pytest.approx(0.6), "weight_p10": 0.2, "weight_p90": 0.8},
    ]
