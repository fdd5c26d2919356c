"""Histograms against numbers worked out by hand, and as tables."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from atmviz.checkpoints import load_model
from atmviz.errors import LayerNotFoundError, SettingsError
from atmviz.geometry import Preprocessing
from atmviz.models import create_model
from atmviz.models.token_mixer import OffsetLayer
from atmviz.observe import find_sites, observe_image
from atmviz.recording.layout import CHUNK_IMAGES
from atmviz.recording.run import run_recording
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import open_recording
from atmviz.recording.writer import RecordingWriter
from atmviz.sources import open_source
from atmviz.statistics import histogram_table, offset_histogram

SOURCE, ALIAS = "3_13", "3_18"


@pytest.fixture
def write(tmp_path):
    """Write a recording of one generating layer, 3_13, and one that reuses its offsets, 3_18."""

    def writer(offsets, grid, share=1, counts=None, outside=None, mean_abs=None, status=None, chunks=1):
        offsets = np.asarray(offsets, np.float32)  # [N, 2, O]
        images, _, num_offsets = offsets.shape
        sites = [
            RecordedSite(
                name=name,
                source=SOURCE,
                module=f"path.of.{name}",
                kind="axis",
                channels=share * num_offsets,
                num_offsets=num_offsets,
                channels_per_offset=share,
                stride_px=(16, 16),
                branches=("width", "height", "identity"),
                grid=grid,
                query=(grid[0] // 2, grid[1] // 2),
            )
            for name in (SOURCE, ALIAS)
        ]
        identity = {
            "model": "atmnet_nano",
            "checkpoint": {"sha256": "0" * 64, "trained": False},
            "preprocessing": asdict(Preprocessing((16 * grid[0], 16 * grid[1]))),
            "input_size": [16 * side for side in grid],
            "query": "center",
            "dataset": "made",
            "images": [f"{n}.png" for n in range(images)],
        }
        recording = RecordingWriter(tmp_path / "made", identity, {"image_root": "/"}, sites)
        empty = np.zeros((images, 1, 2))
        arrays = {
            "offset_3_13": offsets,
            "mean_abs_offset": empty if mean_abs is None else np.asarray(mean_abs)[:, None],
            "outside_share": empty if outside is None else np.asarray(outside)[:, None],
            "fusion": np.full((images, 2, 3), 1 / 3),
            "status": np.ones(images) if status is None else np.asarray(status),
        }
        for chunk in range(chunks):
            part = slice(chunk * CHUNK_IMAGES, (chunk + 1) * CHUNK_IMAGES)
            rows = {name: values[part] for name, values in arrays.items()}
            own = np.zeros((1, 2, 2 * max(grid) + 1)) if counts is None else np.asarray(counts)[None]
            recording.write_chunk(chunk, {**rows, "counts": own[None]})
        return open_recording(tmp_path / "made")

    return writer


def non_zero(histogram):
    """{offset: count} of the bars that are there."""
    return {int(o): int(c) for o, c in zip(histogram.offsets, histogram.counts, strict=True) if c}


# A map of 28 x 64 tokens, centre (14, 32); each offset stands for two channels.
HORIZONTAL = [[-32.0, 31.0, 0.5, 1.5], [-32.5, 31.5, -0.5, 1e30]]  # ties go to the even token
VERTICAL = [[-14.0, 13.0, -14.5, 13.5], [-15.0, 14.0, 0.25, -1e30]]


@pytest.fixture
def center(write):
    return write(np.stack([HORIZONTAL, VERTICAL], axis=1), grid=(28, 64), share=2)


@pytest.mark.parametrize(
    ("axis", "counts", "below", "above", "outside"),
    [
        (0, {-32: 4, 0: 4, 2: 2, 31: 2}, 0, 4, 2 / 8),
        (1, {-14: 4, 0: 2, 13: 2}, 4, 4, 4 / 8),
    ],
)
def test_center_histogram_counts_each_channel_at_its_nearest_token(center, axis, counts, below, above, outside):
    histogram = offset_histogram(center, SOURCE, axis)
    assert non_zero(histogram) == counts
    assert (histogram.below, histogram.above) == (below, above)
    assert histogram.outside_share == outside
    assert histogram.total == 2 * 8  # images x channels: none is lost
    np.testing.assert_allclose(histogram.fractions, histogram.counts / 16)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_layer_that_reuses_offsets_has_the_histogram_of_its_source(center, axis):
    own, alias = offset_histogram(center, "3_13", axis), offset_histogram(center, "3_18", axis)
    np.testing.assert_array_equal(own.counts, alias.counts)
    assert alias.site.label == "layer_3_18 (offsets of 3_13)"


@pytest.mark.parametrize(
    ("size", "first", "last"), [(64, -32, 31), (100, -50, 49), (28, -14, 13), (19, -9, 9), (75, -37, 37), (2, -1, 0)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_range_is_what_the_centre_token_can_reach(write, size, first, last, axis):
    grid = (6, size) if axis == 0 else (size, 6)
    histogram = offset_histogram(write(np.zeros((1, 2, 1)), grid), SOURCE, axis)
    assert (histogram.first, histogram.last) == (first, last)
    assert histogram.offsets.tolist() == list(range(first, last + 1))


def test_mean_abs_of_the_center_is_over_images_and_offsets(write):
    offsets = [[[1, -2], [0.5, 0]], [[3, 0], [-4, 0.5]]]
    recording = write(offsets, (4, 8))
    assert offset_histogram(recording, SOURCE, 0).mean_abs == 6 / 4
    assert offset_histogram(recording, SOURCE, 1).mean_abs == 5 / 4


@pytest.fixture
def everywhere(write):
    """Two images on a map of 2 x 3 tokens, two offsets each standing for three channels: 24 offsets per axis."""
    counts = [[1, 4, 0, 9, 5, 2, 3], [0, 2, 7, 11, 3, 1, 0]]  # at -3 ... 3; the vertical axis uses -2 ... 2
    outside, mean_abs = [[0.25, 0.5], [0.75, 0.125]], [[1, 2], [4, 3]]
    return write(np.zeros((2, 2, 2)), (2, 3), share=3, counts=counts, outside=outside, mean_abs=mean_abs)


@pytest.mark.parametrize(
    ("axis", "first", "counts", "below", "above", "outside", "mean_abs"),
    [
        (0, -2, [12, 0, 27, 15, 6], 3, 9, 0.5, 2.5),
        (1, -1, [21, 33, 9], 6, 3, 0.3125, 2.5),
    ],
)
def test_histogram_of_all_tokens_reads_the_counts(everywhere, axis, first, counts, below, above, outside, mean_abs):
    histogram = offset_histogram(everywhere, SOURCE, axis, tokens="all")
    assert (histogram.first, histogram.counts.tolist()) == (first, counts)
    assert (histogram.below, histogram.above, histogram.total) == (below, above, 24 * 3)
    assert (histogram.outside_share, histogram.mean_abs) == (outside, mean_abs)


def test_skipped_images_are_not_counted(write):
    recording = write([[[1], [2]], [[np.nan], [np.nan]]], (4, 8), status=[1, 2])
    histogram = offset_histogram(recording, SOURCE, 0)
    assert (histogram.images, non_zero(histogram), histogram.total) == (1, {1: 1}, 1)


def test_finished_images_of_an_incomplete_recording_are_counted(write):
    offsets = np.full((CHUNK_IMAGES + 3, 2, 1), 2)
    counts = np.zeros((2, 17))
    counts[:, 8 + 2] = CHUNK_IMAGES * 4 * 8
    recording = write(offsets, (4, 8), counts=counts, chunks=1)
    assert not recording.complete
    for tokens, total in (("center", CHUNK_IMAGES), ("all", CHUNK_IMAGES * 4 * 8)):
        histogram = offset_histogram(recording, SOURCE, 0, tokens)
        assert (histogram.images, non_zero(histogram)) == (CHUNK_IMAGES, {2: total})


def test_histograms_of_a_recorded_network_agree_with_its_offsets(tmp_path):
    noise = np.random.default_rng(0)
    photos = [noise.integers(0, 255, (70, 90, 3), np.uint8) for _ in range(2)]
    for index, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    network = load_model("atmnet_nano", device="cpu")
    preprocessing = Preprocessing(size=(64, 128), fit="squash")  # stage 2: 8 x 16 tokens
    layer = "2_2"
    images = open_source([tmp_path / "0.png", tmp_path / "1.png"])
    recording = run_recording(images, network, tmp_path / "out", preprocessing=preprocessing).recording
    offsets = np.stack(
        [observe_image(network, photo, preprocessing, find_sites(network, [layer])).offsets[layer] for photo in photos]
    )  # [N, H, W, 2, O]; O = 12 for 48 channels
    for axis, size in ((0, 16), (1, 8)):
        nearest = np.repeat(np.rint(offsets[..., axis, :]), 4, axis=-1)
        own = np.arange(size).reshape((1, 1, size, 1) if axis == 0 else (1, size, 1, 1))
        outside = (nearest + own < 0) | (nearest + own >= size)
        assert 0 < outside.mean() < 1  # else there would be nothing to see

        center = offset_histogram(recording, layer, axis)
        expected = nearest[:, 4, 8]
        assert [int((expected == o).sum()) for o in range(-size // 2, size // 2)] == center.counts.tolist()
        assert center.outside_share == pytest.approx(outside[:, 4, 8].mean())
        assert center.mean_abs == pytest.approx(np.abs(offsets[:, 4, 8, axis]).mean())

        everywhere = offset_histogram(recording, layer, axis, tokens="all")
        assert [int((nearest == o).sum()) for o in range(1 - size, size)] == everywhere.counts.tolist()
        assert everywhere.below == (nearest <= -size).sum()
        assert everywhere.above == (nearest >= size).sum()
        assert everywhere.outside_share == pytest.approx(outside.mean())
        assert everywhere.mean_abs == pytest.approx(np.abs(offsets[..., axis, :]).mean(), rel=1e-5)


def test_table_has_a_row_per_bin_and_one_for_what_lies_beyond_on_either_side(center):
    table = histogram_table(center, ALIAS)
    assert list(table) == ["layer", "source", "axis", "tokens", "offset", "count", "share"]
    rows = table.to_dict("records")
    assert [row["offset"] for row in rows] == ["<-32", *range(-32, 32), ">31", "<-14", *range(-14, 14), ">13"]
    assert rows[0] == {
        "layer": "3_18",
        "source": "3_13",
        "axis": "horizontal",
        "tokens": "center",
        "offset": "<-32",
        "count": 0,
        "share": 0.0,
    }
    assert {(r["axis"], r["offset"]): (r["count"], r["share"]) for r in rows if r["count"]} == {
        ("horizontal", -32): (4, 0.25),
        ("horizontal", 0): (4, 0.25),
        ("horizontal", 2): (2, 0.125),
        ("horizontal", 31): (2, 0.125),
        ("horizontal", ">31"): (4, 0.25),
        ("vertical", "<-14"): (4, 0.25),
        ("vertical", -14): (4, 0.25),
        ("vertical", 0): (2, 0.125),
        ("vertical", 13): (2, 0.125),
        ("vertical", ">13"): (4, 0.25),
    }


def test_table_shows_the_layers_asked_for_or_all_where_the_usual_ones_were_not_recorded(center):
    assert list(histogram_table(center)["layer"].unique()) == [SOURCE, ALIAS]  # no 2_1
    assert list(histogram_table(center, [ALIAS, SOURCE])["layer"].unique()) == [ALIAS, SOURCE]
    assert list(histogram_table(center, "3_1*", tokens="center")["layer"].unique()) == [SOURCE, ALIAS]
    with pytest.raises(LayerNotFoundError, match="no layer '2_1'"):
        histogram_table(center, "2_1")


@pytest.mark.parametrize(("name", "index"), [("horizontal", 0), ("vertical", 1)])
def test_an_axis_has_a_name_and_an_index(center, name, index):
    by_name, by_index = offset_histogram(center, SOURCE, name), offset_histogram(center, SOURCE, axis=index)
    assert by_name.axis == by_index.axis == name
    np.testing.assert_array_equal(by_name.counts, by_index.counts)


@pytest.mark.parametrize("axis", ["width", 2, -1, None])
def test_an_unknown_axis_is_refused(center, axis):
    with pytest.raises(ValueError, match="expected 'horizontal' \\(0\\) or 'vertical' \\(1\\)"):
        offset_histogram(center, SOURCE, axis)


def test_a_histogram_opens_a_folder_and_refuses_what_is_no_recording(center):
    assert offset_histogram(center.path, SOURCE, 0).total == offset_histogram(str(center.path), SOURCE, 0).total > 0
    for thing in (3, None):
        with pytest.raises(SettingsError, match=f"got {thing} as a recording, expected its folder"):
            offset_histogram(thing, SOURCE, 0)


def test_unknown_tokens_are_refused(center):
    with pytest.raises(ValueError, match="got tokens 'some', expected 'center' or 'all'"):
        offset_histogram(center, SOURCE, 0, "some")


def test_a_network_of_2d_points_has_a_histogram_per_axis(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "0.png")
    network = create_model("atmnet_nano", offset_mode="joint").eval()
    for module in network.modules():
        if isinstance(module, OffsetLayer):  # 3 tokens to the right and 1 up, everywhere
            torch.nn.init.zeros_(module.linear.weight)
            module.linear.bias.data = torch.tensor([3.0, -1.0]).repeat_interleave(module.linear.out_features // 2)
    size = Preprocessing((64, 64), "squash")
    recording = run_recording(open_source(tmp_path / "0.png"), network, tmp_path / "out", preprocessing=size).recording
    assert recording.site("1_1").kind == "point"
    horizontal, vertical = (offset_histogram(recording, "1_1", axis) for axis in ("horizontal", "vertical"))
    assert non_zero(horizontal) == {3: horizontal.total}
    assert non_zero(vertical) == {-1: vertical.total}
