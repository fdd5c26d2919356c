"""The benchmark measures what it says, and atmviz stays ahead: ratios of one process, never absolute times."""

import statistics

import pytest
import timm
import torch
import torch.nn.functional as F

import atmviz.models  # noqa: F401
from atmviz import benchmark
from atmviz.benchmark import (
    RELEASED,
    as_released,
    benchmark_model,
    benchmark_operator,
    benchmark_record,
    measure,
    sample_as_released,
)
from atmviz.errors import AtmvizError
from atmviz.ops import cpu, sample_along

CPU = torch.device("cpu")


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(benchmark.torch, "compile", lambda function, **_: function)


@pytest.mark.skipif(cpu.library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("branch", ["width", "height"])
def test_sampling_stays_well_ahead_of_deform_conv(branch):
    x, offset = torch.randn(2, 56, 56, 64, requires_grad=True), torch.randn(2, 56, 56, 32, requires_grad=True)
    weight, bias, grad = torch.randn(64, 64), torch.randn(64), torch.randn(2, 56, 56, 64)

    def ours():
        return F.linear(sample_along(x, offset, branch), weight, bias)

    def theirs():
        return sample_as_released(x, offset, branch, weight, bias)

    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    for goal, versions in (
        (3, {"ours": ours, "theirs": theirs}),
        (6, {"ours": lambda: ours().backward(grad), "theirs": lambda: theirs().backward(grad)}),
    ):
        seconds = measure(versions, 7, CPU)
        ratio = statistics.median(t / o for t, o in zip(seconds["theirs"], seconds["ours"], strict=True))
        assert ratio > goal  # 10 and 20 where it was measured


def test_measure_times_all_versions_in_turns():
    called = []
    seconds = measure({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3, CPU)
    assert called == ["a", "a", "b", "b", *["a", "b"] * 3]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_released_arrangement_computes_the_same_with_deform_conv(monkeypatch):
    network = timm.create_model("atmnet_nano", depths=(2, 2, 2, 2)).eval()
    for name, parameter in network.named_parameters():
        if "offset" in name and parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    released, images = as_released(network), torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(released(images), network(images), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(benchmark, "deform_conv2d", lambda *_: pytest.fail("as asked"))
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
    ours, theirs = bytes_kept_per_image(network), bytes_kept_per_image(as_released(network))
    assert ours / theirs <= 0.6  # 44.1 of 88.2 MB


def test_operator_rows_cover_both_ways_of_each_stage(uncompiled):
    rows = list(benchmark_operator("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=2))
    cases = {(row.what, row.case) for row in rows}
    assert len(cases) == 4 * 2 * 2
    assert "width 1×16×16×24, S = 2, float32" in {case for _, case in cases}
    for row in rows:
        assert row.spread[0] <= row.milliseconds <= row.spread[1]
        assert (row.ratio == 1) == (row.version == RELEASED)
        assert (row.copy_share is not None) == (row.version == "sampling alone")


def test_model_rows_have_a_floor_below_the_released_arrangement(uncompiled):
    rows = list(benchmark_model("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=3))
    assert [row.version for row in rows] == [RELEASED, "eager", "compiled", benchmark.FLOOR] * 2
    assert {row.what for row in rows} == {"inference", "training step"}
    for what in ("inference", "training step"):
        times = {row.version: row.milliseconds for row in rows if row.what == what}
        assert times[benchmark.FLOOR] < times[RELEASED]


def test_the_floor_runs_every_linear_layer_and_convolution(uncompiled, monkeypatch):
    floors = []
    monkeypatch.setattr(benchmark, "_run_layers", lambda layers, *_, **__: floors.append(layers))
    list(benchmark_model("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=2))
    network = timm.create_model("atmnet_nano")
    expected = sum(isinstance(module, torch.nn.Linear | torch.nn.Conv2d) for module in network.modules())
    assert {len({layer for layer, _ in layers}) for layers in floors} == {expected}


def test_sides_that_differ_are_not_timed(uncompiled, monkeypatch):
    monkeypatch.setattr(benchmark, "sample_along", lambda x, offset, branch: 1.001 * sample_along(x, offset, branch))
    with pytest.raises(AtmvizError, match=r"eager differs from the released arrangement by .* expected rounding alone"):
        next(benchmark_operator("atmnet_nano", (64, 64), 1, torch.float32, CPU, rounds=2))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_record_rows_say_what_recording_costs():
    rows = list(benchmark_record("atmnet_nano", (64, 64), 4, CPU, rounds=2, images=10))
    assert [row.version for row in rows] == [
        *("inference", "recording", "inference, released arrangement", "reading alone"),
    ]
    assert {row.images for row in rows} == {10}
    assert rows[0].ratio == 1
    assert rows[3].milliseconds < rows[0].milliseconds


def test_a_recording_that_differs_is_not_timed(monkeypatch):
    record = benchmark.record_offsets

    def another(images, out, network, **settings):
        parameter = network.stages[0].blocks[0].offset.linear.bias
        parameter.data += 0.01
        result = record(images, out, network, **settings)
        parameter.data -= 0.01
        return result

    monkeypatch.setattr(benchmark, "record_offsets", another)
    with pytest.raises(AtmvizError, match="the recording differs"):
        next(benchmark_record("atmnet_nano", (64, 64), 4, CPU, rounds=2, images=4))


def test_recording_costs_little_more_than_inference():
    """2 to 5 % where it was measured, of the smallest network; the machines of tests are noisy."""
    rows = {row.version: row for row in benchmark_record("atmnet_nano", (128, 128), 8, CPU, rounds=5, images=64)}
    assert rows["recording"].ratio > 0.75
