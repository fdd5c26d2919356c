"""Recording is timed beside inference, and checked."""

import pytest
import torch

from atmviz.benchmark import benchmark_record, record
from atmviz.errors import AtmvizError

CPU = torch.device("cpu")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_record_rows_say_what_recording_costs():
    rows = list(benchmark_record("atmnet_nano", (64, 64), 4, CPU, rounds=2, images=10))
    assert [row.version for row in rows] == [
        *("inference", "recording", "inference, deform_conv2d baseline", "reading alone"),
    ]
    assert {row.images for row in rows} == {10}
    assert rows[0].speedup == 1
    assert rows[3].milliseconds < rows[0].milliseconds


def test_a_recording_that_differs_is_not_timed(monkeypatch):
    run_recording = record.run_recording

    def another(images, network, *arguments, **settings):
        parameter = network.stages[0].blocks[0].offset.linear.bias
        parameter.data += 0.01
        result = run_recording(images, network, *arguments, **settings)
        parameter.data -= 0.01
        return result

    monkeypatch.setattr(record, "run_recording", another)
    with pytest.raises(AtmvizError, match="the recording differs"):
        next(benchmark_record("atmnet_nano", (64, 64), 4, CPU, rounds=2, images=4))


def test_recording_costs_little_more_than_inference(reaches):
    """2 to 5 % where it was measured, of the smallest network; the machines of tests are noisy."""

    def speed():
        rows = {row.version: row for row in benchmark_record("atmnet_nano", (128, 128), 8, CPU, rounds=5, images=64)}
        return rows["recording"].speedup

    assert reaches(speed, 0.75)
