"""The paper's Tables 1 to 8 as data, to the digits they print, and what its figures of offsets show. Torch-free.

Sources: "Active Token Mixer" (arXiv 2203.06108). `tables/1.csv` to `tables/8.csv` hold the printed rows with all
printed columns; `tables/release.csv` is from the README of the released code (github.com/microsoft/ActiveMLP).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

from atmviz.architecture import NETWORK_OPTIONS, PAPER_CLASSES, PYRAMID_DIM, Architecture, Head, Task

BIBTEX = r"""
@inproceedings{wei2023active,
  title     = {Active Token Mixer},
  author    = {Wei, Guoqiang and Zhang, Zhizheng and Lan, Cuiling and Lu, Yan and Chen, Zhibo},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2023},
  note      = {arXiv:2203.06108}
}
@software{atmviz,
  title  = {atmviz: see where Active Token Mixer networks look},
  author = {{The atmviz authors}}
}
""".lstrip()
"""The paper and this software, to cite."""


@dataclass(frozen=True)
class PaperRow:
    """One printed row.

    Attributes:
        table: Number of the table; None for the README of the released code.
        label: Name of the row, as printed.
        architecture: The network, as `Architecture.parse` reads it; None for networks that atmviz does not build.
        size: Input height and width at which the paper counts FLOPs, px.
        params_m, flops_g: Parameters in millions and FLOPs in G, as printed; None for an empty cell.
        accuracies: Accuracies in %, as printed; None for an empty cell. Names are the metrics of `evaluate`,
            followed by _ms (multi-scale) or by the schedule, _1x or _3x.
        config: Constructor arguments that differ from the defaults.
        remark: Why atmviz counts another number, or why a printed cell is odd.
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


@dataclass(frozen=True)
class FigurePreset:
    """What one of the paper's figures of offsets shows.

    Attributes:
        figure: Number of the figure.
        dataset: Dataset whose validation images are shown or counted.
        size: Input height and width, px.
        layers: Layers drawn.
        limit: How many random images; None for all.
    """

    figure: int
    dataset: str
    size: tuple[int, int]
    layers: tuple[str, ...]
    limit: int | None


# Dataset, size, number of images and stages are the paper's; the layers within the stages are our choice.
FIGURES: dict[int, FigurePreset] = {
    preset.figure: preset
    for preset in (
        FigurePreset(3, "ade20k", (512, 512), ("2_1", "3_last"), None),
        FigurePreset(5, "ade20k", (512, 512), ("3_18",), 4),
        FigurePreset(6, "coco", (600, 800), ("2_1", "3_1", "3_last"), None),
        FigurePreset(7, "imagenet", (224, 224), ("2_1", "3_1", "3_last"), 5000),
    )
}
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
_CONFIGS: dict[tuple[int | None, str], dict[str, Any]] = {
    (8, "1: Baseline"): {"offset_mode": "zero", "peg": False},
    (8, "2: ATMNet w/o PEG"): {"peg": False},
}
_REMARKS: dict[tuple[int | None, str], str] = {
    (1, "ATMNet-L"): "the authors' README prints 12.4",
    (3, "ATMNet-B"): "the paper truncates; the authors' README has 1055.9",
    (5, "WaveMLP-B"): "the printed mask AP of 1x is impossible: AP75 exceeds AP50",
    (7, "ResNet-50, Semantic FPN, ATMFpn"): (
        "no design gives both cells: Mask R-CNN's +39.1 G amount to +10.0 G at this size, not +3.0"
    ),
    (8, "2: ATMNet w/o PEG"): "the printed cost is that of offsets made once per stage, not every K = 2 blocks",
}
# Columns of Table 8 that are measured with a head on the classifier
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
INPUT_SIZES: dict[Head | None, tuple[int, int]] = {
    Architecture.parse(row.architecture).head: row.size for row in reversed(PAPER_ROWS) if row.architecture
}
"""Input height and width, px, at which the paper counts a head's FLOPs: that of its first printed row."""


def table_rows(table: int) -> list[PaperRow]:
    """Rows of one table, in printed order."""
    return [row for row in PAPER_ROWS if row.table == table]


def split_metric(column: str) -> tuple[str, str]:
    """Split the name of an accuracy into metric and setting.

    >>> split_metric("box_ap_1x"), split_metric("miou_ms"), split_metric("top1")
    (('box_ap', '1x'), ('miou', 'ms'), ('top1', ''))
    """
    metric, _, setting = column.rpartition("_")
    return (metric, setting) if setting in ("ms", "1x", "3x") else (column, "")


def printed_accuracies(
    model: str, config: Mapping[str, Any], dataset: str, size: int, multi_scale: bool = False
) -> dict[str, dict[str, str]]:
    """Accuracies that the paper prints for a network on the validation images of a dataset.

    Args:
        model: Name of the network, as `Architecture.parse` reads it.
        config: Constructor arguments of the network.
        dataset: Name of the dataset, as in `evaluate`.
        size: Side of the crop or shorter side, px.
        multi_scale: Whether predictions are averaged over several scales.

    Returns:
        Values in % by metric, by source ("Table 5 of the paper, 3x"). Sources that only repeat an earlier one are left
        out. Empty unless backbone, head, neck, options, classes, dataset, size and scale are all those of a row.
    """
    asked = Architecture.parse(model)
    if dataset != _DATASETS[asked.task] or config.get("num_classes") != PAPER_CLASSES[asked.task]:
        return {}
    usual = {**NETWORK_OPTIONS, "dim": PYRAMID_DIM, "num_offsets": None}
    changed = {name: config[name] for name in usual if config.get(name, usual[name]) != usual[name]}
    printed: dict[str, dict[str, str]] = {}
    for row in (*PAPER_ROWS, *RELEASED_ROWS):
        for column, value in row.accuracies.items():
            if value and row.config == changed and _conditions(row, column) == (asked, size, multi_scale):
                metric, setting = split_metric(column)
                printed.setdefault(_source(row, setting), {})[metric] = value
    sources = list(printed.items())
    return {
        source: values
        for i, (source, values) in enumerate(sources)
        if not any(values.items() <= earlier.items() for _, earlier in sources[:i])
    }


def _conditions(row: PaperRow, column: str) -> tuple[Architecture, int, bool] | None:
    """Network, input size in px and multi-scale testing behind an accuracy; None for networks not built here."""
    if row.architecture is None:
        return None
    architecture, size = Architecture.parse(row.architecture), row.size
    if row.table == 8 and column in _ABLATED_IN:
        architecture = replace(architecture, head=_ABLATED_IN[column])
        size = INPUT_SIZES[architecture.head]
    return architecture, min(size), split_metric(column)[1] == "ms"


def _source(row: PaperRow, setting: str) -> str:
    source = f"Table {row.table} of the paper" if row.table else "the authors' README"
    return f"{source}, {setting}" if setting in ("1x", "3x") else source
