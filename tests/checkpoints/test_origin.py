"""The origin of weights is known as long as they are the loaded ones, also inside wrappers."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from atmviz.checkpoints import Checkpoint, build, load_model, origin_of, random_checkpoint


class Wrapper(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.head = nn.Linear(10, 2)
        self.origin = "a string of the user's"


@pytest.fixture
def network():
    return load_model(device="cpu")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: network,
        Wrapper,
        nn.DataParallel,
        torch.compile,
        copy.deepcopy,
        AveragedModel,
        lambda network: nn.Sequential(network, nn.ReLU()),
        lambda network: nn.ModuleList([network, copy.deepcopy(network)]),
        lambda network: network.eval().requires_grad_(False).double(),
    ],
    ids=["itself", "module", "DataParallel", "compile", "copy", "AveragedModel", "Sequential", "two copies", "double"],
)
def test_a_wrapped_network_keeps_its_origin(wrap, network):
    origin = network.origin
    assert origin.path is not None
    assert origin_of(wrap(network)) == origin


@pytest.mark.parametrize("features_only", [True, False])
@pytest.mark.parametrize("name", ["atmnet_nano", "semantic_fpn(atmnet_nano)"])
def test_every_kind_of_network_has_an_origin(name, features_only):
    network = load_model(name, device="cpu", features_only=features_only)
    origin = origin_of(nn.Sequential(network))
    assert origin == network.origin
    assert (origin.model, origin.layout, origin.seed, origin.trained) == (name, "random", 0, False)
    assert (origin.config["num_classes"] == 0) == features_only


def test_networks_of_different_origins_in_one_have_none(network):
    other = build(random_checkpoint("atmnet_nano", seed=1))
    origin = origin_of(nn.ModuleList([network, other]))
    assert (origin.model, origin.layout, origin.trained) == ("ModuleList", "memory", None)


def step(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()


@torch.no_grad()
def set_one_value(network):
    network.stem.bias[0] += 1


@pytest.mark.parametrize("change", [step, set_one_value, lambda network: network.reset_parameters()])
@pytest.mark.parametrize("wrap", [lambda network: network, nn.Sequential])
def test_weights_changed_after_loading_are_not_said_to_be_the_loaded_ones(change, wrap, network):
    before = network.origin
    if not hasattr(network, "reset_parameters"):
        network.reset_parameters = lambda: [nn.init.zeros_(parameter) for parameter in network.parameters()]
    change(network)
    origin = origin_of(wrap(network))
    assert (origin.model, origin.layout, origin.trained) == (before.model, "memory", None)
    assert origin.sha256 != before.sha256
    assert origin.describe() == f"{before.model}: weights in memory, changed after loading from {before.path}"


def test_the_line_about_a_checkpoint_says_its_file_and_epoch(network):
    assert re.search(r"from .*atmnet_nano.shapes.safetensors: .*, epoch 14$", origin_of(network).describe())


def test_using_a_network_does_not_count_as_a_change(network):
    network(torch.zeros(1, 3, 64, 64)).sum().backward()
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64))
    network.train().requires_grad_(False).to(memory_format=torch.channels_last)
    assert origin_of(network) is network.origin


def test_a_network_loaded_in_inference_mode_has_an_origin():
    with torch.inference_mode():
        network = load_model(device="cpu")
        assert origin_of(network) is network.origin


def test_origin_of_a_network_in_memory_is_a_fingerprint_of_its_weights(nano):
    origin = origin_of(nano)
    assert (origin.model, origin.layout, origin.trained) == ("ATMNet", "memory", None)
    assert origin.describe() == "ATMNet: weights in memory"
    with torch.no_grad():
        nano.stem.bias[0] += 1
    assert origin_of(nano).sha256 != origin.sha256


def test_network_around_an_atmnet_may_count_batches(nano):
    assert origin_of(nn.Sequential(nano, nn.BatchNorm1d(5))).layout == "memory"


def test_the_payload_is_apart_from_the_origin():
    checkpoint = random_checkpoint("atmnet_nano")
    assert isinstance(checkpoint, Checkpoint)
    assert build(checkpoint).origin.sha256 == checkpoint.origin.sha256
    assert "tensor" not in repr(checkpoint)
