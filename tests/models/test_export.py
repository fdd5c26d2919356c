"""Exported programs: plain operators, with the values of PyTorch."""

import pytest
import timm
import torch

import atmviz.models  # noqa: F401


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = timm.create_model("atmnet_nano", depths=(2, 2, 2, 2), num_classes=10).eval()
    for name, parameter in network.named_parameters():
        if "offset" in name and parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)  # reaches across the border of the map
    return network


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported_program_needs_no_operator_of_ours(network):
    images = torch.randn(2, 3, 64, 64)
    program = torch.export.export(network, (images,))
    assert not [node for node in program.graph.nodes if "atmviz" in str(node.target)]
    torch.testing.assert_close(program.module()(images), network(images))
