"""Devices by name."""

import pytest
import torch

from atmviz.checkpoints import load_model
from atmviz.devices import pick_device
from atmviz.errors import AtmvizError


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "gpu", "meta", "", "cuda:x"])
def test_unknown_or_absent_devices_are_errors(name):
    with pytest.raises(AtmvizError, match="expected one that is here: auto, cpu") as caught:
        pick_device(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_without_a_gpu_is_an_error(tmp_path):
    with pytest.raises(AtmvizError, match="got device 'cuda', expected one that is here: auto, cpu"):
        load_model("atmnet_nano", device="cuda")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="an accelerator is here")
def test_auto_falls_back_to_the_cpu():
    assert pick_device("auto") == torch.device("cpu")
