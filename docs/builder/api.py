"""The reference of the library's names, and their docstrings as reStructuredText."""

import re
from typing import Any

GROUPS = {
    "Figures": ("overlay", "histogram", "depth", "claims", "adaptivity", "compare", "intervene", "explore"),
    "Tables": (
        *("histogram_table", "depth_table", "claims_table", "adaptivity_table", "compare_table", "object_table"),
        "offset_histogram",
    ),
    "Recordings": ("record", "open_recording", "merge_recordings", "recording.store.Recording", "inspect", "report"),
    "Networks": ("load_model", "convert_checkpoint", "publish", "find_sites", "observing", "observe.Site"),
    "Training and evaluation": ("train", "evaluate"),
    "What calls take and return": (
        *("FigureStyle", "Preprocessing", "LayerId", "Quantity", "AtmvizError"),
        *(
            "events.Events",
            "events.NotebookLine",
            "views.DrawnFigure",
            "views.draw_moving",
            "explorer.page.Explorer",
            "statistics.OffsetHistogram",
        ),
    ),
}
ELSEWHERE = ("create_model", "QUANTITIES")
"""Names that need no page: timm's function, and a tuple that docs/recording.md lists."""


def page() -> str:
    """Return the page of the library's names, grouped by what they are for; names of no group come last."""
    import atmviz

    known = {name for names in GROUPS.values() for name in names}
    more = tuple(name for name in sorted(atmviz.__all__) if name not in {*known, *ELSEWHERE})
    lines = ["API", "===", "", "Each name has its types, shapes and units. Names load what they need on first use.", ""]
    for title, names in {**GROUPS, **({"More": more} if more else {})}.items():
        lines += [title, "-" * len(title), "", ".. autosummary::", "   :toctree: api", ""]
        lines += [*(f"   atmviz.{name}" for name in names), ""]
    return "\n".join(lines)


def to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what means something else to docutils, and turn described columns into lists."""
    signs = re.compile(r"(?<!`)(?:\*+|\||(?<=\w)_(?=\W|$))(?![^`]*``)")
    escaped = [signs.sub(lambda found: "\\" + "\\".join(found[0]), line) for line in lines]
    for before, (number, line) in zip(["", *escaped], enumerate(escaped), strict=False):
        if before.strip() == "Returns:":  # what stands before a colon is no type
            escaped[number] = re.sub(r"^ +", r"\g<0>: ", line)
    lines[:] = as_lists(escaped)


def as_lists(lines: list[str]) -> list[str]:
    """Return lines in which `name: text` below a line that ends in a colon is an item of a list.

    >>> as_lists(["Returns:", "    Columns:", "        axis: Which,", "            horizontal or vertical."])[2:]
    ['', '    * **axis**: Which,', '      horizontal or vertical.']
    """
    out: list[str] = []
    depth = -1  # indent of the items of a list
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth >= 0 and line.strip() and indent < depth:
            depth = -1
        if depth < 0 and out and re.match(r" {4,}\S.*:$", out[-1]) and indent > len(out[-1]) - len(out[-1].lstrip()):
            depth = indent
            out.append("")
        if depth >= 0 and line.strip():
            item = re.match(r"([\w, ]+): (.*)", line.strip()) if indent == depth else None
            line = " " * (depth - 4) + (f"* **{item[1]}**: {item[2]}" if item else f"  {line.strip()}")
        out.append(line)
    return out
