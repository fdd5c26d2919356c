"""`atmviz complexity`: what is counted, beside what is printed."""

import csv
import io
import json

import pytest
import torch

from atmviz.paper import PAPER_ROWS, table_rows


def test_without_options_it_counts_table_1(succeed):
    rows = json.loads(succeed("complexity", "--json").stdout)
    counted = [(row["row"], row["params_match"], row["flops_match"]) for row in rows if row["model"]]
    assert counted == [
        *((f"ATMNet-{size}", True, True) for size in ("xT", "T", "S", "B")),
        ("ATMNet-L", True, False),
        ("ATMNet-L†", True, True),
    ]
    (swin,) = (row for row in rows if row["row"] == "Swin-T")
    assert [swin[name] for name in ("model", "params", "params_match", "flops", "flops_match")] == [None] * 5
    assert [swin[f"paper_{name}"] for name in ("params_m", "flops_g", "top1")] == ["29", "4.6", "81.2"]


@pytest.fixture
def quick(monkeypatch):
    """Each network is counted as a linear layer: nothing is built."""
    monkeypatch.setattr("atmviz.complexity.create_meta", lambda *args, **config: torch.nn.Linear(9, 9))
    monkeypatch.setattr("atmviz.complexity.count_flops", lambda *args: 1_234_567_891_000)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("table", "rivals"), [(1, 44), (2, 15), (3, 15), (4, 8), (5, 11), (6, 8), (7, 0), (8, 0)])
def test_every_row_of_a_table_fits_80_columns(succeed, monkeypatch, table, rivals):
    monkeypatch.setenv("COLUMNS", "80")
    text = succeed("complexity", "--table", str(table)).stdout
    for row in table_rows(table):
        lines = [line for line in text.splitlines() if line.startswith(f"│ {row.label} ")]
        assert len(lines) == 1
        assert len(lines[0]) <= 80
        assert "…" not in lines[0]
        assert ("1234.568" in lines[0]) == (row.architecture is not None)
        shown = [value for name, value in row.accuracies.items() if value and "ap50" not in name and "ap75" not in name]
        assert all(f" {value} " in lines[0] for value in shown[:1])
    assert (f"{rivals} other networks" in text) == (rivals > 0)
    assert "accuracies are the paper's" in text


def test_each_cell_is_marked_and_a_miss_says_why(succeed):
    text = succeed("complexity", "--table", "8").stdout
    assert "3.890 ✓" in text
    assert "3.924 ✗" in text
    assert "2 of 3 cells as printed" in text
    assert "offsets made once per stage" in text


def test_markdown_and_csv_hold_the_same_numbers(succeed):
    markdown = succeed("complexity", "--table", "8", "--format", "md").stdout
    assert "| 3: ATMNet | 27.152 | 3.972 | 3.972 ✓ | 82.0 | 43.6 | 45.8 |" in markdown.splitlines()
    rows = list(csv.DictReader(io.StringIO(succeed("complexity", "--table", "8", "--format", "csv").stdout)))
    assert [(row["flops"], row["paper_flops_g"], row["flops_match"], row["paper_miou"]) for row in rows][-1] == (
        "3971552256",
        "3.972",
        "True",
        "45.8",
    )


@pytest.mark.usefixtures("quick")
def test_markdown_csv_and_json_have_every_accuracy(succeed):
    arguments = ("complexity", "--table", "4", "--table", "1")
    markdown = succeed(*arguments, "--format", "md").stdout.splitlines()
    (large,) = (line for line in markdown if line.startswith("| ATMNet-L |") and "405" in line)
    assert large.endswith("| 46.1 | 67.4 | 49.4 | 29.9 | 50.1 | 61.0 | 48.1 | 69.5 | 51.8 | 31.7 | 52.1 | 63.0 |")
    assert "| Twins-L | – | 111 | – | 528 | 45.7 | 67.1 | 49.2 | – | – | – | – | – | – | – | – | – |" in markdown
    rows = list(csv.DictReader(io.StringIO(succeed(*arguments, "--format", "csv").stdout)))
    found = json.loads(succeed(*arguments, "--json").stdout)
    assert len(rows) == len(found) == 50 + 13
    for row, same in zip(rows, found, strict=True):
        assert {name: row[name] for name in same if name.startswith("paper_")} == {
            name: value or "" for name, value in same.items() if name.startswith("paper_")
        }
    assert (rows[0]["paper_top1"], rows[0]["paper_box_ap_1x"]) == ("69.8", "")
    assert (rows[-1]["paper_top1"], rows[-1]["paper_box_ap_large_3x"]) == ("", "63.0")


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (
            ["--num-samples", "3", "--channels-per-offset", "1"],
            {"num_samples": 3, "channels_per_offset": 1, "flops": 3_238_466_048},
        ),
        (
            ["--offset-mode", "joint", "--channels-per-offset", "1"],
            {"offset_mode": "joint", "channels_per_offset": 1, "flops": 2_136_758_784},
        ),
        (["--fusion", "paper", "--no-peg"], {"fusion": "paper", "peg": False}),
    ],
)
def test_other_networks_are_counted_by_their_settings(succeed, settings, shown):
    (row,) = json.loads(succeed("complexity", "-m", "atmnet_xtiny", *settings, "--json").stdout)
    assert {name: row[name] for name in shown} == shown


@pytest.mark.parametrize(
    ("arguments", "model", "size"),
    [
        (["--model", "atmnet_nano"], "atmnet_nano", [224, 224]),
        (["--model", "atmnet_nano", "--head", "semantic_fpn"], "semantic_fpn(atmnet_nano)", [512, 512]),
        (
            ["--model", "retinanet(atmnet_nano)", "--neck", "atmfpn", "--size", "96x64"],
            "retinanet(atmnet_nano, atmfpn)",
            [96, 64],
        ),
    ],
)
def test_any_model_is_counted(succeed, arguments, model, size):
    (row,) = json.loads(succeed("complexity", *arguments, "--json").stdout)
    assert (row["model"], row["size"]) == (model, size)
    assert row["params"] > 1e6
    assert row["flops"] > 1e6
    assert model in succeed("complexity", *arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "atmnet_huge"], 2, "no model atmnet_huge: expected one of atmnet_nano"),
        (["--model", "resnet_huge"], 2, "Unknown model"),
        (["--model", "fcn(atmnet_tiny)"], 2, "expected a head of semantic_fpn"),
        (["--model", "vit_tiny_patch16_224", "--head", "mask_rcnn"], 2, "expected a backbone with 4, 8, 16, 32"),
        (["--model", "atmnet_nano", "--neck", "atmfpn"], 2, "--head too"),
        (["--neck", "atmfpn"], 2, "--model"),
        (["--channels-per-offset", "1"], 2, "--model"),
        (["--model", "atmnet_xtiny", "--channels-per-offset", "7"], 2, "expected a divisor of each"),
        (["--model", "atmnet_xtiny", "--fusion", "pixel"], 2, "expected image, token or paper"),
        (["-m", "semantic_fpn(atmnet_nano)", "--head", "upernet"], 2, "expected one of them"),
        (["--model", "atmnet_nano", "--table", "1"], 2, "one of them"),
        (["--table", "9"], 2, "got --table 9, expected a whole number, 1 or more, at most 8"),
    ],
)
def test_what_cannot_be_counted_is_one_line(refuse, arguments, code, message):
    refuse(code, message, "complexity", *arguments)


def test_every_cell_that_is_counted_here_is_there():
    cells = [(row.table, bool(row.params_m), bool(row.flops_g)) for row in PAPER_ROWS if row.architecture]
    counts = {table: sum(params + flops for t, params, flops in cells if t == table) for table in range(1, 9)}
    assert counts == {1: 12, 2: 10, 3: 10, 4: 10, 5: 10, 6: 10, 7: 16, 8: 3}
