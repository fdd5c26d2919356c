"""The reference of all commands, made from the options that Typer reads."""

from typing import Any, get_args

from atmviz_cli.app import GROUPS, leaves, load_command
from atmviz_cli.examples import EXAMPLES

_KINDS = {"str": "text", "int": "whole number", "float": "number", "Path": "path", "bool": ""}


def reference() -> str:
    """Return the page in Markdown: a section for each group of commands, a table of options for each command."""
    lines = ["# All options", "", "Made from the commands themselves: `atmviz COMMAND --help` prints the same.", ""]
    for title, names in GROUPS.items():
        lines += [f"## {title}", ""]
        for name in names:
            for words, command in leaves(name, load_command(name)).items():
                lines += [f"### atmviz {words}", "", *_described(words, command), ""]
    return "\n".join(lines)


def _described(words: str, command: Any) -> list[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    usage = " ".join(["atmviz", words, "[OPTIONS]", *(_name(each, optional=True) for each in arguments)])
    table = ["| option | value | meaning |", "|---|---|---|", *map(_row, shown), ""] if shown else []
    return [_escaped(command.help or ""), "", f"```\n{usage}\n```", "", *table, "```bash", *EXAMPLES[words], "```"]


def _name(parameter: Any, *, optional: bool = False) -> str:
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).upper()
        return f"[{name}]" if optional and not parameter.required else name
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _row(parameter: Any) -> str:
    descriptor = parameter.type_descriptor
    (kind,) = get_args(descriptor.annotation) if parameter.multiple else (descriptor.annotation,)
    value = ", ".join(map(str, descriptor.choices or ())) or _KINDS.get(getattr(kind, "__name__", ""), "text")
    return f"| {_name(parameter)} | {_escaped(value)} | {_escaped(parameter.help or '')} |"


def _escaped(text: str) -> str:
    """Return a text of the help, which is marked up for rich, as Markdown."""
    plain = text.replace("\\[", "[").replace("\\", "\\\\")
    for sign in "`*_|<[$":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
