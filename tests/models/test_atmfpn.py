"""The ATMFpn neck: a drop-in for torchvision's, made of the backbone's parts."""

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from atmviz.complexity import count_parameters
from atmviz.layers import LayerId
from atmviz.models.atmfpn import ATMFPN, ATMUnit
from atmviz.observe import find_sites, observing

DIMS = [24, 48, 64, 96]


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    sizes = [(17, 24), (9, 12), (5, 6), (3, 3)]
    return OrderedDict(
        (f"c{level}", torch.randn(2, dim, *size, generator=generator))
        for level, dim, size in zip(range(2, 6), DIMS, sizes, strict=True)
    )


@pytest.mark.parametrize("extra", [None, LastLevelMaxPool()])
def test_it_takes_and_gives_what_the_fpn_does(maps, extra):
    pyramids = [neck(DIMS, 32, extra)(maps) for neck in (FeaturePyramidNetwork, ATMFPN)]
    assert list(pyramids[0]) == list(pyramids[1])
    assert [x.shape for x in pyramids[0].values()] == [x.shape for x in pyramids[1].values()]


def test_a_unit_is_peg_offsets_norm_and_mixer_written_out(maps):
    torch.manual_seed(0)
    unit = ATMUnit(24, 32, LayerId(1, 0, "fpn_c")).double()
    x = maps["c2"].double()
    tokens = (x + unit.peg.proj(x)).permute(0, 2, 3, 1)
    offset = unit.offset.linear(unit.offset.norm(tokens)).unflatten(-1, (2, 24))
    expected = unit.token_mixer(unit.norm(tokens), offset).permute(0, 3, 1, 2)
    assert torch.equal(unit(x), expected)
    assert expected.shape == (2, 32, 17, 24)


def test_zero_offsets_and_equal_fusion_make_a_unit_a_linear_layer(maps):
    unit = ATMUnit(24, 32, LayerId(1, 0, "fpn_c")).double()
    mixer = unit.token_mixer
    for layer in (unit.offset.linear, unit.peg.proj, mixer.fusion.fc2):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = maps["c2"].double()
    tokens = unit.norm(x.permute(0, 2, 3, 1))
    branches = mixer.fc_width(tokens) + mixer.fc_height(tokens) + mixer.fc_identity(tokens)
    torch.testing.assert_close(unit(x).permute(0, 2, 3, 1), mixer.proj(branches / 3))


def test_parameters_are_those_of_the_fitted_construction():
    """One unit: PEG 10C, two norms 4C, offsets 2C(C + 1), branches 3CP + 2P, fusion, projection."""

    def unit(dim, out=256):
        fusion = out * (out // 4) + out // 4 + 3 * out * (out // 4) + 3 * out
        return 14 * dim + 2 * dim * (dim + 1) + 3 * dim * out + 2 * out + fusion + out * out + out

    dims = [64, 128, 320, 512]
    with torch.device("meta"):
        neck = ATMFPN(dims, 256)
    assert count_parameters(neck) == sum(map(unit, dims)) + 4 * unit(256)
    assert round(count_parameters(neck) / 1e6, 3) == 3.961


def test_every_parameter_learns(maps):
    neck = ATMFPN(DIMS, 32)
    sum(x.square().mean() for x in neck(maps).values()).backward()
    assert [name for name, parameter in neck.named_parameters() if not parameter.grad.abs().sum()] == []


def test_signals_keep_their_size(maps):
    torch.manual_seed(0)
    for x in ATMFPN(DIMS, 256)(maps).values():
        assert 0.2 < x.std() < 5


def test_its_offsets_are_recorded_under_the_names_of_its_levels(maps):
    neck = ATMFPN(DIMS[1:], 32, first_level=3).eval()
    names = ["fpn_c3", "fpn_c4", "fpn_c5", "fpn_p3", "fpn_p4", "fpn_p5"]
    assert [site.name for site in find_sites(neck)] == names
    with observing(neck) as observed:
        neck(OrderedDict(list(maps.items())[1:]))
    assert observed.offsets["fpn_c3"].shape == (2, 9, 12, 2, 48)
    assert observed.offsets["fpn_p5"].shape == (2, 3, 3, 2, 32)
    assert observed.fusion["fpn_p3"].shape == (2, 1, 1, 32, 3)
