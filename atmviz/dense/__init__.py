"""Dense prediction: the paper's five heads on an ATMNet or another timm backbone, with FPN or ATMFpn as neck."""

from collections.abc import Callable
from typing import Any

from torch import nn

from atmviz.architecture import Architecture
from atmviz.dense.cascade import cascade_mask_rcnn
from atmviz.dense.detector import is_detector, predicts_masks
from atmviz.dense.mask_rcnn import mask_rcnn
from atmviz.dense.retinanet import retinanet
from atmviz.dense.semantic_fpn import semantic_fpn
from atmviz.dense.upernet import upernet

__all__ = [
    "cascade_mask_rcnn",
    "create_dense",
    "is_detector",
    "mask_rcnn",
    "predicts_masks",
    "retinanet",
    "semantic_fpn",
    "upernet",
]

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    build.__name__: build for build in (semantic_fpn, upernet, retinanet, mask_rcnn, cascade_mask_rcnn)
}


def create_dense(architecture: Architecture | str, **kwargs: Any) -> nn.Module:
    """Build the network of a name like `semantic_fpn(atmnet_tiny)`.

    Args:
        architecture: Head, backbone and neck.
        kwargs: Arguments of the head's function, such as `num_classes` and `dim`.

    Raises:
        AtmvizError: the head or neck is unknown, or needs a library that is not installed.
        ValueError: there is no head.
    """
    if isinstance(architecture, str):
        architecture = Architecture.parse(architecture)
    if architecture.head is None:
        raise ValueError(f"got {architecture}, expected a head around it, as in semantic_fpn({architecture})")
    return _BUILDERS[architecture.head](architecture.backbone, architecture.neck, **kwargs)
