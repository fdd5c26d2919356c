"""`atmviz report`: one page about recordings, or a paragraph on methods."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import CONSOLE, import_matplotlib, print_json, print_paths, waiting


def report(
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="Recordings, shown side by side.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page, a file ending in .html.", rich_help_panel="Output")
    ] = Path("report.html"),
    methods: Annotated[
        bool,
        typer.Option("--methods", help="Print a paragraph on methods and the references, in LaTeX, and write no page."),
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Write one web page, for any browser and without a network, about what recordings hold.

    It says what was captured and what not, and shows figures, claims with intervals, provenance and methods.
    """
    if methods:
        from atmviz.reports.methods import methods_text
        from atmviz.reports.reporting import open_all

        text = methods_text(open_all(recordings))
        if as_json:
            print_json({"methods": text})
        else:
            typer.echo(text, nl=False)
        return
    with waiting("drawing"):
        import_matplotlib()
        from atmviz.explorer.page import require_page
        from atmviz.reports import report as make_report

        require_page(out)
        page = make_report(recordings, events=CONSOLE)
    page.save(out)
    if as_json:
        print_json({"files": [str(out)], **page.numbers})
    else:
        print_paths([out])
