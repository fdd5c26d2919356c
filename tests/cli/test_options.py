"""Options made from settings, and the help of every command on a narrow terminal."""

import re

import pytest
from atmviz_cli.app import COMMANDS, load_command


def leaves():
    """Every command without commands of its own, by its words."""
    for name in COMMANDS:
        command = load_command(name)
        inner = getattr(command, "commands", {})
        yield from ((f"{name} {word}", each) for word, each in inner.items()) if inner else [(name, command)]


LEAVES = dict(leaves())


@pytest.mark.parametrize("words", LEAVES)
def test_on_80_columns_help_shows_every_name_and_every_word(succeed, monkeypatch, words):
    """A name that is too long would be cut, and [text] would be taken for markup and dropped."""
    monkeypatch.setenv("COLUMNS", "80")
    said = succeed(*words.split(), "--help").stdout
    shown = said.replace("│", " ").split()
    names = {name for line in said.splitlines() for name in re.findall(r"--[\w-]+", line)}
    for parameter in LEAVES[words].params:
        assert {name for name in parameter.opts if name.startswith("--")} <= names
        for word in (parameter.help or "").replace("\\[", "[").split():
            assert word in shown
    for word in re.sub("[`'\"]", "", LEAVES[words].help.replace("\\[", "[")).split():
        assert word in re.sub("[`'\"]", "", said).split()
