"""Offsets of other images: means over calibration images, and those of another batch."""

import pytest
import torch

from atmviz.errors import SettingsError
from atmviz.observe import edits_of, find_sites, observing
from atmviz.observe.references import MeanOffsets, OtherOffsets


def images(count, seed, size=(64, 64)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def offsets_of(network, pixels, edits=None):
    with torch.inference_mode(), observing(network, "all", edits) as observed:
        network(pixels)
    return observed.offsets


@pytest.mark.parametrize("name", ["constant", "position"])
def test_means_are_those_over_all_calibration_images_of_the_unchanged_network(network, name):
    sites = find_sites(network)
    means = MeanOffsets(by_position=name == "position")
    learned = torch.cat([offsets_of(network, images(n, n), means.watching(sites))["3_7"] for n in (3, 2)]).double()
    used = offsets_of(network, images(2, 9), edits_of(name, sites, references=means))
    dims = (0, 1, 2) if name == "constant" else (0,)
    expected = learned.mean(dims, keepdim=True).expand(2, -1, -1, -1, -1).float()
    assert torch.allclose(used["3_7"], expected.expand_as(used["3_7"]), atol=1e-7)
    assert torch.equal(used["3_12"], used["3_7"])
    assert used["3_7"].std() > 0.1
    assert (used["3_7"].std((1, 2)).max() > 0.01) == (name == "position")


def test_a_constant_is_pooled_over_maps_of_any_size_and_a_position_needs_one(network):
    sites = find_sites(network)
    for by_position in (False, True):
        means = MeanOffsets(by_position)
        offsets_of(network, images(1, 0), means.watching(sites))
        if by_position:
            with pytest.raises(SettingsError, match="got maps of several sizes in layer 1_1, expected one size for"):
                offsets_of(network, images(1, 0, (64, 96)), means.watching(sites))
            with pytest.raises(SettingsError, match="leave position out, or take images of one size"):
                offsets_of(network, images(1, 0, (96, 64)), edits_of("position", sites, references=means))
        else:
            offsets_of(network, images(1, 0, (64, 96)), means.watching(sites))
            assert means._counts["1_1"] == 16 * 16 + 16 * 24


def test_other_images_give_what_the_unchanged_network_computes_for_them(network):
    sites = find_sites(network)
    others = OtherOffsets()
    edits = edits_of("other", sites, references=others)
    donors = offsets_of(network, images(2, 1))
    with others.keeping():
        kept = offsets_of(network, images(2, 1), edits)
    assert torch.equal(kept["3_18"], donors["3_18"])
    used = offsets_of(network, images(2, 2), edits)
    assert all(torch.equal(used[site.name], donors[site.name]) for site in sites)
    with pytest.raises(SettingsError, match="expected one size for other"):
        offsets_of(network, images(2, 2), edits)
    with others.keeping():
        offsets_of(network, images(2, 1), edits)
    with pytest.raises(SettingsError, match="leave other out, or take images of one size"):
        offsets_of(network, images(2, 2, (64, 96)), edits)
