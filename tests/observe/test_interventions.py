"""Interventions: what they do to the offsets, and that they end with their block."""

import pytest
import torch

from atmviz.models import create_model
from atmviz.observe import edits_of, find_sites, observing


def run(network, images, intervention):
    sites = find_sites(network)
    with observing(network, sites, edits_of(intervention, sites)) as observed:
        return network(images), observed.offsets


def test_zero_offsets_make_every_channel_read_its_own_token(nano):
    images = torch.randn(2, 3, 64, 64)
    scores, offsets = run(nano, images, "zero")
    assert all((offset == 0).all() for offset in offsets.values())
    fixed = create_model("atmnet_nano", num_classes=5, offset_mode="zero").eval()
    fixed.load_state_dict({k: v for k, v in nano.state_dict().items() if ".offset." not in k})
    torch.testing.assert_close(scores, fixed(images))


def test_shuffled_offsets_keep_their_distribution_and_lose_their_place(nano):
    images = torch.randn(2, 3, 64, 64)
    _, learned = run(nano, images, "learned")
    _, shuffled = run(nano, images, "shuffle")
    before, after = learned["1_1"].flatten(1, 2), shuffled["1_1"].flatten(1, 2)  # later layers see other features
    assert not torch.equal(before, after)
    torch.testing.assert_close(before.sort(1).values, after.sort(1).values)


def test_layers_that_share_offsets_are_shuffled_alike(nano):
    _, shuffled = run(nano, torch.randn(2, 3, 64, 64), "shuffle")
    assert torch.equal(shuffled["1_1"], shuffled["1_2"])


def test_an_intervention_ends_with_its_block(nano):
    images = torch.randn(2, 3, 64, 64)
    before = nano(images)
    for intervention in ("zero", "shuffle"):
        assert not torch.equal(run(nano, images, intervention)[0], before)
        assert torch.equal(nano(images), before)
    assert torch.equal(run(nano, images, "shuffle")[0], run(nano, images, "shuffle")[0])


@pytest.mark.parametrize("name", ["none", "Zero", None])
def test_other_interventions_are_refused(nano, name):
    with pytest.raises(ValueError, match="expected learned, zero or shuffle"):
        edits_of(name, find_sites(nano))
