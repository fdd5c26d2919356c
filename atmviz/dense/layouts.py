"""Tensor names of dense networks: those of mmsegmentation 0.11 and mmdetection 2.11 ("mm"), and atmviz's.

mmdetection puts background last among the classes of a box head; atmviz, like torchvision, puts it first.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from atmviz.architecture import Architecture, Head
from atmviz.models.released import released_to_timm, tensors_below

# Tensor name that only this head has: mm's, atmviz's
_MARKS: dict[Head, tuple[str, str]] = {
    "upernet": (r"decode_head\.psp_modules\.", r"head\.psp_modules\."),
    "semantic_fpn": (r"decode_head\.scale_heads\.", r"head\.scale_heads\."),
    "retinanet": (r"bbox_head\.retina_cls\.", r"head\.classification_head\."),
    "mask_rcnn": (r"roi_head\.bbox_head\.fc_cls\.", r"roi_heads\.box_head\."),
    "cascade_mask_rcnn": (r"roi_head\.bbox_head\.0\.fc_cls\.", r"roi_heads\.stages\."),
}
# (bias that reveals the class count, values per class, background classes)
_CLASS_TENSORS: dict[Head, tuple[str, int, int]] = {
    "upernet": ("head.classifier.bias", 1, 0),
    "semantic_fpn": ("head.classifier.bias", 1, 0),
    "retinanet": ("head.classification_head.cls_logits.bias", 9, 0),
    "mask_rcnn": ("roi_heads.box_predictor.cls_score.bias", 1, 1),
    "cascade_mask_rcnn": ("roi_heads.stages.0.box_predictor.cls_score.bias", 1, 1),
}
_FPN = (
    (r"^neck\.lateral_convs\.(\d)\.conv\.", r"backbone.neck.inner_blocks.\1.0."),
    (r"^neck\.fpn_convs\.(\d)\.conv\.", r"backbone.neck.layer_blocks.\1.0."),
)
_RPN = (
    (r"^rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"^rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"^rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
)
_BOX = ((r"\.fc_cls\.", ".box_predictor.cls_score."), (r"\.fc_reg\.", ".box_predictor.bbox_pred."))
_MASK = (
    (r"\.mask_head\.convs\.(\d)\.conv\.", r".mask_head.\1.0."),
    (r"\.mask_head\.upsample\.", ".mask_predictor.conv5_mask."),
    (r"\.mask_head\.conv_logits\.", ".mask_predictor.mask_fcn_logits."),
)
_RENAMES: dict[Head, tuple[tuple[str, str], ...]] = {
    "upernet": (
        (r"^decode_head\.", "head."),
        (r"^((?:auxiliary_)?head\..*)\.bn\.", r"\1.batch_norm."),
        (r"^((?:auxiliary_)?head)\.conv_seg\.", r"\1.classifier."),
    ),
    "semantic_fpn": (
        *_FPN,
        (r"^decode_head\.(scale_heads\.\d\.\d)\.conv\.", r"head.\1.0."),
        (r"^decode_head\.(scale_heads\.\d\.\d)\.bn\.", r"head.\1.1."),
        (r"^decode_head\.conv_seg\.", "head.classifier."),
    ),
    "retinanet": (
        (r"^neck\.fpn_convs\.3\.conv\.", "backbone.neck.extra_blocks.p6."),
        (r"^neck\.fpn_convs\.4\.conv\.", "backbone.neck.extra_blocks.p7."),
        *_FPN,
        (r"^bbox_head\.cls_convs\.(\d)\.conv\.", r"head.classification_head.conv.\1.0."),
        (r"^bbox_head\.reg_convs\.(\d)\.conv\.", r"head.regression_head.conv.\1.0."),
        (r"^bbox_head\.retina_cls\.", "head.classification_head.cls_logits."),
        (r"^bbox_head\.retina_reg\.", "head.regression_head.bbox_reg."),
    ),
    "mask_rcnn": (
        *_FPN,
        *_RPN,
        (r"^roi_head\.bbox_head\.shared_fcs\.0\.", "roi_heads.box_head.fc6."),
        (r"^roi_head\.bbox_head\.shared_fcs\.1\.", "roi_heads.box_head.fc7."),
        (r"^roi_head\.(bbox_head\.)?", "roi_heads."),
        *_BOX,
        *_MASK,
    ),
    "cascade_mask_rcnn": (
        *_FPN,
        *_RPN,
        (r"^roi_head\.bbox_head\.(\d)\.shared_convs\.(\d)\.conv\.", r"roi_heads.stages.\1.box_head.\2.0."),
        (r"^roi_head\.bbox_head\.(\d)\.shared_convs\.(\d)\.bn\.", r"roi_heads.stages.\1.box_head.\2.1."),
        (r"^roi_head\.bbox_head\.(\d)\.shared_fcs\.0\.", r"roi_heads.stages.\1.box_head.5."),
        (r"^roi_head\.bbox_head\.(\d)\.", r"roi_heads.stages.\1."),
        (r"^roi_head\.mask_head\.(\d)\.", r"roi_heads.stages.\1.mask_head."),
        *_BOX,
        *_MASK,
    ),
}


def head_of(names: Iterable[str], layout: Literal["mm", "atmviz"]) -> Head | None:
    """The head that tensors with these names belong to; None without one."""
    names, column = list(names), ("mm", "atmviz").index(layout)
    return next((head for head, marks in _MARKS.items() if any(re.match(marks[column], name) for name in names)), None)


def backbone_path(head: Head) -> str:
    """Module path of the backbone, as timm builds it, in a network with this head."""
    return "backbone.model" if head == "upernet" else "backbone.body.model"


def mm_to_atmviz(head: Head, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a whole network and put background first; unknown names stay as they are."""
    backbone = released_to_timm(tensors_below(state, "backbone."))
    renamed = {f"{backbone_path(head)}.{name}": tensor for name, tensor in backbone.items()}
    for name, tensor in state.items():
        if name.startswith("backbone."):
            continue
        for pattern, replacement in _RENAMES[head]:
            name = re.sub(pattern, replacement, name)
        renamed[name] = torch.cat([tensor[-1:], tensor[:-1]]) if ".cls_score." in name else tensor
    if head == "retinanet":  # the norm of the finest map, which RetinaNet does not use
        renamed = {name: tensor for name, tensor in renamed.items() if ".out_norms.0." not in name}
    return renamed


def describe_heads(head: Head, backbone: str, state: Mapping[str, Tensor]) -> tuple[Architecture, int]:
    """Read architecture and number of classes from tensors with atmviz's names; 0 classes if none tells."""
    units = r"(backbone\.neck\.inner_blocks|head\.lateral_convs)\.0\.peg\."
    neck = "atmfpn" if any(re.match(units, name) for name in state) else "fpn"
    name, values, background = _CLASS_TENSORS[head]
    length = state[name].numel() if name in state else 0
    return Architecture(backbone, head, neck), max(length // values - background, 0)  # type: ignore[arg-type]
