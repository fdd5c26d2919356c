"""Reads recipes: YAML files of the package or of the user. Torch-free."""

from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from atmviz.architecture import HEAD_TASKS, Task
from atmviz.errors import RecipeError, SettingsError, nearest, shorten
from atmviz.events import QUIET, Events
from atmviz.files import file_name, read_limited
from atmviz.training.recipe import REQUIRED, SCHEDULE_SETTINGS, Recipe, with_todays_names

DEFAULT_RECIPES: dict[Task, str] = {"classify": "shapes", "segment": "shapes_segment", "detect": "shapes_detect"}
_MAX_BYTES = 2**16  # size of a recipe file
_MAX_BITS = 10_000  # size of a whole number, which error messages print


def recipe_names() -> list[str]:
    """Return the names of the package's recipes."""
    files = resources.files("atmviz.training").joinpath("recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def default_recipe(task: Task | None = None, head: str | None = None) -> str:
    """Return the name of the recipe for a task, or for the task of a head; classification without both."""
    return DEFAULT_RECIPES[task or HEAD_TASKS.get(head, "classify")]  # type: ignore[call-overload]


def default_folder(name: str, recipe: Recipe) -> Path:
    """Return the default folder of a run, runs/RECIPE-MODEL-SEED, from the recipe's name or file and its settings."""
    head = recipe.head if recipe.head and recipe.head not in name else None
    neck = "atmfpn" if recipe.neck == "atmfpn" else None
    parts = filter(None, [Path(name).stem, head, neck, recipe.model, str(recipe.seed)])
    return Path("runs") / file_name("-".join(parts))


def read_recipe(
    name_or_path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    is_complete: bool = True,
    events: Events = QUIET,
) -> Recipe:
    """Return a recipe of the package by name, or of a YAML file, with `overrides` in place of its settings.

    Settings that the file leaves out have `Recipe`'s defaults. A schedule that is too long for fewer epochs shrinks in
    proportion, see `Recipe.shrunk_schedule`.

    Args:
        name_or_path: Name or file.
        overrides: Settings by name.
        is_complete: Refuse a recipe with settings that it leaves to the user; without it they stay "required".
        events: Receives a line where the schedule shrinks.

    Raises:
        SettingsError: there is no such recipe.
        RecipeError: there is no such file, it is no YAML mapping, a setting is unknown (the nearest is named), has
            the wrong type, is out of range, or is left to the user.
    """
    written, changed = (
        with_todays_names(_parse(_read_text(name_or_path), name_or_path)),
        with_todays_names(overrides or {}),
    )
    values = written | changed
    missing = [key for key, value in values.items() if value == REQUIRED]
    if missing and is_complete:
        raise RecipeError(f"recipe {name_or_path} leaves {shorten(str(missing[0]))} to you: set it")
    return Recipe().override(values | _shrunk_schedule(written, changed, events))


def _shrunk_schedule(written: Mapping[Any, Any], changed: Mapping[Any, Any], events: Events) -> dict[str, Any]:
    """Return the settings of a recipe's schedule that shrink with its epochs, except those that were changed too."""
    if "epochs" not in changed:
        return {}
    settings = ("schedule", "lr_steps", *SCHEDULE_SETTINGS)
    try:
        recipe = Recipe().override({key: value for key, value in written.items() if key in settings})
        epochs = Recipe(epochs=changed["epochs"], warmup_epochs=0).epochs
    except RecipeError:  # the whole recipe has the same fault, and says so
        return {}
    shrunk = {key: value for key, value in recipe.shrunk_schedule(epochs).items() if key not in changed}
    if shrunk:
        parts = (f"{key} {_shown(getattr(recipe, key))} becomes {_shown(value)}" for key, value in shrunk.items())
        events.message(f"the recipe's schedule of {recipe.epochs} epochs is shortened to {epochs}: {', '.join(parts)}")
    return shrunk


def _shown(value: Any) -> str:
    return ",".join(f"{number:g}" for number in (value if isinstance(value, tuple) else [value]))


def _read_text(name_or_path: str | Path) -> str:
    name, names = str(name_or_path), recipe_names()
    if name in names:
        return resources.files("atmviz.training").joinpath("recipes", f"{name}.yaml").read_text("utf-8")
    path = Path(name_or_path)
    if not path.is_file():
        kind = RecipeError if path.suffix or path.name != name else SettingsError
        raise kind(f"no recipe {name!r}: expected one of {', '.join(names)}, or a YAML file{nearest(name, names)}")
    if path.stat().st_size > _MAX_BYTES:
        raise RecipeError(f"{path} has more than {_MAX_BYTES // 1024} kB, expected a recipe's YAML")
    try:
        return read_limited(path, _MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"recipe {path} is no text: expected YAML, `key: value` lines") from None


def _parse(text: str, name: str | Path) -> Mapping[Any, Any]:
    try:
        values = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # odd values raise the last three
        reason = shorten(" ".join(str(error).split()), 200)
        raise RecipeError(f"recipe {name} is no YAML ({reason}): correct it") from None
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise RecipeError(f"recipe {name} holds a {type(values).__name__}, expected `key: value` lines")
    return values


class _StrictLoader(yaml.SafeLoader):
    """Loads YAML safely, and refuses what no recipe needs: equal keys, aliases, endless numbers."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias, which recipes cannot have", problem_mark=self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if repeated := [key for key, count in keys.items() if count > 1]:
            raise yaml.MarkedYAMLError(problem=f"{shorten(repeated[0])} occurs twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if value.bit_length() > _MAX_BITS:
            raise yaml.MarkedYAMLError(problem="a number of too many digits", problem_mark=node.start_mark)
        return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
