"""A released classifier, a segmentation file around it, and how files are refused."""

import json
import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from atmviz.checkpoints import load_model
from atmviz.errors import CheckpointError
from atmviz.events import Events

LAYOUTS = json.loads((Path(__file__).parents[1] / "data" / "released_layouts.json").read_text())


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads wait for each other on a busy machine, and these networks are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _random_state(layout):
    """A state dict that keeps activations near one and looks some tokens away."""
    state = {}
    for name, shape in layout.items():
        noise = torch.randn(shape)
        if name.endswith("bias"):
            state[name] = noise / 10
        elif len(shape) == 1:
            state[name] = 1 + noise / 10
        else:
            spread = 3 if "offset_layer" in name else 1
            state[name] = spread * noise / math.sqrt(math.prod(shape[1:]))
    return state


def _in_mmseg_file(state, dims):
    """What mmseg saves of a segmentor: a backbone with a norm on each output, heads, other things."""
    norms = {f"norm_{i}.{part}": torch.randn(dim) for i, dim in enumerate(dims) for part in ("weight", "bias")}
    backbone = {n: t for n, t in state.items() if not n.startswith(("norm.", "head."))} | norms
    heads = {
        "decode_head.conv_seg.weight": torch.randn(150, 8, 1, 1),
        "decode_head.conv_seg.bias": torch.randn(150),
        "auxiliary_head.conv_seg.weight": torch.randn(150, 8, 1, 1),
    }
    state_dict = OrderedDict({f"backbone.{n}": t for n, t in backbone.items()} | heads)
    return norms, {"meta": {"epoch": 1, "CLASSES": ("wall", "sky")}, "state_dict": state_dict, "optimizer": {}}


@pytest.fixture(scope="session")
def random_state():
    """The function `random_state(layout)`."""
    return _random_state


@pytest.fixture(scope="module")
def xtiny():
    torch.manual_seed(0)
    return _random_state(LAYOUTS["xtiny"])


@pytest.fixture
def mmseg(xtiny, tmp_path):
    norms, content = _in_mmseg_file(xtiny, (64, 128, 320, 512))
    torch.save(content, tmp_path / "upernet.pth")
    return tmp_path / "upernet.pth", norms


class _Failing(Events):
    def message(self, text):
        pytest.fail(f"reported {text!r}")


@pytest.fixture(scope="session")
def refusal():
    """`refusal(path)` is the message of loading a file that must be refused: one line that names it."""

    def load(path, *, error=CheckpointError, **options):
        with pytest.raises(error) as caught:
            load_model(path, device="cpu", events=_Failing(), **options)
        message = str(caught.value)
        assert "\n" not in message
        assert str(path) in message
        return message

    return load
