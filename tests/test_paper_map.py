"""docs/paper_map.md names files and objects that exist, and every equation, figure and table of the paper."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = ROOT.joinpath("docs/paper_map.md").read_text("utf-8")
ROWS = re.findall(r"^\| ((?:Eq|Fig|Table|Sec)[^|]*) \| [^|]* \| `([^`|]+)` \| (?:`([^`|]+)`)? ?\|$", TEXT, re.M)


def test_every_row_has_a_file():
    assert len(ROWS) == len(re.findall(r"^\| (?:Eq\. |Fig\. |Table \d|Sec\. )", TEXT, re.M)) > 50


@pytest.mark.parametrize(("item", "path", "name"), ROWS)
def test_files_and_names_exist(item, path, name):
    assert ROOT.joinpath(path).is_file()
    if name:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert reduce(getattr, name.split("."), module) is not None


@pytest.mark.parametrize(
    "items",
    [
        [f"Eq. ({number})" for number in range(1, 7)],
        [f"Fig. {number}" for number in range(1, 8)],
        [f"Table {number}" for number in range(1, 11)],
    ],
)
def test_nothing_of_the_paper_is_missing(items):
    kind = items[0].split()[0]
    assert sorted({item for item, _, _ in ROWS if item.startswith(kind)}) == sorted(items)


def test_other_files_that_are_mentioned_exist():
    for path in re.findall(r"`((?:atmviz|tests|docs)/[^`]+)`", TEXT):
        assert ROOT.joinpath(path).is_file(), path
