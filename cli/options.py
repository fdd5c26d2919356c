"""Options made from the settings of the library, and options that several commands share."""

import functools
import inspect
import shlex
import sys
import types
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from atmviz.choices import DEFAULT_MODEL as DEFAULT_MODEL
from atmviz.choices import DataChoice, ModelChoice
from atmviz.geometry import parse_size as parse_size
from atmviz.paper import FIGURES
from atmviz.recording.array_files import is_recording
from atmviz.settings import settings_of
from atmviz.views.settings import OverlaySettings, is_clip

from . import completion


def with_settings(
    *kinds: type,
    only: Container[str] = (),
    without: tuple[str, ...] = (),
    overriding: bool = False,
    recordings: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of settings dataclasses, in place of its `**settings`.

    The command receives None for each option that the command line does not name. What can be known to be wrong
    without torch or matplotlib, which take seconds to load, is refused before the command is called.

    Args:
        kinds: Dataclasses declared with `atmviz.settings.setting`.
        only: Fields that get an option; without names, all of them.
        without: Fields that get no option.
        overriding: The options change settings read from elsewhere, so that no default is shown and switches can be
            turned off too.
        recordings: The sources may be a recording.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [p for p in inspect.signature(command).parameters.values() if p.kind != p.VAR_KEYWORD]
        for kind in kinds:
            for name in (declared.name for declared in settings_of(kind, without)):
                if not only or name in only:
                    hint: Any = Annotated[_option_type(kind, name) | None, option_of(kind, name, overriding)]
                    option = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
                    parameters.append(option)

        @functools.wraps(command)
        def checked(**values: Any) -> None:
            if not overriding:
                _check(kinds, without, values, recordings)
            command(**values)

        checked.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        checked.__annotations__ = {p.name: p.annotation for p in parameters}
        return checked

    return decorate


def _check(kinds: tuple[type, ...], without: tuple[str, ...], values: dict[str, Any], recordings: bool) -> None:
    """Make settings of the values, and check that the files that they name are there."""
    sources, layers = values.get("sources"), values.get("layers") or ()
    recording = next((path for path in sources or () if recordings and is_recording(Path(path))), None)
    is_clips = OverlaySettings in kinds and any(is_clip(path) and Path(path).exists() for path in sources or ())
    for kind in kinds:
        settings = kind(
            **given({name: values.get(name) for name in (each.name for each in settings_of(kind, without))})
        )
        if isinstance(settings, DataChoice) and not recording and not is_clips:
            preset = None if sources or settings.dataset else FIGURES.get(values.get("figure") or 0)
            (replace(settings, dataset=preset.dataset) if preset else settings).require(sources)  # type: ignore[arg-type]
        if isinstance(settings, ModelChoice):
            settings.require(() if recording else layers)
        if require_queries := getattr(settings, "require_queries", None):
            require_queries(sources or ())
    if recording and layers:
        from atmviz.recording.store import open_recording
        from atmviz.statistics.histogram import choose_layers

        choose_layers(open_recording(recording), layers)


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the command line names."""
    return {name: value for name, value in settings.items() if value is not None}


def option_of(kind: type, name: str, overriding: bool = False) -> Any:
    """Return the option of a field of a settings dataclass: a switch for a bool, a range where the field has one."""
    (declared,) = (declared for declared in settings_of(kind) if declared.name == name)
    about, default = declared.metadata, declared.default
    value_type = _option_type(kind, name)
    flags = about["flags"] or (() if value_type is bool and overriding else (f"--{name.replace('_', '-')}",))
    help_ = about["help"]
    choices = get_args(value_type) if get_origin(value_type) is Literal else ()
    is_wide = len("|".join(choices)) > 16  # on 80 columns, a wide type would cut the names of the options
    if is_wide and not all(choice in help_ for choice in choices):
        help_ += f" One of {', '.join(choices)}."
    if not overriding and str(default) not in ("None", "False", "()"):
        help_ += f" \\[default: {','.join(default) if isinstance(default, tuple) else default}]"  # not rich's markup
    limits = {"min": about["low"], "max": about["high"]} if value_type in (int, float) and not overriding else {}
    return typer.Option(
        *flags,
        help=help_,
        rich_help_panel=about["panel"],
        show_default=False,
        metavar="<name>" if is_wide else None,
        autocompletion=None if choices else completion.BY_NAME.get(name),
        **limits,
    )


def _option_type(kind: type, name: str) -> Any:
    """Return the type that Typer reads: texts for tuple[str, ...], one where a field reads text, else the hint."""
    hint: Any = get_type_hints(kind)[name]
    (reader,) = (declared.metadata["read"] for declared in settings_of(kind) if declared.name == name)
    if get_origin(hint) in (types.UnionType, Union):  # X | None -> X; of several types the first
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return list[str] if get_args(hint)[0] is str or get_origin(get_args(hint)[0]) is Literal else str
    return str if (reader and hint is not int) or get_origin(hint) not in (None, Literal) else hint


def parse_formats(text: str | None) -> list[Any] | None:
    """Return `png,pdf` as ["png", "pdf"], None as it is; raise a usage error for anything else."""
    if text is None:
        return None
    formats = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if unknown := [kind for kind in formats if kind not in ("png", "pdf", "svg", "tex")]:
        raise typer.BadParameter(f"got format {unknown[0]!r}, expected png, pdf, svg or tex, several with commas")
    return formats


Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint file of any public layout, or hf://user/repo; or a variant's name.",
        autocompletion=completion.checkpoints,
    ),
]
Weights = Annotated[Literal["ema", "model"] | None, option_of(ModelChoice, "weights")]
Device = Annotated[str, option_of(ModelChoice, "device")]
DataDir = Annotated[Path | None, option_of(DataChoice, "data_dir")]
TrainingDevice = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


def size_option(otherwise: str = "") -> Any:
    """Return the option of an input size; `otherwise` says what it is without it, where no default is shown."""
    help_ = f"Input size in px: 224, or HEIGHTxWIDTH as in 600x800{otherwise}."
    return typer.Option("--size", help=help_, rich_help_panel="Data")


Size = Annotated[str | None, size_option()]
AnswerSource = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="A recording; or images, folders or globs. Default: 400 drawn scenes.",
        show_default=False,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="RECORDING",
        help="A recording of the untrained network; by default a formula stands for it.",
        rich_help_panel="Answer",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the results as JSON.", rich_help_panel="Output")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="png, pdf, svg, or several with commas; by default png. tex: the table in LaTeX, too.",
        rich_help_panel="Output",
    ),
]
FigurePath = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="Folder for figures and their data, or a file: NAME.png, .pdf or .svg.",
        rich_help_panel="Output",
    ),
]


def command_line() -> str:
    """Return the command as it was typed, for the metadata of figures."""
    return shlex.join(["atmviz", *sys.argv[1:]])
