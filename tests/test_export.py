"""ONNX files: they equal PyTorch, for any number of images, or are not written."""

import pytest
import torch

from atmviz import export
from atmviz.checkpoints import load_model, write_checkpoint
from atmviz.errors import AtmvizError, CheckpointError
from atmviz.events import Events
from atmviz.export import export_onnx

CONFIG = {"depths": (2, 2, 2, 2), "num_classes": 10}


class Heard(Events):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network whose offsets reach across the border of the map."""
    torch.manual_seed(0)
    network = load_model("atmnet_nano", device="cpu")
    state = {
        name: tensor[:10] if name.startswith("head.") else tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith("stages.2.blocks.") or int(name.split(".")[3]) < 2
    }
    path = tmp_path_factory.mktemp("export") / "small.safetensors"
    write_checkpoint(path, "atmnet_nano", CONFIG, {"model": state}, {})
    return path


@pytest.mark.filterwarnings("ignore")
def test_file_gives_pytorchs_scores_for_any_number_of_images(checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    target, heard = tmp_path / "new" / "small.onnx", Heard()
    assert export_onnx(checkpoint, target, size=(64, 96), events=heard) < 1e-5
    assert "small.safetensors" in heard.lines[0]
    assert [file.name for file in target.parent.iterdir()] == ["small.onnx"]  # weights inside, nothing left
    session = onnxruntime.InferenceSession(target)
    assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == ["images", "scores"]
    network = load_model(checkpoint, device="cpu")
    for count in (1, 5):
        images = torch.randn(count, 3, 64, 96)
        (scores,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(scores), network(images).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_file_that_would_differ_is_not_written(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    target = tmp_path / "small.onnx"
    target.write_bytes(b"mine")
    plain = export._export

    def export_another(network, images, path):
        with torch.no_grad():
            network.head.fc.bias += 1
        plain(network, images, path)

    monkeypatch.setattr(export, "_export", export_another)
    with pytest.raises(AtmvizError, match=r"differ from PyTorch's by .* expected rounding alone"):
        export_onnx(checkpoint, target, size=(64, 64))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("small.onnx", b"mine")]


def test_detectors_are_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(CheckpointError, match=r"got a detector .* expected a classifier or a segmenter"):
        export_onnx("retinanet(atmnet_nano)", tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["onnxscript", "onnxruntime"])
def test_what_is_missing_is_named(name, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda asked: None if asked == name else object())
    with pytest.raises(AtmvizError, match=rf"{name} is not installed.*pip install 'atmviz\[onnx\]'"):
        export_onnx(checkpoint, tmp_path / "a.onnx")
