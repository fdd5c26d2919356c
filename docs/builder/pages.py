"""What Sphinx needs beyond the pages: tables of contents, made of the pages' own tables, and the generated pages."""

import re
from pathlib import Path
from typing import Any

from builder import api, commands

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs/generated"
SECTIONS = ("index", "start", "definitions", "commands", "python", "recipes", "results", "design")
"""Pages whose tables list the pages below them."""
MORE = {"commands": ["All options <generated/commands>"], "python": ["API <generated/api>"]}
"""Generated pages, by the page that they are listed below."""
REST = "recipes"
"""The section of all pages that no table lists."""


def listed(text: str) -> dict[str, str]:
    """Return the titles of the pages that the first cells of a page's tables link, by page without suffix."""
    links = re.findall(r"^\| \[([^\]]+)\]\(([^)#]+)\) \|", text, re.MULTILINE)
    pages = [(title, link.replace("gallery/", "generated/gallery/index")) for title, link in links]
    return {re.sub(r"\.(md|ipynb)$", "", page): title for title, page in pages}


def contents(name: str, folder: Path = ROOT / "docs") -> list[str]:
    """Return the entries of a section's table of contents."""
    pages = {each: listed((folder / f"{each}.md").read_text("utf-8")) for each in SECTIONS}
    below = [f"{title} <{page}>" for page, title in pages[name].items()] + MORE.get(name, [])
    if name == REST:
        known = {*SECTIONS, *(page for titles in pages.values() for page in titles)}
        below += sorted(path.stem for path in folder.glob("*.md") if path.stem not in known)
    return below


def add_contents(app: Any, docname: str, source: list[str]) -> None:
    """Add to a section a table of contents, which only the site shows; on the first page, cards replace the table."""
    name = docname.removeprefix("docs/")
    if name in SECTIONS and docname.startswith("docs/"):
        text = source[0].replace("](gallery/)", "](generated/gallery/index.rst)")
        if name == "index":
            text = re.sub(r"(^\|.*\n)+", cards, text, count=1, flags=re.MULTILINE)
        source[0] = "\n".join([text, "```{toctree}", ":hidden:", "", *contents(name), "```", ""])


def cards(table: re.Match[str]) -> str:
    """Return a table of links and texts as a grid of cards."""
    rows = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\) \| (.*) \|$", table[0], re.MULTILINE)
    lines = ["::::{grid} 1 2 2 4", ":gutter: 3"]
    for title, link, text in rows:
        target = re.sub(r"\.(md|rst|ipynb)$", "", link)
        lines += [f":::{{grid-item-card}} {title}", f":link: {target}", ":link-type: doc", "", text, ":::"]
    return "\n".join([*lines, "::::", ""])


def generate() -> None:
    """Write the pages that are made from the sources."""
    GENERATED.mkdir(exist_ok=True, parents=True)
    (GENERATED / "commands.md").write_text(commands.reference(), encoding="utf-8")
    (GENERATED / "api.rst").write_text(api.page(), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect what this module does to Sphinx."""
    from sphinx.ext import autosummary

    autosummary.WELL_KNOWN_ABBREVIATIONS += ("Fig.", "Figs.", "Sec.", "Eq.")  # end no sentence
    app.connect("config-inited", lambda app, config: generate())
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", api.to_rst, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
