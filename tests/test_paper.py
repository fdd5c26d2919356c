"""The paper's tables: how many cells there are, some of them typed by hand, and when one stands beside a result."""

import pytest

from atmviz.architecture import NETWORK_OPTIONS, Architecture
from atmviz.paper import (
    CAPTIONS,
    FIGURES,
    PAPER_ROWS,
    RELEASED_ROWS,
    printed_accuracies,
    split_metric,
    table_rows,
)

AP = ["box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ap_medium", "box_ap_large"]
BOX_AND_MASK = ["box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"]


def both(metrics):
    return [f"{metric}_{schedule}" for schedule in ("1x", "3x") for metric in metrics]


def paper_row(table, label):
    return next(row for row in table_rows(table) if row.label == label)


@pytest.mark.parametrize(
    ("table", "rivals", "built", "cells", "accuracies"),
    [  # as counted on paper: rows of other networks, rows that are built here, accuracies of the latter
        (1, 44, 6, 6, ["top1"]),
        (2, 15, 5, 5, ["miou"]),
        (3, 15, 5, 10, ["miou", "miou_ms"]),
        (4, 8, 5, 60, both(AP)),
        (5, 11, 5, 60, both(BOX_AND_MASK)),
        (6, 8, 5, 60, both(BOX_AND_MASK)),
        (7, 0, 16, 16, ["miou", "box_ap_1x"]),
        (8, 0, 3, 9, ["top1", "box_ap_1x", "miou"]),
    ],
)
def test_every_row_and_accuracy_is_there(table, rivals, built, cells, accuracies):
    rows = table_rows(table)
    counted = [row for row in rows if row.architecture]
    assert (len(rows) - len(counted), len(counted)) == (rivals, built)
    assert sum(value is not None for row in counted for value in row.accuracies.values()) == cells
    assert {tuple(row.accuracies) for row in rows} == {tuple(accuracies)}
    assert all(any(row.accuracies.values()) for row in rows)
    assert table in CAPTIONS


@pytest.mark.parametrize(
    ("table", "label", "params_m", "flops_g", "accuracies"),
    [
        (1, "ResNet18", "12", "1.8", "69.8"),
        (1, "S²MLP-W", "71", "14.0", "80.0"),
        (1, "DeiT III-B", "87", "17.5", "83.8"),
        (1, "ViT-B/16†", "86", "55.4", "77.9"),
        (1, "ATMNet-L†", "76", "36.4", "84.8"),
        (2, "Wave-MLP-S", "31.2", None, "44.4"),
        (2, "ATMNet-B", "55.9", "74.7", "47.7"),
        (3, "ConvNeXt-B", "122", "1170", "- 49.9"),
        (3, "ATMNet-S", "69", "988", "48.4 49.5"),
        (4, "Twins-L", "111", "528", "45.7 67.1 49.2 - - - - - - - - -"),
        (4, "ATMNet-L", "86", "405", "46.1 67.4 49.4 29.9 50.1 61.0 48.1 69.5 51.8 31.7 52.1 63.0"),
        (5, "MViT-B", "73", "438", "- - - - - - 48.8 71.2 53.5 44.2 68.4 47.6"),
        (5, "WaveMLP-B", "75", "353", "45.7 67.5 50.1 27.8 49.2 59.7 - - - - - -"),
        (5, "ATMNet-T", "47", "251", "44.8 66.9 49.0 41.0 64.2 44.3 47.1 69.0 51.7 42.7 66.5 46.0"),
        (6, "Deit-S", "80", "889", "- - - - - - 48.0 67.2 51.7 41.4 64.2 44.3"),
        (6, "ATMNet-B", "110", "856", "51.3 70.4 55.7 44.6 68.0 48.2 52.5 71.6 57.0 45.6 69.1 49.5"),
        (7, "Swin-Tiny, Mask R-CNN, ATMFpn", None, "267.1", "- 43.5"),
        (7, "ATMNet-L, Semantic FPN, ATMFpn", None, "86.6", "48.3 -"),
        (8, "1: Baseline", None, "3.890", "79.3 36.0 37.9"),
        (8, "2: ATMNet w/o PEG", None, "3.924", "82.0 43.4 45.6"),
    ],
)
def test_cells_are_as_printed(table, label, params_m, flops_g, accuracies):
    row = paper_row(table, label)
    assert (row.params_m, row.flops_g) == (params_m, flops_g)
    assert " ".join(value or "-" for value in row.accuracies.values()) == accuracies


def test_tables_agree_with_each_other():
    """Tables 7 and 8 repeat cells of Tables 1, 2, 4 and 5."""
    for size in "TL":
        assert (
            paper_row(7, f"ATMNet-{size}, Semantic FPN, FPN").accuracies["miou"]
            == paper_row(2, f"ATMNet-{size}").accuracies["miou"]
        )
        boxes = paper_row(5, f"ATMNet-{size}").accuracies["box_ap_1x"]
        assert paper_row(7, f"ATMNet-{size}, Mask R-CNN, FPN").accuracies["box_ap_1x"] == boxes
    last = paper_row(8, "3: ATMNet").accuracies
    assert last["top1"] == paper_row(1, "ATMNet-T").accuracies["top1"]
    assert last["box_ap_1x"] == paper_row(4, "ATMNet-T").accuracies["box_ap_1x"]
    assert last["miou"] == paper_row(2, "ATMNet-T").accuracies["miou"]


@pytest.mark.parametrize("row", PAPER_ROWS, ids=lambda row: f"{row.table}-{row.label}")
def test_values_are_possible(row):
    values = {name: float(value) for name, value in row.accuracies.items() if value}
    assert all(20 < value < 90 for value in values.values())
    rising = [("box_ap75", "box_ap50"), ("box_ap", "box_ap50"), ("mask_ap", "mask_ap50"), ("mask_ap75", "mask_ap50")]
    rising += [("box_ap_small", "box_ap_medium"), ("box_ap_medium", "box_ap_large"), ("mask_ap", "box_ap")]
    pairs = [(f"{low}_{schedule}", f"{high}_{schedule}") for low, high in rising for schedule in ("1x", "3x")]
    wrong = [low for low, high in [*pairs, ("miou", "miou_ms")] if values.get(low, 0) > values.get(high, 100)]
    # Table 5 prints 27.8, 49.2 and 59.7 as WaveMLP-B's mask AP, AP50 and AP75
    assert wrong == (["mask_ap75_1x"] if (row.table, row.label) == (5, "WaveMLP-B") else [])


def test_a_metric_is_told_from_what_follows_it():
    assert [split_metric(name) for name in ("top1", "miou_ms", "box_ap_1x", "box_ap_small_3x", "mask_ap50_1x")] == [
        ("top1", ""),
        ("miou", "ms"),
        ("box_ap", "1x"),
        ("box_ap_small", "3x"),
        ("mask_ap50", "1x"),
    ]


def by_metric(values):
    return dict(zip(BOX_AND_MASK, values.split(), strict=True))


def printed(model, dataset, size, multi_scale=False, **config):
    classes = {"classify": 1000, "segment": 150, "detect": 80}[Architecture.parse(model).task]
    return printed_accuracies(model, {"num_classes": classes, **config}, dataset, size, multi_scale)


@pytest.mark.parametrize(
    ("model", "dataset", "size", "options", "expected"),
    [
        ("atmnet_xtiny", "imagenet", 224, {}, {"Table 1 of the paper": {"top1": "79.7"}}),
        (
            "atmnet_tiny",
            "imagenet",
            224,
            {},
            {"Table 1 of the paper": {"top1": "82.0"}, "the authors' README": {"top1": "81.990", "top5": "95.930"}},
        ),
        ("atmnet_large", "imagenet", 224, {}, {"Table 1 of the paper": {"top1": "83.8"}}),
        ("atmnet_large", "imagenet", 384, {}, {"Table 1 of the paper": {"top1": "84.8"}}),
        (
            "atmnet_tiny",
            "imagenet",
            224,
            {"offset_mode": "zero", "peg": False},
            {"Table 8 of the paper": {"top1": "79.3"}},
        ),
        ("semantic_fpn(atmnet_base)", "ade20k", 512, {}, {"Table 2 of the paper": {"miou": "47.7"}}),
        ("semantic_fpn(atmnet_tiny)", "ade20k", 512, {"peg": False}, {"Table 8 of the paper": {"miou": "45.6"}}),
        ("semantic_fpn(resnet50c, atmfpn)", "ade20k", 512, {}, {"Table 7 of the paper": {"miou": "40.3"}}),
        ("upernet(atmnet_large)", "ade20k", 512, {}, {"Table 3 of the paper": {"miou": "50.1"}}),
        (
            "upernet(atmnet_large)",
            "ade20k",
            512,
            {"multi_scale": True},
            {
                "Table 3 of the paper": {"miou": "51.1"},
                "the authors' README": {"miou": "51.10", "macc": "61.95", "aacc": "83.86"},
            },
        ),
        ("mask_rcnn(atmnet_large, atmfpn)", "coco", 800, {}, {"Table 7 of the paper, 1x": {"box_ap": "48.4"}}),
        (
            "cascade_mask_rcnn(atmnet_xtiny)",
            "coco",
            800,
            {"min_size": 800, "max_size": 1333},
            {
                "Table 6 of the paper, 1x": by_metric("47.6 66.5 51.4 41.3 63.6 44.6"),
                "Table 6 of the paper, 3x": by_metric("50.0 68.7 54.4 43.5 66.2 46.8"),
            },
        ),
    ],
)
def test_what_is_printed_for_a_network_is_found(model, dataset, size, options, expected):
    assert printed(model, dataset, size, **options) == expected


@pytest.mark.parametrize(
    ("model", "dataset", "size", "options"),
    [
        ("atmnet_nano", "imagenet", 224, {}),
        ("atmnet_tiny", "folder", 224, {}),
        ("atmnet_tiny", "imagenet", 384, {}),
        ("atmnet_tiny", "imagenet", 224, {"num_classes": 10}),
        ("resnet50", "imagenet", 224, {}),
        ("semantic_fpn(atmnet_tiny)", "ade20k", 512, {"multi_scale": True}),
        ("semantic_fpn(atmnet_tiny)", "ade20k", 512, {"dim": 64}),
        ("semantic_fpn(atmnet_tiny)", "coco", 512, {}),
        ("upernet(atmnet_large, atmfpn)", "ade20k", 512, {}),
        ("upernet(atmnet_large)", "ade20k", 640, {}),
        ("retinanet(atmnet_tiny)", "coco", 640, {}),
        (
            "retinanet(swin_tiny_patch4_window7_224)",
            "coco",
            800,
            {},
        ),  # only a rival
        ("atmnet_tiny", "imagenet", 224, {"fusion": "paper"}),
        ("atmnet_tiny", "imagenet", 224, {"channels_per_offset": 1}),
        ("atmnet_tiny", "imagenet", 224, {"num_offsets": [64, 128, 320, 512]}),
    ],
)
def test_nothing_is_printed_where_something_does_not_fit(model, dataset, size, options):
    assert printed(model, dataset, size, **options) == {}


def test_options_at_their_usual_values_change_nothing():
    assert printed("atmnet_small", "imagenet", 224, **NETWORK_OPTIONS) == {"Table 1 of the paper": {"top1": "83.1"}}


def test_the_release_is_no_table():
    assert [(one.table, one.label) for one in RELEASED_ROWS] == [(None, "ATMNet-T"), (None, "UperNet-L")]


@pytest.mark.parametrize(
    ("figure", "dataset", "size", "layers", "limit"),
    [
        (3, "ade20k", (512, 512), ("2_1", "3_last"), None),
        (5, "ade20k", (512, 512), ("3_18",), 4),
        (6, "coco", (600, 800), ("2_1", "3_1", "3_last"), None),
        (7, "imagenet", (224, 224), ("2_1", "3_1", "3_last"), 5000),
    ],
)
def test_figures_of_offsets_show_what_the_captions_say(figure, dataset, size, layers, limit):
    preset = FIGURES[figure]
    assert (preset.dataset, preset.size, preset.layers, preset.limit) == (dataset, size, layers, limit)
    assert {number for number in FIGURES} == {3, 5, 6, 7}
