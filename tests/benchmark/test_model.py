"""Whole networks: the versions compute the same, and the baseline samples and remembers as the released code."""

import pytest
import timm
import torch

import atmviz.models  # noqa: F401
from atmviz.benchmark import BASELINE, benchmark_model, operator
from atmviz.benchmark.model import FLOOR, PLAIN, as_baseline

CPU = torch.device("cpu")


def test_released_arrangement_computes_the_same_with_deform_conv(monkeypatch):
    network = timm.create_model("atmnet_nano", depths=(2, 2, 2, 2)).eval()
    for name, parameter in network.named_parameters():
        if "offset" in name and parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    released, images = as_baseline(network), torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(released(images), network(images), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(operator, "deform_conv2d", lambda *_: pytest.fail("as asked"))
    network(images)
    with pytest.raises(pytest.fail.Exception, match="as asked"):
        released(images)


def bytes_kept_per_image(network):
    """Of tensors kept for the backward pass, in bfloat16 by autocast; weights, cast once for all, do not count."""

    def kept(count):
        parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive: no other tensor gets its address
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            network(torch.randn(count, 3, 224, 224))
        return sum(size for address, (size, _) in storages.items() if address not in parameters)

    return kept(2) - kept(1)


def test_training_keeps_at_most_six_tenths_of_what_the_released_arrangement_keeps():
    network = timm.create_model("atmnet_tiny").train()
    ours, theirs = bytes_kept_per_image(network), bytes_kept_per_image(as_baseline(network))
    assert ours / theirs <= 0.6  # 44.1 of 88.2 MB


def test_model_rows_have_a_floor_below_the_released_arrangement(uncompiled):
    rows = list(benchmark_model("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=3))
    assert [row.version for row in rows] == [BASELINE, PLAIN, "eager", "compiled", FLOOR] * 2
    assert {row.operation for row in rows} == {"inference", "training step"}
    for what in ("inference", "training step"):
        times = {row.version: row.milliseconds for row in rows if row.operation == what}
        assert times[FLOOR] < times[BASELINE]


def test_the_floor_runs_every_linear_layer_and_convolution(uncompiled, monkeypatch):
    floors = []
    monkeypatch.setattr("atmviz.benchmark.model._run_layers", lambda layers, *_, **__: floors.append(layers))
    list(benchmark_model("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=2))
    network = timm.create_model("atmnet_nano")
    expected = sum(isinstance(module, torch.nn.Linear | torch.nn.Conv2d) for module in network.modules())
    assert {len({layer for layer, _ in layers}) for layers in floors} == {expected}
