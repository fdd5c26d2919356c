"""The health of offsets, against what is put into a network."""

import pytest
import torch

from atmviz.models import create_model
from atmviz.observe import find_sites
from atmviz.training.health import OffsetHealth, measure_offsets

PIXELS = torch.zeros(2, 3, 64, 64)


def with_offsets(network, layer, horizontal, vertical):
    """Make one generating layer give constant offsets."""
    (site,) = find_sites(network, [layer])
    linear = network.get_submodule(site.module.removesuffix(".token_mixer")).offset.linear
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.cat([torch.full((linear.out_features // 2,), v) for v in (horizontal, vertical)]))


def measured(network, layer):
    (one,) = (one for one in measure_offsets(network, PIXELS) if one.layer == layer)
    return one


def test_every_generating_layer_is_measured_once(nano):
    names = [str(one.layer) for one in measure_offsets(nano, PIXELS)]
    assert names == ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]


def test_constant_offsets_give_their_size_and_share(nano):
    layer = "2_1"  # a map of 8 x 8
    with_offsets(nano, layer, 2.0, -1.0)
    health = measured(nano, layer)
    assert health.mean_abs == pytest.approx(1.5)
    assert health.mean_fraction == pytest.approx(1.5 / 8)
    assert health.p99_abs == pytest.approx(2.0)
    assert health.outside_fraction == pytest.approx((2 / 8 + 1 / 8) / 2)  # two columns on the right, one row at the top
    assert health.dead_fraction == 0
    assert health.warning is None


@pytest.mark.parametrize(
    ("offset", "warning"), [(7.0, "lie outside the map"), (0.01, "no channel of 2_1 moves"), (1e6, "outside")]
)
def test_sick_offsets_are_named(nano, offset, warning):
    layer = "2_1"
    with_offsets(nano, layer, offset, offset)
    assert warning in measured(nano, layer).warning


def test_offsets_that_swing_across_the_map_are_named():
    swinging = OffsetHealth("3_1", mean_abs=5, mean_fraction=0.6, p99_abs=7, outside_fraction=0.2, dead_fraction=0)
    assert swinging.warning == "the offsets of 3_1 reach over 60% of the map on average"


def test_the_network_keeps_its_mode_and_a_network_without_offsets_has_no_health(nano):
    nano.train()
    measure_offsets(nano, PIXELS)
    assert nano.training
    assert not any(module._forward_hooks for module in nano.modules())
    assert measure_offsets(create_model("atmnet_nano", offset_mode="zero"), PIXELS) == []
