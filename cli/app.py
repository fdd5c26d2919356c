"""The Typer app: its commands, and the one place where errors become a line on stderr."""

import io
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from atmviz.errors import AtmvizError, LayerNotFoundError, QueryError

from . import (
    ablate,
    benchmark,
    complexity,
    convert,
    data,
    evaluate,
    histogram,
    layers,
    merge,
    models,
    overlay,
    record,
    train,
)
from .console import complain

_USAGE_ERRORS = (LayerNotFoundError, QueryError)


class _ErrorBoundary(TyperGroup):
    """What the caller can put right: one line, exit code 2 for usage, 1 for data. Anything else is a bug and shows."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AtmvizError as error:
            complain(f"error: {error}")
            sys.exit(2 if isinstance(error, _USAGE_ERRORS) else 1)
        except BrokenPipeError:
            raise  # the reader of a pipe left, as `head` does: Typer exits quietly
        except OSError as error:
            place = f" {error.filename}" if error.filename else ""
            reason = error.strerror or error
            complain(f"error: cannot read or write{place}: {reason}; make room there or choose another place")
            sys.exit(1)
        except Exception as error:
            # torch's own errors by what they say: torch itself may not be loaded
            lacking = ("out of memory", "DefaultCPUAllocator")
            if not isinstance(error, MemoryError) and not any(text in str(error) for text in lacking):
                raise
            complain("error: out of memory: lower the image size or --batch-size, or use --device cpu")
            sys.exit(1)


app = typer.Typer(
    cls=_ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atmviz {version('atmviz')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See where ATMNet looks: which tokens each channel fetches, how far and in which direction."""


app.command("histogram")(histogram.histogram)
app.command("overlay")(overlay.overlay)
app.command("record")(record.record)
app.command("merge")(merge.merge)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("ablate")(ablate.ablate)
app.command("layers")(layers.layers)
app.command("models")(models.models)
app.command("complexity")(complexity.complexity)
app.command("benchmark")(benchmark.benchmark)
app.command("convert")(convert.convert)
app.add_typer(data.app, name="data")


def main() -> None:
    for stream in (sys.stdout, sys.stderr):  # where the terminal's encoding lacks a sign, a ? and no traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="atmviz")
