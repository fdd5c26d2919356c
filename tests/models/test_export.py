"""Exported networks: plain operators that any runtime knows, with the values of PyTorch."""

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


@pytest.mark.filterwarnings("ignore")  # the exporter warns of its own parts
def test_onnx_equals_pytorch_for_any_batch(network, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    images = torch.randn(2, 3, 64, 64)
    torch.onnx.export(
        network, (images,), tmp_path / "network.onnx", dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    for images in (torch.randn(2, 3, 64, 64), torch.randn(5, 3, 64, 64)):
        (out,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), network(images).detach(), rtol=1e-4, atol=1e-5)
