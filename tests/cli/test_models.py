"""`atmviz models`: the variants beside the paper's Table 1."""

import json

import pytest

from atmviz.variants import VARIANTS

# Parameters in millions, FLOPs in G at 224 x 224, top-1 in %, as printed.
PAPER = {
    "atmnet_xtiny": ("15", "2.2", "79.7"),
    "atmnet_tiny": ("27", "4.0", "82.0"),
    "atmnet_small": ("39", "6.9", "83.1"),
    "atmnet_base": ("52", "10.1", "83.5"),
    "atmnet_large": ("76", "12.3", "83.8"),
}


@pytest.fixture
def two_variants(monkeypatch):
    """Counting all takes seconds; tests/test_paper_numbers.py does."""
    two = {name: VARIANTS[name] for name in ("atmnet_nano", "atmnet_xtiny")}
    monkeypatch.setattr("atmviz.complexity.VARIANTS", two)


@pytest.mark.usefixtures("two_variants")
def test_json_puts_what_is_counted_beside_the_paper(succeed):
    nano, xtiny = json.loads(succeed("models", "--json").stdout)
    assert (nano["model"], nano["paper"]) == ("atmnet_nano", None)
    assert (xtiny["model"], xtiny["params"]) == ("atmnet_xtiny", 15_349_128)
    assert xtiny["flops"] / 1e9 == pytest.approx(2.2, abs=0.05)
    assert (xtiny["paper"]["params_m"], xtiny["paper"]["flops_g"], xtiny["paper"]["top1"]) == (15, 2.2, 79.7)
    assert (xtiny["depths"], xtiny["dims"]) == ([2, 2, 4, 2], [64, 128, 320, 512])


def test_the_table_has_a_row_per_variant_and_the_numbers_of_the_paper(succeed, monkeypatch):
    monkeypatch.setattr("atmviz.complexity.count_parameters", lambda _: 12_345_678)
    monkeypatch.setattr("atmviz.complexity.count_flops", lambda *_: 9_876_543_210)
    table = succeed("models").stdout.splitlines()
    for name, paper in {"atmnet_nano": ("–", "–", "–"), **PAPER}.items():
        (line,) = (line for line in table if name in line)
        _, _, params, paper_params, flops, paper_flops, top1 = line.replace("│", " ").split()
        assert (params, flops) == ("12.346", "9.877")
        assert (paper_params, paper_flops, top1) == paper
