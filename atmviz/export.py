"""Networks as ONNX files, for any runtime: plain operators, without a custom one for sampling."""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from atmviz.checkpoints import WeightChoice, load_model
from atmviz.dense import is_detector
from atmviz.errors import AtmvizError, CheckpointError
from atmviz.files import atomic_path

# By which scores may differ, relative to the largest one: the order of sums
_ROUNDING = 1e-4


def export_onnx(
    source: str | Path,
    target: Path,
    *,
    weights: WeightChoice | None = None,
    size: tuple[int, int] = (224, 224),
    report: Callable[[str], None] = print,
) -> float:
    """Write a classifier or segmenter as ONNX, whole or not at all, after comparing it with PyTorch.

    The file takes "images", normalised, [B, 3, H, W] with any B, and gives "scores". Sampling is written as the plain
    reference is, with operators of ONNX alone.

    Args:
        source: What `load_model` takes.
        target: A name ending in .onnx.
        weights: "ema" or "model"; averaged ones where the file has them.
        size: H and W, px, fixed in the file.
        report: Called with one line that says what was loaded.

    Returns:
        The largest difference between ONNX Runtime's and PyTorch's scores of two random images, relative to the
        largest score.

    Raises:
        AtmvizError: the exporter or runtime is not installed, or the two differ by more than rounding.
        CheckpointError: the source cannot be loaded, or is a detector.
    """
    if missing := [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise AtmvizError(f"{missing[0]} is not installed, which ONNX files need: pip install 'atmviz[onnx]'")
    import onnxruntime

    network = load_model(source, weights=weights, device="cpu", report=report)
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
        if not difference <= _ROUNDING:
            raise AtmvizError(
                f"ONNX Runtime's scores differ from PyTorch's by {difference:.2g} of the largest, expected rounding "
                "alone: please report it with the versions of torch, onnxscript and onnxruntime"
            )
    return difference


def _export(network: nn.Module, images: torch.Tensor, path: Path) -> None:
    """Without what the exporter says of itself."""
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
