"""How command lines are read: choices in any case, no option twice, errors of form in one line."""

from typing import Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from atmviz.errors import SettingsError, nearest, printable

_EXPECTED = {int: "a whole number", float: "a number"}


class Command(TyperCommand):
    """A command whose choices may be written in any case, and whose options of one value cannot be given twice."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            parameter.type_descriptor.parameter_info.case_sensitive = False  # type: ignore[attr-defined]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            given: list[Any] = self.make_parser(ctx).parse_args([*args])[2]
            for option in given:
                once = option.param_type_name == "option" and not (option.multiple or option.count)
                if once and given.count(option) > 1 and (option.secondary_opts or not option.is_flag):
                    instead = "; atmviz compare takes two" if option.name == "checkpoint" else ""
                    raise SettingsError(f"got {_name_of(option)} more than once, expected it once{instead}")
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """Commands of a command; alone, it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuse a command that there is not; the options of the group come before it."""
        name, words = args[0], ctx.command_path
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            near = nearest(name.lower(), self.commands)
            raise SettingsError(f"no command {name!r}{near}: see {words} --help")
        return super().resolve_command(ctx, args)


def usage_line(error: Any) -> str:
    """Return an error of Typer, which may come from pydantic, as one line in the words of this project."""
    parameter: Any = getattr(error, "param", None)
    ctx: Any = getattr(error, "ctx", None)
    see = f": see {ctx.command_path} --help" if ctx else ""
    if details := getattr(error.__cause__, "errors", None):
        return _wrong_value(parameter, details()[0])
    if option := getattr(error, "option_name", ""):
        if not hasattr(error, "possibilities"):
            return f"{option} needs a value{see}"
        arguments = {each.name: each for each in ctx.command.params if each.param_type_name == "argument"}
        name = "checkpoint" if option == "-c" else option.strip("-")
        if name in arguments:
            return f"no option {option}, {_name_of(arguments[name])} has none before it{see}"
        known = [name.strip("-") for each in ctx.command.params for name in each.opts + each.secondary_opts]
        near = nearest(option.strip("-"), [name for name in known if len(name) > 1])
        return printable(f"no option {option}") + near.replace("mean ", "mean --") + see
    if parameter is not None and type(error).__name__ == "MissingParameter":
        choices = parameter.type_descriptor.choices
        return f"missing {_name_of(parameter)}" + (f", expected {_either(choices)}" if choices else "") + see
    message = error.message if parameter is None else f"{_name_of(parameter)}: {error.message}"
    return printable(message[:1].lower() + message[1:]).rstrip(".") + ("" if "expected" in message else see)


def _wrong_value(parameter: Any, detail: dict[str, Any]) -> str:
    """Return what is wrong with the value of a parameter, from pydantic's description."""
    value, descriptor = str(detail["input"]), parameter.type_descriptor
    got = printable(f"got {_name_of(parameter)} {value or repr(value)}")
    if choices := descriptor.choices:
        return f"{got}, expected {_either(choices)}{nearest(value.lower(), choices)}"
    low, high = parameter.min, parameter.max
    bounds = [f"{low} or more"] * (low is not None) + [f"at most {high}"] * (high is not None)
    (kind,) = get_args(descriptor.annotation) or (descriptor.annotation,)  # of list[int], int
    return f"{got}, expected {', '.join([_EXPECTED.get(kind, kind.__name__), *bounds])}"


def _name_of(parameter: Any) -> str:
    """Return the longest name of an option, or how the help calls an argument."""
    if parameter.param_type_name == "option":
        return max(parameter.opts, key=len)
    return parameter.metavar or parameter.name.upper()


def _either(choices: Any) -> str:
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last
