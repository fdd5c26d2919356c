"""Titles of panels: what tells them apart, and what they share said once."""

import numpy as np
import pytest

from atmviz.figures import OverlayPanel, Photo, QuerySamples, TokenMap
from atmviz.figures.panels import common_title, panel_titles
from atmviz.geometry import Preprocessing, map_size
from atmviz.recording.query import Query
from atmviz.statistics import sampling_map


@pytest.fixture
def panels(site):
    """A panel for each photograph, query and layer."""

    def make(layers=("3_18",), queries=("center",), photos=("a.jpg",), label=None):
        placement = Preprocessing((224, 224), "whole").place(448, 448)
        found = []
        for name in photos:
            photo = Photo(np.zeros((448, 448, 3), np.uint8), placement, f"folder/{name}")
            for query in queries:
                asked = Query("center") if query == "center" else Query("image", *map(float, query.split(",")))
                for layer in layers:
                    info = site(layer, "3_13" if layer == "3_18" else layer, map_size((224, 224), 16))
                    samples = sampling_map(np.zeros((2, 4)), asked.token(placement, info.grid, (16, 16)), info.grid)
                    shown = TokenMap(label, np.zeros(info.grid), "") if label else (QuerySamples(asked, samples),)
                    found.append(OverlayPanel(photo, info, shown))
        return found

    return make


@pytest.mark.parametrize(
    ("shown", "titles", "below", "common"),
    [
        ({}, ["layer_3_18"], "offsets of 3_13, query token 7:7", ""),
        ({"layers": ["3_1", "3_18"]}, ["layer_3_1", "layer_3_18"], "query token 7:7", ""),
        (
            {"queries": ["0.1,0.1", "0.2,0.7"]},
            ["0.1,0.1", "0.2,0.7"],
            "query token 1:1",
            "layer_3_18 (offsets of 3_13)",
        ),
        ({"photos": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"], "query token 7:7", "layer_3_18 (offsets of 3_13)"),
        (
            {"layers": ["3_1", "3_18"], "queries": ["0.1,0.1", "0.2,0.7"]},
            ["layer_3_1 at 0.1,0.1", "layer_3_18 at 0.1,0.1", "layer_3_1 at 0.2,0.7", "layer_3_18 at 0.2,0.7"],
            "query token 1:1",
            "",
        ),
        ({"label": "vertical"}, ["vertical"], "", "layer_3_18 (offsets of 3_13)"),
        (
            {"label": "vertical", "photos": ["a.jpg", "b.jpg"]},
            ["a.jpg, vertical", "b.jpg, vertical"],
            "",
            "layer_3_18 (offsets of 3_13)",
        ),
    ],
)
def test_titles_name_what_differs_and_the_figure_what_is_the_same(panels, shown, titles, below, common):
    drawn = panels(**shown)
    found = panel_titles(drawn)
    assert [title for title, _ in found] == titles
    assert found[0][1] == below
    assert common_title(drawn) == common
