"""Weights as training begins: `init:` before a network's name or a checkpoint."""

import pytest
import torch

from atmviz.checkpoints import load_model, origin_of
from atmviz.errors import SettingsError


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    first, same, other = (load_model("init:atmnet_nano", device="cpu", seed=seed) for seed in (1, 1, 2))
    assert origin_of(first).sha256 == origin_of(same).sha256 != origin_of(other).sha256
    assert origin_of(first).identity | {"sha256": 0} == {
        "sha256": 0, "layout": "initial", "weights": None, "trained": False, "seed": 1}  # fmt: skip


def test_offset_layers_are_as_timm_initializes_them_and_not_spread():
    state = load_model("init:atmnet_nano", device="cpu").state_dict()
    deviations = [value.std().item() for name, value in state.items() if name.endswith("offset.linear.weight")]
    assert deviations
    assert deviations == pytest.approx([0.02] * len(deviations), rel=0.1)


def test_a_checkpoint_gives_its_architecture_and_classes():
    initial, trained = (load_model(name, device="cpu") for name in ("init:atmnet_nano.shapes", "atmnet_nano.shapes"))
    assert initial.num_classes == 10
    assert not torch.equal(initial.head.fc.weight, trained.head.fc.weight)


def test_what_is_no_network_and_no_file_is_refused():
    with pytest.raises(SettingsError, match="no checkpoint file atmnet_nanoo"):
        load_model("init:atmnet_nanoo")
