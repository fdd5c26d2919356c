"""Options made from settings, and the help of every command on a narrow terminal."""

import re
import shlex

import pytest
from atmviz_cli.app import COMMANDS, GROUPS, START, leaves, load_command
from atmviz_cli.examples import EXAMPLES

LEAVES = {words: leaf for name in COMMANDS for words, leaf in leaves(name, load_command(name)).items()}


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


RECIPE = ("train", "ablate")  # whose defaults are the recipe's, which --print-recipe shows
NOTHING = {"figure", "confusion", "show", "out", "task", "split", "model", "head", "neck"}  # without it nothing is done


@pytest.mark.parametrize("words", LEAVES)
def test_help_says_what_happens_without_each_option(succeed, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "300")
    said = succeed(*words.split(), "--help").stdout
    for option in LEAVES[words].params:
        if option.param_type_name != "option" or option.required or (option.is_flag and not option.secondary_opts):
            continue
        (line,) = (line for line in said.splitlines() if re.match(rf"│[ *]+{option.opts[0]}[, ]", line))
        named = re.search(r"[Bb]y default|Default: |default: |one without|without it", line)
        is_recipe_s = words in RECIPE or (
            words == "complexity" and option.rich_help_panel in ("Model", "Dense prediction")
        )
        assert named or is_recipe_s or option.name in NOTHING, option.opts
        if option.default not in (None, False):
            assert f"[default: {option.default}]" in line


@pytest.mark.parametrize("words", LEAVES)
def test_every_command_has_examples_that_it_understands(succeed, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    said = succeed(*words.split(), "--help").stdout.splitlines()
    at = next(k for k, line in enumerate(said) if line.strip() == "Examples:")
    shown = [line.strip() for line in said[at + 1 :] if line.strip()]
    assert shown == list(EXAMPLES[words])
    assert 1 <= len(shown) <= 2
    for example in shown:
        program, *given = shlex.split(example)
        assert program == "atmviz"
        leaf = next(name for name in LEAVES if given[: len(name.split())] == name.split())
        assert leaf == words or words == "checkpoints"
        LEAVES[leaf].make_context(leaf, given[len(leaf.split()) :])


def test_help_is_grouped_and_names_every_command_once(succeed):
    said = succeed("--help").stdout.splitlines()
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)
    starts = [said.index(f"{title}:") for title in ("Start", *GROUPS)]
    assert starts == sorted(starts)
    assert [line.strip().split("  ")[0] for line in said[starts[0] + 1 : starts[0] + 4]] == [
        words for words, _ in START
    ]
    assert max(map(len, said)) <= 80


@pytest.mark.parametrize("words", LEAVES)
def test_every_command_prints_json(words):
    assert any("--json" in parameter.opts for parameter in LEAVES[words].params)
