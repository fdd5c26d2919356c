"""Tables in LaTeX: rules of booktabs, numbers to the right, texts escaped."""

import math

import pandas
import pytest

from atmviz.views.latex import is_latex_of_others, latex_table


def test_a_table_has_rules_and_columns_by_kind():
    table = pandas.DataFrame({"layer": ["3_1", "4_1"], "share": [0.123456, math.nan], "n": [1200000, 3]})
    assert latex_table(table).splitlines() == [
        r"% table of atmviz; needs \usepackage{booktabs}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"layer & share & n \\",
        r"\midrule",
        r"3\_1 & 0.1235 & 1200000 \\",
        r"4\_1 &  & 3 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50 % & more", r"50 \% \& more"),
        (r"a\b{c}", r"a\textbackslash{}b\{c\}"),
        ("<0.001", "$<$0.001"),
        ("two\nlines", "two lines"),
        ("~^#$_", r"\textasciitilde{}\textasciicircum{}\#\$\_"),
    ],
)
def test_signs_of_latex_are_escaped(text, written):
    assert f"\n{written} \\\\\n" in latex_table(pandas.DataFrame({"name": [text]}))


def test_a_minus_is_a_minus():
    assert "\n$-$1.5 \\\\\n" in latex_table(pandas.DataFrame({"value": [-1.5]}))


def test_tables_of_others_are_told_apart(tmp_path):
    ours, paper = tmp_path / "ours.tex", tmp_path / "paper.tex"
    ours.write_text(latex_table(pandas.DataFrame({"a": [1]})))
    paper.write_text(r"\documentclass{article}")
    assert [is_latex_of_others(path) for path in (ours, paper)] == [False, True]
