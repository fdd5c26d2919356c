"""The precision of a recording: which layers it reaches, on which devices, and that nothing stays of it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from atmviz.errors import RecordingFormatError, SettingsError
from atmviz.recording import run
from atmviz.recording.precision import computing_in
from atmviz.recording.settings import RecordingSettings

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def state():
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    parts = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cuda.matmul.fp32_precision
    return parts, cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.mark.parametrize("before", ["highest", "high"])
def test_float32_is_exact_in_convolutions_and_matrix_products_alike(before):
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        found = state()
        with computing_in("fp32", CUDA):
            assert state() == (("ieee",) * 3, False, "highest")
        assert state() == found
        with computing_in("tf32", CUDA):
            assert state() == (("tf32",) * 3, True, "high")
        assert state() == found
    finally:
        torch.set_float32_matmul_precision(usual)


def test_bf16_is_autocast():
    x = torch.ones(2, 2)
    with computing_in("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    assert (x @ x).dtype == torch.float32


def test_a_cpu_has_no_tf32(record, images, tmp_path):
    with pytest.raises(SettingsError, match="got precision tf32 on cpu, expected fp32 or bf16"):
        record(images, tmp_path / "out", precision="tf32")
    assert not (tmp_path / "out").exists()


def test_precision_is_part_of_what_a_recording_is(record, images, tmp_path):
    few = replace(images, names=images.names[:4])
    rounded = record(few, tmp_path / "rounded", precision="bf16").recording
    exact = record(few, tmp_path / "exact").recording
    assert (rounded.attrs["precision"], exact.attrs["precision"]) == ("bf16", "fp32")
    offsets = rounded.offsets("1_1"), exact.offsets("1_1")
    assert 0 < abs(offsets[0] - offsets[1]).max() < 0.05
    assert torch.equal(torch.from_numpy(offsets[0]).bfloat16().float(), torch.from_numpy(offsets[0]))
    with pytest.raises(RecordingFormatError, match="precision"):
        record(few, tmp_path / "exact", precision="bf16")


def test_a_recording_that_names_no_precision_was_made_in_float32(write_recording, tmp_path):
    assert (
        write_recording(tmp_path / "old", {"1_1": np.zeros((1, 2, 3, 2, 4), np.float32)}).attrs["precision"] == "fp32"
    )


def test_a_recording_goes_on_with_as_many_images_at_once_as_before(record, images, tmp_path):
    few = replace(images, names=images.names[:4])
    record(few, tmp_path / "three", batch_size=3)
    again = record(few, tmp_path / "three", batch_size=None)
    assert (again.images, again.recording.attrs["batch_size"]) == (0, 3)
    assert record(few, tmp_path / "new", batch_size=None).recording.attrs["batch_size"] == 8
    assert run._usual_batch(tmp_path / "none", CUDA) == 64
    assert RecordingSettings().batch_size is None


@pytest.mark.gpu
def test_on_a_gpu_nothing_waits_for_it_while_a_batch_is_computed(record, images, tmp_path, network, monkeypatch):
    network = copy.deepcopy(network).cuda()
    record(images, tmp_path / "warm", network=network, batch_size=None)
    normalize, add = run.normalize_batch, run.ChunkBuffer.add

    def watched(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        return normalize(*arguments)

    def unwatched(*arguments):
        torch.cuda.set_sync_debug_mode("default")
        return add(*arguments)

    monkeypatch.setattr(run, "normalize_batch", watched)
    monkeypatch.setattr(run.ChunkBuffer, "add", unwatched)
    try:
        assert record(images, tmp_path / "out", network=network, batch_size=None).recording.attrs["batch_size"] == 64
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_on_a_gpu_two_recordings_are_equal(record, images, tmp_path, network, arrays):
    network = copy.deepcopy(network).cuda()
    first, second = (record(images, tmp_path / name, network=network).recording.path for name in ("a", "b"))
    assert arrays(first) == arrays(second)
