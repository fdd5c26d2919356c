"""The Typer app: it imports each command when it is run, and turns errors into one line on stderr."""

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from atmviz.errors import AtmvizError, LayerNotFoundError, QueryError, SettingsError, reason_of
from atmviz.processes import this_process
from atmviz.signals import on_end_signals, watch

from .examples import EXAMPLES
from .usage import Command, Group, usage_line

# First lines of the commands' docstrings, repeated so that `atmviz --help` need not import the commands
COMMANDS = {
    "overlay": "Draw on an image the tokens that a query token samples (Fig. 5).",
    "histogram": "Draw histograms of the offsets of each layer, horizontal and vertical (Figs. 3, 6, 7).",
    "explore": "Write one web page, for any browser and without a network, in which queries are moved over images.",
    "claims": "Measure the paper's claims about offsets: depth, segment, scale, shape and boundary.",
    "depth": "Draw how far each layer reaches, from the first to the last, beside the untrained network.",
    "adaptivity": "Draw which part of the offsets is constant, position, image and content, by layer and axis.",
    "report": "Write one web page, for any browser and without a network, about what recordings hold.",
    "layers": "List the ATM layers of a model: whose offsets they use, their channels, the size of their maps.",
    "inspect": "Print what a figure, a page, a recording or a checkpoint says of itself.",
    "compare": "Compare the offsets of two recordings, or of two networks on the same images.",
    "record": "Record which tokens every ATM layer fetches, image by image, into a folder that opens without torch.",
    "merge": "Join recordings of the same model and settings into one, in the order given.",
    "cache": "List or remove recordings and compiled kernels that are kept to save time.",
    "data": "Say where the files of public datasets are, and check that yours are complete.",
    "train": "Train a classifier, a segmenter or a detector by a recipe; options override its settings.",
    "eval": "Evaluate a classifier (top-1, top-5), a segmenter (mIoU) or a detector (COCO's AP) on a dataset.",
    "ablate": "Train the ablations of Table 8 and Fig. 2 at a small size, and print them beside the paper's numbers.",
    "intervene": "Measure what learned offsets are worth: evaluate a checkpoint with others in their place.",
    "models": "List the variants with their parameters and FLOPs, beside the numbers of the paper.",
    "complexity": "Count parameters and FLOPs of the networks in the paper's tables, beside the printed numbers.",
    "benchmark": "Time atmviz beside the released code, which samples by torchvision's deform_conv2d.",
    "convert": "Write a checkpoint as a safetensors file under timm's names, or as an ONNX file.",
    "publish": "Write weights, configuration and a model card into a folder, as the Hugging Face Hub expects them.",
    "checkpoints": "Say which released checkpoints are public, where they are, and how to use them.",
}
GROUPS = {
    "Look": ("overlay", "histogram", "explore", "report", "layers", "inspect"),
    "Answers": ("claims", "depth", "adaptivity", "compare", "intervene"),
    "Record": ("record", "merge", "cache", "data"),
    "Train": ("train", "eval", "ablate"),
    "Numbers": ("models", "complexity", "benchmark"),
    "Files": ("convert", "publish", "checkpoints"),
}
START = (
    ("atmviz overlay photo.jpg", "which tokens a query token samples"),
    ("atmviz histogram photos/", "how far each layer looks"),
    ("atmviz checkpoints", "where the released networks are"),
)
_MODULES = {"eval": "evaluate"}  # where module and command have different names
_USAGE_ERRORS = (LayerNotFoundError, QueryError, SettingsError)


def load_command(name: str) -> Any:
    """Import the command of that name."""
    function = _MODULES.get(name, name)
    module = import_module(f".{function}", __package__)
    if (group := getattr(module, "app", None)) is None:
        group = typer.Typer(add_completion=False)
        group.command(cls=Command)(getattr(module, function))
    command = typer.main.get_command(group)
    command.name = name
    # Typer keeps the line ends of a docstring, which do not fit the terminal's width
    paragraphs = (command.help or "").replace("[", "\\[").split("\n\n")  # not rich's markup
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for words, leaf in leaves(name, command).items():
        leaf.epilog = "\n".join(["Examples:", *(f"  {example}" for example in EXAMPLES[words])]).replace("[", "\\[")
    return command


def leaves(name: str, command: Any) -> dict[str, Any]:
    """Return a command, or the commands that it has, by their words."""
    inner = getattr(command, "commands", None)
    return {f"{name} {word}": each for word, each in inner.items()} if inner else {name: command}


class _Commands(Group):
    """Imports a command when it is run; the list of commands comes from `COMMANDS`.

    Errors that the caller can put right end in one line and exit code 2 for usage, 1 for data. Any other exception is
    a bug and keeps its traceback.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else command, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write plain text, because rich's panels would take three times as long as everything else."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        with formatter.section("Start"):
            formatter.write_dl(START)
        self.format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name]) for name in names])

    def make_context(self, *args: Any, **settings: Any) -> Any:
        with _usage_errors_in_one_line():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _usage_errors_in_one_line():
                return super().invoke(ctx)
        except AtmvizError as error:
            _exit(2 if isinstance(error, _USAGE_ERRORS) else 1, str(error))
        except BrokenPipeError:
            raise  # the reader of a pipe left, as `head` does: Typer exits quietly
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                _exit(1, "too few files may be open at once: raise the limit (ulimit -n)")
            path = f" {error.filename}" if error.filename else ""
            _exit(1, f"cannot read or write{path}: {reason_of(error)}; make room there or choose another path")
        except Exception as error:
            # By text, because torch reports a full memory of the CPU as RuntimeError and may not be loaded here
            texts = ("out of memory", "DefaultCPUAllocator", "MemoryError")
            if isinstance(error, MemoryError) or any(text in str(error) for text in texts):
                _exit(1, "out of memory: lower the image size or --batch-size, or use --device cpu")
            raise


@contextmanager
def _usage_errors_in_one_line() -> Iterator[None]:
    """Print Typer's own errors as those of the library."""
    try:
        yield
    except typer.TyperException as error:
        _exit(error.exit_code, usage_line(error))


def _print_line(message: str) -> None:
    from .console import print_line

    print_line(message)


def _exit(code: int, message: str) -> NoReturn:
    _print_line(f"error: {message}")
    sys.exit(code)


app = typer.Typer(
    cls=_Commands,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from atmviz.files import SOFTWARE

        typer.echo(SOFTWARE)
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See where ATMNet looks: which tokens each channel fetches, how far and in which direction."""


def _end(by: signal.Signals) -> NoReturn:
    """Exit on a signal through `sys.exit`, so that temporary files are removed."""
    if this_process().world > 1:
        _print_line(f"stopped by {by.name}, which torchrun sends where another process of the run has ended")
    sys.exit(128 + by)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a character that the encoding lacks becomes ?
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.showwarning = lambda message, *_: _print_line(f"warning: {message}")  # without the source line
    on_end_signals(_end)
    watch(_print_line)
    try:
        os.getcwd()
    except OSError:
        _exit(1, "the working folder is gone: change to an existing one")
    app(prog_name="atmviz")
