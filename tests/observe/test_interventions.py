"""Interventions: what they do to the offsets, and that they end with their block."""

import math

import pytest
import torch

from atmviz.errors import SettingsError
from atmviz.models import create_model
from atmviz.observe import Intervention, edits_of, find_sites, observing
from atmviz.observe.interventions import KINDS, group_sites, read_interventions


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
    with pytest.raises(ValueError, match="expected zero, constant, position, other, shuffle, mirror, swap, clamp:R"):
        edits_of(name, find_sites(nano))


@pytest.mark.parametrize("unchanged", ["scale:1", "clamp:inf"])
def test_what_changes_nothing_gives_the_same_bits(nano, unchanged):
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(run(nano, images, unchanged)[0], nano(images))


def test_the_mirror_is_a_scale_of_minus_one(nano):
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(run(nano, images, "mirror")[0], run(nano, images, "scale:-1")[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zero", [0, 0, 0, 0]),
        ("mirror", [1.5, -0.25, -2.5, 8]),
        ("swap", [2.5, -8, -1.5, 0.25]),
        ("clamp:1", [-1, 0.25, 1, -1]),
        ("clamp:0", [0, 0, 0, 0]),
        ("round", [-2, 0, 2, -8]),
        ("scale:0.5", [-0.75, 0.125, 1.25, -4]),
    ],
)
def test_offsets_become_what_the_name_says(nano, name, expected):
    offset = torch.tensor([-1.5, 0.25, 2.5, -8]).view(1, 1, 1, 2, 2)  # horizontal, vertical
    (edit, *_) = edits_of(name, find_sites(nano)).values()
    assert edit(offset).flatten().tolist() == expected


@pytest.mark.parametrize("name", ["constant", "position", "other"])
def test_what_needs_other_images_does_not_run_without(nano, name):
    assert KINDS[name].change is None
    with pytest.raises(ValueError, match="without the offsets of other images"):
        edits_of(name, find_sites(nano))


# Names.


def test_several_arguments_and_interventions_are_read_each_once():
    asked = ["Zero, clamp:0.50,1, 1.0,inf", "scale:-1,2,round", "zero", Intervention.parse("mirror")]
    expected = ("zero", "clamp:0.5", "clamp:1", "clamp:inf", "scale:-1", "scale:2", "round", "mirror")
    assert read_interventions(asked) == expected
    assert read_interventions(expected) == expected
    assert math.isnan(Intervention.parse("zero").argument)
    assert str(Intervention.parse("clamp:-0")) == "clamp:0"
    for exact in ("scale:0.12345678901", "clamp:1e-05", "scale:1e+30", "clamp:inf"):
        assert read_interventions(exact) == (exact,)
        assert Intervention.parse(exact).argument == float(exact.split(":")[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mirr", r"got intervention 'mirr', expected zero, .*, scale:F; did you mean mirror\?"),
        ("clamp", r"got intervention 'clamp', expected clamp:R: R, a number of tokens, 0 or more"),
        ("clamp:-1", r"got intervention 'clamp:-1', expected clamp:R: R, a number of tokens, 0 or more"),
        ("clamp:nan", "got intervention 'clamp:nan', expected clamp:R"),
        ("clamp:1,-1", "got intervention 'clamp:-1', expected clamp:R"),
        ("clamp:1:2", "got intervention 'clamp:1:2', expected clamp:R"),
        ("scale:", "got intervention 'scale:', expected scale:F: F, a factor$"),
        ("scale:inf", "got intervention 'scale:inf', expected scale:F"),
        ("zero:1", "got intervention 'zero:1', expected zero, constant"),
        ("zero,1", "got intervention '1', expected zero, constant"),
        ("learned", "got intervention 'learned', expected zero, constant"),
        ("", "got intervention '', expected zero, constant"),
    ],
)
def test_what_cannot_be_done_is_one_line(text, message):
    with pytest.raises(SettingsError, match=message) as raised:
        read_interventions(text)
    assert "\n" not in str(raised.value)


def test_layers_that_share_offsets_are_in_one_group(nano):
    sites = find_sites(nano)
    assert [*group_sites(sites)] == ["all"]
    by_layer, by_stage = group_sites(sites, "layer"), group_sites(sites, "stage")
    assert [*by_layer] == ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]
    assert [site.name for site in by_layer["3_13"]] == [f"3_{k}" for k in range(13, 19)]
    assert [*by_stage] == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert sum(map(len, by_stage.values())) == len(sites)
