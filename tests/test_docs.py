"""The pages and what builds them: definitions are complete, scripts draw what README shows, checks find faults."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas
import pytest
from atmviz_cli.app import COMMANDS
from builder import api, check, commands, figures, gallery, pages, start
from matplotlib.figure import Figure

import atmviz
from atmviz.figures.saving import read_about

ROOT = Path(__file__).parents[1]
DEFINED = sorted(ROOT.glob("docs/definitions/*.md"))
SCRIPTS = {path.stem: path.read_text("utf-8") for path in sorted(ROOT.glob("docs/gallery/plot_*.py"))}
STORED = [path for path in sorted(ROOT.glob("assets/figures/*.png")) if read_about(path)]


@pytest.mark.parametrize("page", DEFINED, ids=lambda path: path.stem)
def test_a_definition_has_formula_unit_null_oracle_and_how_to_quote_it(page):
    text = page.read_text("utf-8")
    assert re.findall("^## (.*)", text, re.MULTILINE) == ["Formula", "Unit", "Null", "Oracle", "How to quote"]
    quote = text.partition("## How to quote")[2]
    ids = re.findall(r"`(\w+/\d)`", text.partition("## Unit")[0])
    assert all(each.replace("_", r"\_") in quote.partition("```bibtex")[2] for each in ids)
    assert quote.count("{") == quote.count("}") > 0


def test_every_section_lists_its_pages_and_the_recipes_the_others(tmp_path):
    for name in pages.SECTIONS:
        (tmp_path / f"{name}.md").write_text(f"# {name}\n")
    (tmp_path / "index.md").write_text("| [Start](start.md) | x |\n| [Gallery](gallery/) | y |\n")
    (tmp_path / "report.md").write_text("# Report\n")
    assert pages.contents("index", tmp_path) == ["Start <start>", "Gallery <generated/gallery/index>"]
    assert pages.contents("recipes", tmp_path) == ["report"]


def test_cards_replace_the_table_of_the_first_page_only_on_the_site():
    source = [(ROOT / "docs/index.md").read_text("utf-8")]
    pages.add_contents(None, "docs/index", source)
    assert source[0].count(":::{grid-item-card}") == len(pages.SECTIONS)
    assert "| [Start]" not in source[0]


def test_the_reference_of_commands_has_every_command_and_option():
    text = commands.reference()
    assert {line.split()[2] for line in text.splitlines() if line.startswith("### ")} == set(COMMANDS)
    assert "| `--layer` | text | Layers: 3\\_18" in text
    assert "| `--view` | samples, density, fusion |" in text


def test_every_public_name_is_in_the_reference():
    assert {f"   atmviz.{name}" for name in set(atmviz.__all__) - set(api.ELSEWHERE)} <= set(api.page().splitlines())


def test_docstrings_become_restructured_text():
    lines = ["Draw |x| of 3_*.", "", "Returns:", "    Columns:", "        axis, unit: Which,", "            or both."]
    api.to_rst(None, "", "", None, None, lines)
    assert lines[0] == r"Draw \|x\| of 3\_\*."
    assert lines[3:] == ["    : Columns:", "", "    * **axis, unit**: Which,", "      or both."]


def test_there_are_fifteen_scripts_with_stored_numbers():
    stored = json.loads(gallery.NUMBERS.read_text("utf-8"))
    assert stored.keys() == SCRIPTS.keys()
    assert len(SCRIPTS) >= 15
    assert all(stored.values())


def test_every_stored_figure_is_drawn_by_a_script_and_by_the_command_below_it():
    assert len(STORED) >= 10
    drawn = {name for text in SCRIPTS.values() for name in re.findall(r"^(\w+) = ", text, re.MULTILINE)}
    assert {path.stem for path in STORED} <= drawn
    assert set(figures.commands()) == {str(path.relative_to(ROOT)) for path in STORED}


def test_the_numbers_of_a_variable_are_those_of_its_columns():
    table = pandas.DataFrame({"layer": ["3_1", "3_2"], "share": [0.5, np.nan]})
    assert gallery.plain(table) == {"share": [0.5, None]}
    assert gallery.plain(table.share) == [0.5, None]
    assert gallery.plain(np.arange(100)) == [49.5]
    assert gallery.plain("text") is gallery.plain(table.layer) is None


def test_what_a_figure_draws_are_positions_and_values():
    figure = Figure()
    axes = figure.subplots()
    axes.scatter([0, 2], [1, 3])
    axes.imshow([[1, 2]])
    assert gallery.positions(figure) == {"panel 1": [2, 1, 2, 1.5]}


def test_numbers_that_differ_from_the_stored_ones_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "NUMBERS", tmp_path / "numbers.json")
    monkeypatch.setenv("ATMVIZ_DOCS", "store")
    gallery.check_numbers("plot_x", {"share": [0.5, None], "text": None})
    monkeypatch.delenv("ATMVIZ_DOCS")
    gallery.check_numbers("plot_x", {"share": [0.5001, None]})
    for wrong in ([0.6, None], [0.5], [0.5, 1.0]):
        with pytest.raises(ValueError, match=r"plot_x: share is .*, stored is \[0.5, None\]"):
            gallery.check_numbers("plot_x", {"share": wrong})
    with pytest.raises(ValueError, match="stored is None"):
        gallery.check_numbers("plot_y", {"share": [0.5]})


def test_a_figure_that_differs_from_the_stored_one_is_noticed(tmp_path):
    def drawn(height):
        figure = Figure(figsize=(2, height))
        figure.subplots().bar([0, 1], [1, 2])
        return figure

    drawn(2).savefig(tmp_path / "bars.png")
    gallery.check_figure(tmp_path / "bars.png", drawn(2))
    with pytest.raises(ValueError, match=r"bars.png has \(200, 200\) pixels"):
        gallery.check_figure(tmp_path / "bars.png", drawn(3))
    other = drawn(2)
    other.axes[0].barh([0, 1], [1, 2])
    with pytest.raises(ValueError, match=r"bars.png differs by"):
        gallery.check_figure(tmp_path / "bars.png", other)


def test_the_first_page_has_ten_commands_and_tables_that_are_compared():
    found = start.steps((ROOT / "docs/start.md").read_text("utf-8"))
    lines = [shlex.split(line) for block, _ in found for line in block]
    assert len(lines) == 10
    assert {words[0] for words in lines} == {"atmviz"}
    assert sum(bool(rows) for _, rows in found) >= 4


def test_a_row_of_the_first_page_that_a_command_does_not_print_is_noticed():
    printed = "┃ layer, axis ┃ effect ┃\n│ 3_1 vertical │ -0.05 [-0.08, -0.02] │ lower │\n"
    assert start.differences(["| layer, axis | effect |", "| 3_1 vertical | -0.06 [-0.08, -0.02] |"], printed) == []
    for wrong in ("| 3_7 vertical | -0.05 [-0.08, -0.02] |", "| 3_1 vertical | 0.15 [-0.08, -0.02] |",
                  "| 3_1 vertical | -0.05 [-0.08, -0.02] | higher |", "| 3_1 vertical | -0.05 |"):  # fmt: skip
        assert start.differences([wrong], printed) == [wrong]


def test_faults_of_a_site_are_found(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">x</p><a href="a.html#there">y</a><img src="c.png">')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="https://example.org">3</a>'
        '<script src="https://example.org/x.js"></script><a id="there" href="#there">4</a>'
    )
    assert sorted(check.faults(tmp_path)) == [
        "a.html: b.html#gone names no place of that page",
        "a.html: https://example.org/x.js is fetched from elsewhere",
        "b.html: c.png leads nowhere",
    ]


def test_a_large_site_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "MOST_BYTES", 10)
    (tmp_path / "a.html").write_text("<p>twelve</p>")
    assert check.faults(tmp_path) == ["the site has 13 bytes, expected at most 10"]
