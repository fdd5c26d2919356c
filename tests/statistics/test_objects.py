"""The table of objects agrees with the arrays that it is made of."""

import numpy as np
import pytest

import atmviz
from atmviz.errors import SettingsError
from atmviz.sources.shapes import Shapes


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    out = tmp_path_factory.mktemp("objects") / "out"
    return atmviz.record("shapes", "atmnet_nano", out=out, limit=9, size=64, labels="auto", device="cpu", workers=0)


def test_each_object_has_a_row_for_each_generating_layer(labeled):
    table = atmviz.object_table(labeled)
    scenes = Shapes(64, 9, "val")
    count = sum(len(scenes.truth(k).objects) for k in range(9))
    generating = [site.name for site in labeled.sites if site.is_source]
    assert len(table) == count * len(generating)
    assert list(table.layer.unique()) == generating
    largest = table[(table.image == "shapes/val/000003") & (table.object == 1)]
    things = scenes.truth(3)
    areas = np.bincount(things.instances.ravel())[1:]
    truth = things.objects[areas.argmax()]
    assert largest.area_px.unique() == [areas.max()]
    assert largest.length_px.unique() == pytest.approx([truth.length_px])
    assert largest.label.unique() == [truth.label]


def test_mean_offsets_are_those_of_the_tokens(labeled):
    row = atmviz.object_table(labeled, "2_1").query("image == 'shapes/val/000000' and object == 1").iloc[0]
    sums = labeled.read("object_offsets", "2_1")[0, 0]
    assert (row.tokens, row.mean_abs_h, row.mean_abs_v) == (sums[0], sums[1] / sums[0], sums[2] / sums[0])
    assert row.other_abs_v == labeled.read("other_object_offsets", "2_1")[0, 0, 1] / sums[0]


def test_a_recording_without_labels_says_how_to_get_them(tmp_path):
    plain = atmviz.record("shapes", "atmnet_nano", out=tmp_path / "out", limit=1, size=64, device="cpu", workers=0)
    with pytest.raises(SettingsError, match="was recorded without labels, expected labels: record again with labels"):
        atmviz.object_table(plain)
