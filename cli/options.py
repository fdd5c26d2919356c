"""Options that several commands share, and options made from the settings of the library."""

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from atmviz.choices import DEFAULT_MODEL as DEFAULT_MODEL
from atmviz.geometry import parse_size as parse_size
from atmviz.settings import settings_of

_DATA, _MODEL, _OUTPUT = "Data", "Model", "Output"

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", "--data-path", help="Its folder; else $ATMVIZ_DATA, else ./data.", rich_help_panel=_DATA
    ),
]
Weights = Annotated[
    Literal["ema", "model"] | None,
    typer.Option("--weights", help="Which weights; averaged ones (ema) if the file has them.", rich_help_panel=_MODEL),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_MODEL)]
BatchSize = Annotated[
    int, typer.Option("--batch-size", "-b", min=1, help="Images per forward pass.", rich_help_panel=_MODEL)
]
Size = Annotated[
    str | None,
    typer.Option("--size", help="Input size in px: 224, or HEIGHTxWIDTH as in 600x800.", rich_help_panel=_DATA),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the results as one JSON object.", rich_help_panel=_OUTPUT)
]
Format = Annotated[
    str,
    typer.Option("--format", help="png, pdf, svg, or several with commas.", rich_help_panel=_OUTPUT),
]
FigureFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for the figure and its data.", rich_help_panel=_OUTPUT)
]


def with_settings(
    *kinds: type, without: tuple[str, ...] = (), overriding: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of settings dataclasses, in place of its `**settings`.

    The command receives None for each option that the command line does not name.

    Args:
        kinds: Dataclasses declared with `atmviz.settings.setting`.
        without: Fields that get no option.
        overriding: The options change settings read from elsewhere, so that no default is shown and switches can be
            turned off too.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [p for p in inspect.signature(command).parameters.values() if p.kind != p.VAR_KEYWORD]
        for settings in kinds:
            hints = get_type_hints(settings)
            for declared in settings_of(settings, without):
                hint: Any = hints[declared.name]
                kind = _option_type(hint)
                if kind is float and declared.metadata["read"]:
                    kind = str  # a number with a unit
                annotation: Any = Annotated[kind | None, _option(declared, hint, overriding)]
                parameters.append(
                    inspect.Parameter(
                        declared.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                    )
                )
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the command line names."""
    return {name: value for name, value in settings.items() if value is not None}


def _option(declared: Any, hint: Any, overriding: bool) -> Any:
    """Return the option of one field: a switch for a bool, a range where the field has one."""
    about, default = declared.metadata, declared.default
    flags = list(about["flags"])
    if hint is bool and not overriding:
        flags = flags or [f"--{declared.name.replace('_', '-')}"]
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    show_default = False if overriding or default in (None, False, ()) else shown
    ranged = not overriding and not about["read"] and _option_type(hint) in (int, float)
    limits = {"min": about["low"], "max": about["high"]} if ranged else {}
    return typer.Option(*flags, help=about["help"], rich_help_panel=about["panel"], show_default=show_default, **limits)


def _option_type(hint: Any) -> Any:
    """Return the type that Typer reads: several texts for tuple[str, ...], one text for other tuples, else the hint."""
    if get_origin(hint) in (types.UnionType, Union):  # X | None -> X; of several types the first
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return list[str] if get_args(hint) == (str, ...) else str
    return hint if get_origin(hint) is Literal or isinstance(hint, type) else str


def parse_formats(text: str) -> list[str]:
    """Return `png,pdf` as ["png", "pdf"]; raise a usage error for anything else."""
    formats = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if unknown := [kind for kind in formats if kind not in ("png", "pdf", "svg")]:
        raise typer.BadParameter(f"got format {unknown[0]!r}, expected png, pdf or svg, several with commas")
    return formats
