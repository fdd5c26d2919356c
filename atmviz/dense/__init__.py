"""The paper's dense prediction systems: five heads on any ATMNet (or other timm backbone), with FPN or ATMFpn."""

from collections.abc import Callable
from typing import Any

from torch import nn

from atmviz.architecture import Architecture, Head
from atmviz.dense.cascade import cascade_mask_rcnn
from atmviz.dense.mask_rcnn import mask_rcnn
from atmviz.dense.retinanet import retinanet
from atmviz.dense.semantic_fpn import semantic_fpn
from atmviz.dense.upernet import upernet

__all__ = ["cascade_mask_rcnn", "create_dense", "mask_rcnn", "retinanet", "semantic_fpn", "upernet"]

_HEADS: dict[Head, Callable[..., nn.Module]] = {
    "semantic_fpn": semantic_fpn,
    "upernet": upernet,
    "retinanet": retinanet,
    "mask_rcnn": mask_rcnn,
    "cascade_mask_rcnn": cascade_mask_rcnn,
}


def create_dense(architecture: Architecture | str, **kwargs: Any) -> nn.Module:
    """The network of a name like `semantic_fpn(atmnet_tiny)`; `kwargs` as its function takes them.

    Raises:
        AtmvizError: no such head or neck, or one whose library is not installed.
    """
    if isinstance(architecture, str):
        architecture = Architecture.parse(architecture)
    if architecture.head is None:
        raise ValueError(f"got {architecture}, expected a head around it, as in semantic_fpn({architecture})")
    return _HEADS[architecture.head](architecture.backbone, architecture.neck, **kwargs)
