"""Offsets packed for a page: nothing is lost but what is said, and nearest tokens never change."""

import base64
import gzip

import numpy as np
import pytest

from atmviz.errors import SettingsError
from atmviz.explorer.data import coarser, details, pack, packed, read_maps, require_same
from atmviz.recording.settings import RecordingSettings
from atmviz.statistics.sampling import nearest_index


def unpacked(text, shapes):
    """Maps [H, W, 2, O] as `pack` describes them, read by plain indexing."""
    content, maps = gzip.decompress(base64.b64decode(text)), []
    for height, width, axes, count in shapes:
        size = height * width * axes * count
        low, high = (np.frombuffer(content, np.uint8, size, start).astype(int) for start in (0, size))
        content = content[2 * size :]
        steps = (low + 256 * high).reshape(axes, count, height, width)
        values = np.cumsum(steps, axis=-1) % 2**16
        maps.append(np.where(values < 2**15, values, values - 2**16).transpose(2, 3, 0, 1))
    assert not content
    return maps


def test_packed_offsets_are_read_back_exactly_at_the_ends_of_their_range_too():
    random = np.random.default_rng(0)
    maps = [random.integers(-(2**15), 2**15, shape).astype(np.int16) for shape in [(3, 5, 2, 4), (1, 2, 2, 7)]]
    maps[0][0, :2] = [[[-(2**15)]], [[2**15 - 1]]]
    read = unpacked(pack(maps), [each.shape for each in maps])
    assert all((back == given).all() for back, given in zip(read, maps, strict=True))
    assert pack(maps) == pack([each.copy() for each in maps])


def test_coarser_offsets_keep_the_nearest_token_and_err_by_less_than_a_step():
    recorded = np.arange(-(2**15), 2**15, dtype=np.int32).astype(np.int16)
    steps = coarser(recorded)
    error = np.abs(steps / 16 - recorded / 64)
    for query in (7, 8):
        assert (nearest_index(steps / 16, query, 10**4) == nearest_index(recorded / 64, query, 10**4)).all()
    assert error.max() < 1 / 16
    assert (error > 1 / 32).mean() < 0.05  # only beside the border between two tokens
    assert (np.rint(np.rint(recorded / 4) / 16) != np.rint(recorded / 64)).any()  # plain rounding would not do


def test_maps_of_some_images_are_read_in_the_order_asked_for(recording):
    names = [recording.images[2], recording.images[0]]
    maps = read_maps(recording, recording.sites, names)
    assert list(maps) == [site.name for site in recording.sites if site.is_source]
    assert (maps["3_13"] == recording.read("map", "3_13")[[2, 0]]).all()


def test_levels_of_detail_hold_less_and_less_and_say_so(recording):
    maps = read_maps(recording, recording.sites, recording.images)
    levels = details(recording.sites, [recording.site("3_18")])
    sizes = [sum(map(len, packed(maps, level, 10**9))) for level in levels]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert [len(level.reduced) for level in levels] == [0, 1, 2, 2]
    assert packed(maps, levels[0], sizes[0]) is not None
    assert packed(maps, levels[0], sizes[0] - 1) is None
    (first,) = unpacked(
        packed({"1_1": maps["1_1"]}, details([recording.site("1_1")], [])[2], 10**9)[0], [(12, 20, 2, 12)]
    )
    assert (first == coarser(maps["1_1"][0, ::2, ::2])).all()


def test_recordings_are_compared_only_if_images_and_layers_agree(recording, other, labeled, record, photographs):
    assert require_same(recording, other) == recording.images
    with pytest.raises(SettingsError, match="differ in preprocessing and layers, expected two recordings of the same"):
        require_same(recording, labeled)
    few = record(photographs, settings=RecordingSettings(keep=("maps",), layers=("3_18",), workers=0))
    with pytest.raises(SettingsError, match="differ in layers"):
        require_same(recording, few)
