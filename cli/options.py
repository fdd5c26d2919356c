"""Options that several commands share, and options made from the settings of the library."""

import inspect
import types
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from atmviz.geometry import MAX_SIZE_PX, MIN_SIZE_PX, Preprocessing
from atmviz.settings import settings_of

DEFAULT_MODEL = "atmnet_nano.shapes"  # the demonstration model
CLASSIFIER_SIZE_PX = 384  # the largest input of the paper's classifiers


class Dataset(StrEnum):
    ADE20K = "ade20k"
    COCO = "coco"
    IMAGENET = "imagenet"


class Split(StrEnum):
    VAL = "val"
    TRAIN = "train"


class FitChoice(StrEnum):
    CROP = "crop"
    SQUASH = "squash"
    WHOLE = "whole"


class WeightsChoice(StrEnum):
    EMA = "ema"
    MODEL = "model"


class TokensChoice(StrEnum):
    CENTER = "center"
    ALL = "all"


class AnchorChoice(StrEnum):
    CELL = "cell"
    RF = "rf"


_DATA, _MODEL, _OUTPUT = "Data", "Model", "Output"

DatasetOption = Annotated[
    Dataset | None, typer.Option("--dataset", help="A public dataset in its published layout.", rich_help_panel=_DATA)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", "--data-path", help="Its folder; else $ATMVIZ_DATA, else ./data.", rich_help_panel=_DATA
    ),
]
SplitOption = Annotated[Split, typer.Option("--split", help="Which part of the dataset.", rich_help_panel=_DATA)]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Draw a random sample of this many images.", rich_help_panel=_DATA),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of random draws.", rich_help_panel=_DATA)]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first unreadable image.", rich_help_panel=_DATA)]
Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        "-c",
        help="A checkpoint file of any public layout; or a variant's name for seeded, untrained weights.",
        rich_help_panel=_MODEL,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="The variant you expect; it only confirms.", rich_help_panel=_MODEL),
]
Weights = Annotated[
    WeightsChoice | None,
    typer.Option("--weights", help="Which weights; EMA where the file has them.", rich_help_panel=_MODEL),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_MODEL)]
BatchSize = Annotated[
    int, typer.Option("--batch-size", "-b", min=1, help="Images per forward pass.", rich_help_panel=_MODEL)
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", min=0, help="Processes that decode images.", rich_help_panel=_MODEL),
]
Size = Annotated[
    str | None,
    typer.Option("--size", help="Input size in px: 224, or HEIGHTxWIDTH as in 600x800.", rich_help_panel=_DATA),
]
FitOption = Annotated[
    FitChoice | None,
    typer.Option(
        "--fit",
        help="crop: cover the size (with a margin of an eighth up to 384 px) and cut the centre. squash: stretch. "
        "whole: keep all, shorter side = size.",
        rich_help_panel=_DATA,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print what was found as one JSON object.", rich_help_panel=_OUTPUT)
]
Format = Annotated[
    str,
    typer.Option("--format", help="png, pdf, svg, or several with commas.", rich_help_panel=_OUTPUT),
]
FigureFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for the figure and its data.", rich_help_panel=_OUTPUT)
]


T = TypeVar("T")


def with_settings(
    *kinds: type, without: tuple[str, ...] = (), overriding: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of settings dataclasses, in place of its `**settings`.

    The command receives None for each option that was not given.

    Args:
        kinds: Dataclasses declared with `atmviz.settings.setting`.
        without: Fields that get no option.
        overriding: The options change settings read from elsewhere, so that no default is shown and switches can be
            turned off too.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [p for p in inspect.signature(command).parameters.values() if p.kind != p.VAR_KEYWORD]
        for kind in kinds:
            hints = get_type_hints(kind)
            for declared in settings_of(kind, without):
                hint: Any = hints[declared.name]
                annotation: Any = Annotated[_option_type(hint) | None, _option(declared, hint, overriding)]
                parameters.append(
                    inspect.Parameter(
                        declared.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                    )
                )
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def read_settings(kind: type[T], values: dict[str, Any]) -> T:
    """Return a settings dataclass with the options that were given; a usage error for a value it refuses."""
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in given(values).items()}
    try:
        return kind(**chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that the command line names."""
    return {name: value for name, value in settings.items() if value is not None}


def _option(declared: Any, hint: Any, overriding: bool) -> Any:
    """The option of one field: a switch for a bool, a range where the field has one."""
    about, default = declared.metadata, declared.default
    flags = list(about["flags"])
    if hint is bool and not overriding:
        flags = flags or [f"--{declared.name.replace('_', '-')}"]
    show_default = False if overriding or default in (None, False, ()) else str(default)
    ranged = not overriding and _option_type(hint) in (int, float)
    limits = {"min": about["low"], "max": about["high"]} if ranged else {}
    return typer.Option(*flags, help=about["help"], rich_help_panel=about["panel"], show_default=show_default, **limits)


def _option_type(hint: Any) -> Any:
    """What Typer reads for a field: several texts for tuple[str, ...], one text for other tuples, else its type."""
    if get_origin(hint) in (types.UnionType, Union):  # X | None -> X; of several types the first
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return list[str] if get_args(hint) == (str, ...) else str
    return hint if get_origin(hint) is Literal or isinstance(hint, type) else str


def parse_size(text: str) -> tuple[int, int]:
    """`224` or `600x800` -> (height, width); a usage error otherwise."""
    parts = text.lower().split("x")
    try:
        height, width = (int(parts[0]), int(parts[-1])) if len(parts) <= 2 else (0, 0)
    except ValueError:
        height = width = 0
    if not MIN_SIZE_PX <= min(height, width) <= max(height, width) <= MAX_SIZE_PX:
        raise typer.BadParameter(
            f"got size {text!r}, expected {MIN_SIZE_PX} to {MAX_SIZE_PX}, or HEIGHTxWIDTH as in 600x800"
        )
    return height, width


def parse_formats(text: str) -> list[str]:
    """`png,pdf` -> ["png", "pdf"]; a usage error for anything else."""
    formats = list(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if unknown := [kind for kind in formats if kind not in ("png", "pdf", "svg")]:
        raise typer.BadParameter(f"got format {unknown[0]!r}, expected png, pdf or svg, several with commas")
    return formats


def choose_preprocessing(
    size: str | None, fit: FitChoice | None, dataset: Dataset | None, default_fit: str = "crop"
) -> Preprocessing:
    """What the options ask for; by default the input size of the paper's figures for a dataset, else 224 x 224.

    The size alone decides the crop, so that a folder is cropped alike however it is named: up to 384 px, the sizes of
    classifiers, it is cut from a larger resized image (the released transform); larger ones are covered exactly.
    """
    dense_sizes = {Dataset.ADE20K: (512, 512), Dataset.COCO: (600, 800)}
    if fit == FitChoice.WHOLE and default_fit != "whole":
        raise typer.BadParameter(
            "got --fit whole, expected crop or squash: all images of a recording need one map size"
        )
    chosen = parse_size(size) if size else dense_sizes.get(dataset, (224, 224)) if dataset else (224, 224)
    return Preprocessing(
        size=chosen,
        fit=(fit.value if fit else default_fit),  # type: ignore[arg-type]
        crop_pct=0.875 if max(chosen) <= CLASSIFIER_SIZE_PX else 1.0,
    )


def describe(preprocessing: Preprocessing) -> dict[str, Any]:
    """What `--json` says of how images were fitted: `crop_pct` of a crop, `seen` by an image's width:height."""
    crop_pct = preprocessing.crop_pct if preprocessing.fit == "crop" else None
    size = list(preprocessing.size)
    return {"size": size, "fit": preprocessing.fit, "crop_pct": crop_pct, "seen": preprocessing.seen()}
