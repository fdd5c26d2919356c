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
from atmviz.models import create_model

__all__ = [
    "cascade_mask_rcnn",
    "create_network",
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


def create_network(architecture: Architecture | str, **kwargs: Any) -> nn.Module:
    """Build the network of a name like `atmnet_tiny` or `semantic_fpn(atmnet_tiny)`, with random weights.

    Args:
        architecture: Backbone, head and neck; a backbone alone is a classifier.
        kwargs: Arguments of the head's function, such as `num_classes` and `dim`, or of the classifier.

    Raises:
        AtmvizError: the head, neck or its backbone is unknown, does not take an argument, or needs a library that is
            not installed.
        RuntimeError, TypeError, ValueError: the same of a classifier, as timm raises it.
    """
    if isinstance(architecture, str):
        architecture = Architecture.parse(architecture)
    if architecture.head:
        return _BUILDERS[architecture.head](architecture.backbone, architecture.neck, **kwargs)
    return create_model(architecture.backbone, **kwargs)
