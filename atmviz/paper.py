"""The paper's Tables 1 to 8 as data, to the digits they print, and what is printed for a network. Torch-free.

Sources: "Active Token Mixer" (arXiv 2203.06108); `tables/release.csv` is from the README of its released code
(github.com/microsoft/ActiveMLP).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

from atmviz.variants import NETWORK_OPTIONS, PAPER_CLASSES, Architecture, Head, Task


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    Attributes:
        table: Its number; None for the release's README.
        label: The row's name, as printed.
        architecture: What is counted, as `Architecture.parse` reads it; None for a rival, which is not built here.
        size: Input height and width of the FLOPs, px.
        params_m, flops_g: As printed, in millions and in G; None where nothing is.
        accuracies: As printed, in %, None where nothing is; by the metrics' names in `atmviz eval`, followed by _ms
            (multi-scale) or by the schedule, _1x or _3x.
        config: Constructor arguments besides.
        remark: Why a cell is not met, or is odd.
    """

    table: int | None
    label: str
    architecture: str | None
    size: tuple[int, int]
    params_m: str | None
    flops_g: str | None
    accuracies: Mapping[str, str | None]
    config: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""


CAPTIONS = {
    1: "ImageNet-1K, 224×224 px († 384×384 px)",
    2: "Semantic FPN, 512×512 px",
    3: "UperNet, 512×2048 px",
    4: "RetinaNet, 800×1280 px",
    5: "Mask R-CNN, 800×1280 px",
    6: "Cascade Mask R-CNN, 800×1280 px",
    7: "FPN and ATMFpn: Semantic FPN 512×512 px, Mask R-CNN 800×1280 px",
    8: "Ablation of ATMNet-T, 224×224 px; with RetinaNet, with Semantic FPN",
}
INPUT_SIZES: dict[Head | None, tuple[int, int]] = {
    None: (224, 224),
    "semantic_fpn": (512, 512),
    "upernet": (512, 2048),
    "retinanet": (800, 1280),
    "mask_rcnn": (800, 1280),
    "cascade_mask_rcnn": (800, 1280),
}
_CONFIGS: dict[tuple[int | None, str], dict[str, Any]] = {
    (8, "1: Baseline"): {"offset_mode": "zero", "peg": False},
    (8, "2: ATMNet w/o PEG"): {"peg": False},
}
_REMARKS: dict[tuple[int | None, str], str] = {
    (1, "ATMNet-L"): "the authors' README prints 12.4",
    (3, "ATMNet-B"): "truncated in print; the authors' README has 1055.9",
    (5, "WaveMLP-B"): "its mask AP of 1x, as printed, cannot be: AP75 is above AP50",
    (7, "ResNet-50, Semantic FPN, ATMFpn"): (
        "no one design gives both: Mask R-CNN's +39.1 G are +10.0 G at this size, not +3.0"
    ),
    (8, "2: ATMNet w/o PEG"): "printed is what offsets made once per stage, and not every K = 2 blocks, would cost",
}
# The columns of Table 8 that are not of the classifier itself
_ABLATED_IN: dict[str, Head] = {"box_ap_1x": "retinanet", "miou": "semantic_fpn"}
_DATASETS: dict[Task, str] = {"classify": "imagenet", "segment": "ade20k", "detect": "coco"}


def _read(table: int | None) -> list[PaperRow]:
    text = resources.files("atmviz.tables").joinpath(f"{table or 'release'}.csv").read_text("utf-8")
    rows = []
    for line in csv.DictReader(text.splitlines()):
        label, (height, width) = line.pop("model"), line.pop("size").split("x")
        cells: dict[str, str | None] = {name: cell or None for name, cell in line.items()}
        rows.append(
            PaperRow(
                table=table,
                label=label,
                architecture=cells.pop("architecture"),
                size=(int(height), int(width)),
                params_m=cells.pop("params_m", None),
                flops_g=cells.pop("flops_g", None),
                accuracies=cells,
                config=_CONFIGS.get((table, label), {}),
                remark=_REMARKS.get((table, label), ""),
            )
        )
    return rows


PAPER_ROWS = [row for table in CAPTIONS for row in _read(table)]
RELEASED_ROWS = _read(None)


def split_metric(column: str) -> tuple[str, str]:
    """The metric and the rest of an accuracy's name: "box_ap_1x" is ("box_ap", "1x"), "top1" is ("top1", "").

    >>> split_metric("miou_ms")
    ('miou', 'ms')
    """
    metric, _, setting = column.rpartition("_")
    return (metric, setting) if setting in ("ms", "1x", "3x") else (column, "")


def printed_accuracies(
    model: str, config: Mapping[str, Any], dataset: str, size: int, multi_scale: bool = False
) -> dict[str, dict[str, str]]:
    """What is printed for a network on the validation images of a dataset.

    Args:
        model: Its name, as `Architecture.parse` reads it.
        config: Its constructor arguments.
        dataset: As `atmviz eval` names it.
        size: Side of the crop or shorter side, px.
        multi_scale: Whether it is judged at several scales.

    Returns:
        By source ("Table 5 of the paper, 3x"), values in % by metric; a source that only repeats another is left out.
        Empty where backbone, head, neck, options, classes, dataset, size or scale are none that is printed.
    """
    asked = Architecture.parse(model)
    if dataset != _DATASETS[asked.task] or config.get("num_classes") != PAPER_CLASSES[asked.task]:
        return {}
    usual = {**NETWORK_OPTIONS, "dim": 256, "num_offsets": None}
    changed = {name: config[name] for name in usual if config.get(name, usual[name]) != usual[name]}
    found: dict[str, dict[str, str]] = {}
    for row in (*PAPER_ROWS, *RELEASED_ROWS):
        if row.architecture is None or row.config != changed:
            continue
        for column, value in row.accuracies.items():
            metric, setting = split_metric(column)
            architecture, side = Architecture.parse(row.architecture), min(row.size)
            if row.table == 8 and column in _ABLATED_IN:
                architecture = replace(architecture, head=_ABLATED_IN[column])
                side = min(INPUT_SIZES[architecture.head])
            if value and (architecture, side, setting == "ms") == (asked, size, multi_scale):
                source = f"Table {row.table} of the paper" if row.table else "the authors' README"
                schedule = f", {setting}" if setting in ("1x", "3x") else ""
                found.setdefault(source + schedule, {})[metric] = value
    return {
        source: values
        for i, (source, values) in enumerate(found.items())
        if not any(values.items() <= before.items() for before in list(found.values())[:i])
    }
