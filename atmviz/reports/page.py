"""The markup of a report: texts of any origin are escaped, and nothing is asked for. Torch-free."""

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING

from atmviz.errors import printable
from atmviz.explorer.page import content_policy, fill
from atmviz.files import SOFTWARE
from atmviz.reports.captured import Missing
from atmviz.reports.drawing import Shown

if TYPE_CHECKING:
    from pandas import DataFrame

_MAX_ROWS = 120  # of a table below a figure


def escape(text: object) -> str:
    """Return any text as markup that shows it."""
    return html.escape(printable(str(text)))


def table(label: str, headings: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> str:
    """Return a table that scrolls where it is wider than the page.

    Args:
        label: What it shows, for screen readers.
        headings: Of its columns.
        rows: Cells; the first of each is a heading.
        texts: Number of columns, from the left, that are left-aligned.
    """
    kinds = ["t" if k < texts else "n" for k in range(len(headings))]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(cell)}</th>' for kind, cell in zip(kinds, headings, strict=True)
    )
    body = []
    for first, *others in rows:
        cells = "".join(f'<td class="{kind}">{escape(cell)}</td>' for kind, cell in zip(kinds[1:], others, strict=True))
        body.append(f'<tr><th scope="row" class="t">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def facts(label: str, letters: Sequence[str], columns: Sequence[Mapping[str, str]]) -> str:
    """Return texts by their names as a table, one column for each recording."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    return table(
        f"{label}, as a table", ["entry", *(letters if len(letters) > 1 else ["value"])], rows, texts=1 + len(columns)
    )


def missing_list(items: Sequence[tuple[str, Missing]]) -> str:
    """Return what cannot be answered, each with its recording's letter, reason and command."""
    lines = []
    for letter, item in items:
        command = f"<pre><code>{escape(item.line)}</code></pre>" if item.command else ""
        of = f"{escape(letter)}: " if letter else ""
        lines.append(f"<li>{of}<strong>{escape(item.question)}</strong> {escape(item.why)}.{command}</li>")
    return f"<ul>{''.join(lines)}</ul>" if lines else "<p>Nothing that this page could show is missing.</p>"


def figures_markup(shown: Sequence[Shown]) -> str:
    """Return figures below the heading of their kind, side by side where there is room."""
    parts, number = [], 0
    for kind in dict.fromkeys(each.kind.name for each in shown):
        figures = []
        for each in (each for each in shown if each.kind.name == kind):
            number += 1
            of = f" {each.letters}:" if each.letters else ""
            caption = f"<strong>Figure {number}.{escape(of)}</strong> {escape(each.caption)}"
            alt = escape(f"{kind}{of} {each.caption}")
            figures.append(
                f'<figure><img src="{each.picture()}" alt="{alt}"><figcaption>{caption}</figcaption>'
                f"{_numbers(each, number)}</figure>"
            )
        many = " many" if len(figures) > 1 else ""
        figures_ = f'<div class="figures">{"".join(figures)}</div>'
        parts.append(f'<div class="kind{many}"><h3>{escape(kind)}</h3>{figures_}</div>')
    return f'<div class="kinds">{"".join(parts)}</div>'


def _numbers(shown: Shown, number: int) -> str:
    """Return the table of a figure, folded; nothing where it is long or stands on the page elsewhere."""
    drawn = shown.drawn
    data = drawn.table if drawn.printed is None else drawn.printed
    if data is None or len(data) > _MAX_ROWS or shown.kind.name == "Claims":
        return ""
    label = f"Numbers of figure {number}"
    return f"<details><summary>{label}</summary>{data_table(label, data)}</details>"


def data_table(label: str, data: "DataFrame") -> str:
    """Return a table of data: texts as they are, numbers with four digits, nothing for what is missing."""
    texts = next(
        (k for k, name in enumerate(data) if data[name].dtype.kind in "fi" or name in _NUMBERS), len(data.columns)
    )
    rows = [[_cell(value) for value in row] for row in data.values.tolist()]
    return table(label, list(data), rows, max(1, texts))


_NUMBERS = ("estimate", "effect", "difference", "constant")  # columns of printed tables that hold numbers as texts


def claims_markup(data: "DataFrame") -> str:
    """Return a table for each measure, from a table with columns `measure`, `layer` and `axis`."""
    parts = []
    for measure, rows in data.groupby("measure", sort=False):
        places = (rows["layer"] + " " + rows["axis"]).rename("layer, axis")
        cells = rows.drop(columns=["measure", "layer", "axis"])
        body = zip(places, *(cells[name] for name in cells), strict=True)
        rows_ = table(str(measure), ["layer, axis", *cells], body)
        parts.append(f'<h3>{escape(measure)}</h3><div class="place">{rows_}</div>')
    return "".join(parts)


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def assemble(title: str, about: str, sections: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        title, about: Texts at its head.
        sections: Markup by heading.
    """
    folder = resources.files("atmviz.reports")
    style, inner = (folder.joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "html"))
    ids = [f"part-{k}" for k in range(1, len(sections) + 1)]
    links = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in zip(ids, sections, strict=True))
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(name)}</h2>{markup}</section>'
        for key, (name, markup) in zip(ids, sections.items(), strict=True)
    )
    parts = {"policy": content_policy(style, "img-src data:; "), "generator": SOFTWARE, "style": style}
    return fill(inner, {**parts, "title": escape(title), "about": escape(about), "links": links, "body": body})
