"""Write networks as ONNX files of standard operators, for any runtime."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from atmviz.checkpoints import WeightChoice, load_model
from atmviz.dense import is_detector
from atmviz.errors import AtmvizError, CheckpointError
from atmviz.events import QUIET, Events
from atmviz.files import atomic_path

_TOLERANCE = 1e-4  # largest difference of scores, relative to the largest score, from another order of sums


def export_onnx(
    source: str | Path,
    target: Path,
    *,
    weights: WeightChoice | None = None,
    size: tuple[int, int] = (224, 224),
    events: Events = QUIET,
) -> float:
    """Write a classifier or segmenter as ONNX, atomically, after comparing its scores with PyTorch's.

    The file's input "images" is [B, 3, H, W], normalized, with any B; its output is "scores". Sampling uses standard
    ONNX operators, as the plain reference does.

    Args:
        source: As in `load_model`.
        target: A name ending in .onnx.
        weights: "ema" or "model"; None takes averaged weights where the file has them.
        size: H and W in px, fixed in the file.
        events: `message` receives one line that says what was loaded.

    Returns:
        The largest difference between ONNX Runtime's and PyTorch's scores for two random images, divided by the
        largest score.

    Raises:
        AtmvizError: the exporter or runtime is not installed, or the two differ by more than rounding.
        CheckpointError: the source cannot be loaded, or is a detector.
    """
    if missing := [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise AtmvizError(f"{missing[0]} is not installed, which ONNX files need: pip install 'atmviz[onnx]'")
    import onnxruntime

    network = load_model(source, weights=weights, device="cpu", events=events)
    if is_detector(network):
        raise CheckpointError(f"got a detector in {source}, expected a classifier or a segmenter: export its backbone")
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
    with atomic_path(target) as temporary:
        _export(network, images, temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {"images": images.numpy()})
        difference = (torch.from_numpy(scores) - expected).abs().max().item() / expected.abs().max().item()
        if not difference <= _TOLERANCE:
            raise AtmvizError(
                f"ONNX Runtime's scores differ from PyTorch's by {difference:.2g} of the largest, expected rounding "
                "alone: please report it with the versions of torch, onnxscript and onnxruntime"
            )
    return difference


def _export(network: nn.Module, images: torch.Tensor, path: Path) -> None:
    """Export without the messages of torch's exporter."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            network,
            (images,),
            path,
            input_names=["images"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
