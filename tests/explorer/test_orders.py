"""Orders of columns: by content share and role, as the statistics of adaptivity tell them."""

import numpy as np
import pytest

from atmviz.explorer.data import read_maps
from atmviz.explorer.orders import column_orders, image_orders, keeps_parts, parts_of_maps
from atmviz.recording.settings import RecordingSettings
from atmviz.statistics.adaptivity import recorded_shares


@pytest.fixture(scope="module")
def positioned(record, photographs):
    """The photographs, with sums by position."""
    return record(photographs, settings=RecordingSettings(keep=("maps", "positions"), workers=0, layers=("3_13",)))


def test_parts_of_maps_are_those_that_a_recording_tells(positioned):
    (site,) = positioned.sites
    maps = read_maps(positioned, [site], positioned.images)["3_13"]
    recorded = recorded_shares(positioned, "3_13").components
    assert np.allclose(parts_of_maps(maps), recorded, atol=0.02 * recorded.max())  # maps are rounded to 1/64 token
    assert keeps_parts(positioned)


def test_columns_stand_by_their_shares(positioned):
    (site,) = positioned.sites
    parts = recorded_shares(positioned, "3_13").channel_shares
    orders = column_orders(positioned, np.empty(0), site)
    for axis in (0, 1):
        content, roles = parts[3, axis], parts[:, axis].argmax(0)
        assert (np.diff(content[orders["content"][axis]]) <= 0).all()
        assert orders["roles"][axis] == roles.tolist()
        assert (np.diff(roles[orders["role"][axis]]) >= 0).all()
        assert sorted(orders["role"][axis]) == orders["index"][axis] == list(range(site.num_offsets))


def test_a_single_image_tells_no_parts(recording):
    (site, *_), maps = recording.sites, np.zeros((1, 2, 2, 2, 12), np.int16)
    assert column_orders(recording, maps, site) == {"index": [list(range(12))] * 2}


def test_columns_of_an_image_stand_by_mean_and_variance():
    offsets = np.array([[[[1, 5, 2], [0, 0, 0]]], [[[3, 5, -6], [0, 0, 9]]]], np.int16)
    assert image_orders(offsets) == {"mean": [[1, 0, 2], [2, 0, 1]], "spread": [[2, 0, 1], [2, 0, 1]]}
