"""Tables as LaTeX, with the rules of the package booktabs."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

_MARK = "% table of atmviz; needs \\usepackage{booktabs}"
_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$"},
    **{"×": r"$\times$", "–": "--", "|": r"$|$", "−": "$-$"},
}


def latex_table(table: "DataFrame") -> str:
    """Return a table as a LaTeX `tabular`: numbers right-aligned with four digits, texts escaped."""
    columns = "".join("r" if all(_is_number(value) for value in table[name]) else "l" for name in table)
    header, *rows = (" & ".join(map(_cell, row)) + r" \\" for row in [table.columns, *table.values.tolist()])
    lines = [_MARK, f"\\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule"]
    return "\n".join([*lines, *rows, r"\bottomrule", r"\end{tabular}", ""])


def is_latex_of_others(path: Path) -> bool:
    """Whether a file is LaTeX that `latex_table` did not make."""
    if path.suffix != ".tex":
        return False
    with path.open("rb") as file:
        return not file.read(len(_MARK)).startswith(_MARK.split(";")[0].encode())


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(value: Any) -> str:
    """Return a cell: numbers with four digits, nothing for what is missing, texts escaped."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "$-$")
    return latex_text(value)


def latex_text(value: object) -> str:
    """Return any text as LaTeX that prints it, in one line."""
    text = re.sub(r"[&%$#_{}\\~^<>×–|−]", lambda match: _ESCAPES[match[0]], str(value))
    return " ".join(text.split())
