"""Blocks of one kind share what is compiled, and compute the same."""

import copy

import pytest
import torch

from atmviz.models import compile_blocks, compiling
from atmviz.models.atmnet import ATMStage


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_blocks_of_one_kind_are_compiled_once_whatever_their_stochastic_depth(monkeypatch):
    seen = []
    monkeypatch.setattr(compiling, "_SETTINGS", {"backend": lambda graph, inputs: seen.append(graph) or graph.forward})
    torch.compiler.reset()
    mixer = {"offset_mode": "decoupled", "num_samples": 1, "fusion": "image"}
    rates = (1e-9, 2e-9, 3e-9, 4e-9)  # of no effect, so that results can be compared
    stage = ATMStage(None, 8, 4, 2.0, 4, rates, 2, peg=True, **mixer).train()
    compiled = copy.deepcopy(stage)
    compile_blocks(compiled)
    assert compiled.state_dict().keys() == stage.state_dict().keys()
    tokens = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(compiled(tokens), stage(tokens))
    assert len(seen) == 2  # of four blocks: with and without an offset layer
    torch.compiler.reset()


def test_stochastic_depth_drops_images_at_its_rate_and_keeps_the_mean():
    drop, x = compiling._TensorDropPath(0.25), torch.ones(4000, 2, 1, 1)
    out = drop(x)
    assert sorted(out.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert (out[:, 0] == out[:, 1]).all()
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(x) is x
    assert not drop.state_dict()
