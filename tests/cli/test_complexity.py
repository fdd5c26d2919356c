"""`atmviz complexity`: what is counted, beside what is printed."""

import csv
import io
import json

import pytest

from atmviz.paper import PAPER_ROWS


def test_without_options_it_counts_table_1(succeed):
    rows = json.loads(succeed("complexity", "--json").stdout)
    assert [(row["row"], row["params_match"], row["flops_match"]) for row in rows] == [
        *((label, True, True) for label in ("xT", "T", "S", "B")),
        ("L", True, False),
        ("L, 384×384", True, True),
    ]


def test_each_cell_is_marked_and_a_miss_says_why(succeed):
    text = succeed("complexity", "--table", "8").stdout
    assert "3.890 ✓" in text
    assert "3.924 ✗" in text
    assert "2 of 3 cells as printed" in text
    assert "offsets made once per stage" in text


def test_markdown_and_csv_hold_the_same_numbers(succeed):
    markdown = succeed("complexity", "--table", "8", "--format", "md").stdout
    assert "| 3: ATMNet | 27.152 | – | 3.972 | 3.972 ✓ |" in markdown.splitlines()
    rows = list(csv.DictReader(io.StringIO(succeed("complexity", "--table", "8", "--format", "csv").stdout)))
    assert [(row["flops"], row["paper_flops_g"], row["flops_match"]) for row in rows][-1] == (
        "3971552256",
        "3.972",
        "True",
    )


@pytest.mark.parametrize(
    ("arguments", "model", "size"),
    [
        (["--model", "atmnet_nano"], "atmnet_nano", [224, 224]),
        (["--model", "atmnet_nano", "--framework", "semantic_fpn"], "semantic_fpn(atmnet_nano)", [512, 512]),
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
        (["--model", "atmnet_huge"], 1, "Unknown model"),
        (["--model", "fcn(atmnet_tiny)"], 1, "expected a framework of semantic_fpn"),
        (["--model", "vit_tiny_patch16_224", "--framework", "mask_rcnn"], 1, "expected a backbone with 4, 8, 16, 32"),
        (["--model", "atmnet_nano", "--neck", "atmfpn"], 2, "--framework too"),
        (["--neck", "atmfpn"], 2, "--model"),
        (["-m", "semantic_fpn(atmnet_nano)", "--framework", "upernet"], 2, "expected one of them"),
        (["--model", "atmnet_nano", "--table", "1"], 2, "one of them"),
        (["--table", "9"], 2, "less than or equal to 8"),
    ],
)
def test_what_cannot_be_counted_is_one_line(refuse, arguments, code, message):
    refuse(code, message, "complexity", *arguments)


def test_every_cell_of_the_paper_is_there():
    cells = [(row.table, bool(row.params_m), bool(row.flops_g)) for row in PAPER_ROWS]
    counts = {table: sum(params + flops for t, params, flops in cells if t == table) for table in range(1, 9)}
    assert counts == {1: 12, 2: 10, 3: 10, 4: 10, 5: 10, 6: 10, 7: 16, 8: 3}
