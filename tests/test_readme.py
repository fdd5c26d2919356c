"""The README's commands parse, and its links and images lead somewhere."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main
from atmviz_cli import options, record
from atmviz_cli.app import app

import atmviz
from atmviz.layers import offset_sources, select_layers
from atmviz.paper import FIGURES
from atmviz.recording.query import parse_queries
from atmviz.recording.store import Recording
from atmviz.variants import VARIANTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVERY_LAYER = sorted({str(layer) for v in VARIANTS.values() for layer in offset_sources(v.depths, v.offset_interval)})


def commands(text):
    """The `atmviz ...` commands of the code blocks, as lists of words; continued lines are joined."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split, words = True, []
            for word in [*lexer, ";"]:
                if word and set(word) <= set(";&|"):  # what ends a command for the shell
                    found.append(words)
                    words = []
                else:
                    words.append(word)
    calls = []
    for words in found:
        while words and re.fullmatch(r"\w+=.*", words[0]):  # VARIABLE=value in front
            words = words[1:]
        if words[:3] == ["python", "-m", "cli"]:
            words = ["atmviz", *words[3:]]
        if words[:1] == ["atmviz"]:
            redirected = [index for index, word in enumerate(words) if word and set(word) <= set("<>&")]
            calls.append(words[1 : min(redirected, default=None)])
    return calls


def parse(words):
    """Read a command as the app does, without running it; raises what the app would show."""
    group = typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        assert words in (["--version"], ["--help"], ["-h"]), words
        return
    with group.make_context("atmviz", list(words)) as context:
        name, command, rest = group.resolve_command(context, list(words))
        if rest in (["--help"], ["-h"]):
            return
        with command.make_context(name, rest, parent=context) as inner:
            given = inner.params
    if given.get("size"):
        options.parse_size(str(given["size"]))
    if "formats" in given:
        options.parse_formats(given["formats"])
    if layers := given.get("layers", given.get("layer")):
        assert select_layers(layers, EVERY_LAYER)
    queries = given.get("queries", given.get("query")) or []
    for query in [queries] if isinstance(queries, str) else queries:
        assert parse_queries(query)
    if given.get("shard"):
        record._parse_shard(given["shard"])
    if given.get("figure") is not None:
        assert given["figure"] in FIGURES


def links(text):
    """Targets of links and images in Markdown and HTML, outside code."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def slugs(text):
    """What GitHub calls the headings of a page."""
    headings = re.findall(
        r"^#+ +(.*?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


COMMANDS = commands(README)
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_readme_shows_the_commands():
    assert len(COMMANDS) >= 5
    assert {"histogram", "overlay", "record"} <= {words[0] for words in COMMANDS if words}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_in_the_readme_parses(words):
    parse(words)


def test_python_in_the_readme_names_what_there_is():
    assert SNIPPETS
    for snippet in SNIPPETS:
        ast.parse(snippet)
    for name in set(re.findall(r"\batmviz\.(\w+)", "\n".join(SNIPPETS))):
        assert hasattr(atmviz, name) or importlib.util.find_spec(f"atmviz.{name}"), name
    for name in set(re.findall(r"\brecording\.(\w+)", "\n".join(SNIPPETS))):
        assert hasattr(Recording, name) or name in Recording.__init__.__code__.co_names, name


@pytest.mark.parametrize("target", sorted({unquote(target) for target in links(README)}))
def test_every_link_into_the_repository_leads_somewhere(target):
    path, _, section = target.partition("#")
    page = ROOT / path if path else ROOT / "README.md"
    assert page.resolve().is_relative_to(ROOT)
    assert page.exists()
    if section and page.suffix == ".md":
        assert section in slugs(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("atmviz models", [["models"]]),
        ("$ atmviz models  # the variants", [["models"]]),
        ("pip install atmviz", []),
        ("git clone <this repository> atmviz && cd atmviz", []),
        ("atmviz layers | head\natmviz models > table.txt", [["layers"], ["models"]]),
        ("atmviz record a \\\n  --out b && atmviz histogram b", [["record", "a", "--out", "b"], ["histogram", "b"]]),
        ("ATMVIZ_DATA=/data atmviz histogram --layer '3_*'", [["histogram", "--layer", "3_*"]]),
        ("python -m cli overlay 'my photo.jpg' -q 0.3,0.6", [["overlay", "my photo.jpg", "-q", "0.3,0.6"]]),
    ],
)
def test_commands_are_found_however_they_are_written(block, found):
    assert commands(f"text\n```bash\n{block}\n```\natmviz not this\n") == found


@pytest.mark.parametrize(
    "words",
    ["draw", "overlay --colour red", "histogram --figure 4", "overlay --query middle", "histogram --layer 3_99",
     "record --shard 3/2", "histogram --format gif", "overlay --size 16", "convert only-one", "--colour"],
)  # fmt: skip
def test_wrong_commands_would_be_noticed(words):
    with pytest.raises((Exception, SystemExit)):
        parse(words.split())
