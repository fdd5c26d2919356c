"""The #P and FLOPs columns of the paper's tables as data, to the digits it prints. Torch-free.

Source: "Active Token Mixer" (arXiv 2203.06108), Tables 1 to 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atmviz.variants import VARIANTS, Architecture, Framework


@dataclass(frozen=True)
class PaperRow:
    """One counted model of a table.

    Attributes:
        table: Its number.
        label: The row's name.
        architecture: What is counted, as `Architecture.parse` reads it.
        size: Input height and width, px.
        params_m, flops_g: As printed, in millions and in G; None where the table has no such column.
        config: Constructor arguments besides.
        remark: Why a cell is not met.
    """

    table: int
    label: str
    architecture: str
    size: tuple[int, int]
    params_m: str | None
    flops_g: str | None
    config: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""


CAPTIONS = {
    1: "ImageNet-1K, 224×224 px",
    2: "Semantic FPN, 512×512 px",
    3: "UperNet, 512×2048 px",
    4: "RetinaNet, 800×1280 px",
    5: "Mask R-CNN, 800×1280 px",
    6: "Cascade Mask R-CNN, 800×1280 px",
    7: "FPN and ATMFpn: Semantic FPN 512×512 px, Mask R-CNN 800×1280 px",
    8: "Ablation of ATMNet-T, 224×224 px",
}
INPUT_SIZES: dict[Framework | None, tuple[int, int]] = {
    None: (224, 224),
    "semantic_fpn": (512, 512),
    "upernet": (512, 2048),
    "retinanet": (800, 1280),
    "mask_rcnn": (800, 1280),
    "cascade_mask_rcnn": (800, 1280),
}
_PRINTED: dict[int, tuple[Framework | None, str]] = {
    1: (None, "15 2.2  27 4.0  39 6.9  52 10.1  76 12.3"),
    2: ("semantic_fpn", "19.1 33.1  30.9 42.4  42.4 57.8  55.9 74.7  79.8 86.6"),
    3: ("upernet", "45 889  57 927  69 988  82 1055  108 1106"),
    4: ("retinanet", "25 196  37 233  48 293  62 359  86 405"),
    5: ("mask_rcnn", "35 215  47 251  58 311  72 377  96 424"),
    6: ("cascade_mask_rcnn", "73 693  85 730  96 790  110 856  134 902"),
}
_REMARKS = {
    (1, "L"): "the authors' README prints 12.4",
    (3, "B"): "truncated in print; the authors' README has 1055.9",
}
_NECKS: tuple[tuple[str, str, Framework, str], ...] = (
    # FLOPs with FPN, then with ATMFpn; mmsegmentation's ResNet has the deep stem of V1c
    ("R50-V1c", "resnet50c", "semantic_fpn", "45.9 48.9"),
    ("R50", "resnet50", "mask_rcnn", "259.8 298.9"),
    ("Swin-T", "swin_tiny_patch4_window7_224", "semantic_fpn", "47.5 47.5"),
    ("Swin-T", "swin_tiny_patch4_window7_224", "mask_rcnn", "267.0 267.1"),
    ("T", "atmnet_tiny", "semantic_fpn", "42.4 41.4"),
    ("T", "atmnet_tiny", "mask_rcnn", "251.1 247.0"),
    ("L", "atmnet_large", "semantic_fpn", "86.6 86.6"),
    ("L", "atmnet_large", "mask_rcnn", "423.7 423.8"),
)
_R50_REMARK = "no one design gives both: Mask R-CNN's +39.1 G are +10.0 G at this size, not +3.0"
_PEG_REMARK = "printed is what offsets made once per stage, and not every K = 2 blocks, would cost"


def _rows() -> list[PaperRow]:
    variants = {variant.paper.label: name for name, variant in VARIANTS.items() if variant.paper}
    rows = []
    for table, (around, text) in _PRINTED.items():
        printed = text.split()
        for (label, name), params_m, flops_g in zip(variants.items(), printed[::2], printed[1::2], strict=True):
            architecture = str(Architecture(name, around))
            remark = _REMARKS.get((table, label), "")
            rows.append(PaperRow(table, label, architecture, INPUT_SIZES[around], params_m, flops_g, {}, remark))
        if table == 1:
            rows.append(PaperRow(1, "L, 384×384", "atmnet_large", (384, 384), "76", "36.4"))
    for label, backbone, framework, text in _NECKS:
        shown = {"semantic_fpn": "Semantic FPN", "mask_rcnn": "Mask R-CNN"}[framework]
        for neck, flops_g in zip(("FPN", "ATMFpn"), text.split(), strict=True):
            architecture = str(Architecture(backbone, framework, "atmfpn" if neck == "ATMFpn" else "fpn"))
            remark = _R50_REMARK if flops_g == "48.9" else ""
            name = f"{label}, {shown}, {neck}"
            rows.append(PaperRow(7, name, architecture, INPUT_SIZES[framework], None, flops_g, {}, remark))
    for label, flops_g, config, remark in (
        ("1: zero offsets, no PEG", "3.890", {"offset_mode": "zero", "peg": False}, ""),
        ("2: no PEG", "3.924", {"peg": False}, _PEG_REMARK),
        ("3: ATMNet", "3.972", {}, ""),
    ):
        rows.append(PaperRow(8, label, "atmnet_tiny", (224, 224), None, flops_g, config, remark))
    return rows


PAPER_ROWS = _rows()
