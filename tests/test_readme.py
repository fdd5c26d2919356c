"""README and docs name what exists: commands, options, links, figures, `make` targets."""

import ast
import doctest
import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from collections import Counter
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest
import typer.main
from atmviz_cli import options
from atmviz_cli.app import COMMANDS, app, load_command
from builder.pages import SECTIONS

import atmviz
from atmviz.choices import DatasetName
from atmviz.layers import offset_sources, select_layers
from atmviz.paper import FIGURES
from atmviz.recording.query import parse_queries
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording
from atmviz.variants import VARIANTS

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/definitions/*.md"), *ROOT.glob("assets/*/*.md")]
    )
    if path.name != "CHANGELOG.md"  # names commands as they once were
}
README = PAGES["README.md"]
DOCS = {name: text for name, text in PAGES.items() if name.startswith("docs/")}
EVERY_LAYER = sorted({str(layer) for v in VARIANTS.values() for layer in offset_sources(v.depths, v.offset_interval)})
OTHER_TOOLS = {"--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint"}  # torchrun's options


def prose(text):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(text, language=None):
    """The code blocks of a page, of all languages or of one."""
    pairs = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in pairs if language in (None, name)]


def split_commands(line):
    """The commands of a shell line, as lists of words."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split, commands, words = True, [], []
    for word in [*lexer, ";"]:
        if word and set(word) <= set(";&|"):  # ends a command for the shell
            commands.append(words)
            words = []
        else:
            words.append(word)
    return commands


def commands(text):
    """The `atmviz ...` commands of the code blocks, as lists of words; continued lines are joined."""
    calls = []
    for line in (line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()):
        for words in split_commands(line) if "atmviz" in line or "cli" in line else []:
            while words and re.fullmatch(r"\w+=.*", words[0]):  # VARIABLE=value in front
                words = words[1:]
            if words[:1] == ["torchrun"] and "atmviz_cli" in words:
                words = ["atmviz", *words[words.index("atmviz_cli") + 1 :]]
            if words[:3] == ["python", "-m", "cli"]:
                words = ["atmviz", *words[3:]]
            if words[:1] == ["atmviz"]:
                redirected = [index for index, word in enumerate(words) if word and set(word) <= set("<>&")]
                calls.append(words[1 : min(redirected, default=None)])
    return calls


def inline_commands(text):
    """The commands within sentences and tables that are complete: no placeholders, more than a name."""
    codes = re.findall(r"`atmviz ([^`\n]+)`", prose(text))
    return [shlex.split(code) for code in codes if " " in code and not re.search(r"\b[A-Z]{3,}\b|…|\|", code)]


def parse(words):
    """Read a command as the app does, without running it; raises the error that the app would show."""
    group = typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        assert words in (["--version"], ["--help"], ["-h"], ["--install-completion"]), words
        return
    with group.make_context("atmviz", list(words)) as context:
        name, command, rest = group.resolve_command(context, list(words))
        if rest in (["--help"], ["-h"]):
            return
        if hasattr(command, "resolve_command"):  # `data` has commands of its own
            name, command, rest = command.resolve_command(context, rest)
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
        RecordingSettings(shard=given["shard"])
    if given.get("figure") is not None:
        assert given["figure"] in FIGURES


def links(text):
    """Targets of links and images in Markdown and HTML, outside code."""
    text = re.sub(r"`[^`\n]*`", "", prose(text))
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def slugs(text):
    """The anchors that GitHub and MyST give the headings of a page."""
    headings = re.findall(r"^#+ +(.*?)\s*$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def option_names(command):
    """All option names of a command and of its subcommands."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return names.union(*map(option_names, getattr(command, "commands", {}).values()))


ALL_COMMANDS = [(page, words) for page, text in PAGES.items() for words in commands(text) + inline_commands(text)]
ALL_LINKS = sorted({(page, unquote(target)) for page, text in PAGES.items() for target in links(text)})
SNIPPETS = {page: blocks(text, "python") for page, text in PAGES.items() if blocks(text, "python")}


def test_the_readme_is_short_and_shows_how_to_install_draw_and_test():
    assert len(README.splitlines()) <= 150
    assert {"overlay", "histogram", "record", "train", "eval"} <= {
        words[0] for page, words in ALL_COMMANDS if page == "README.md"
    }
    assert "pip install ." in README
    assert "make test " in README


@pytest.mark.parametrize(
    ("page", "words"), ALL_COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_command_of_a_page_parses(page, words):
    parse(words)


def test_every_option_that_a_page_names_exists():
    known = {name: option_names(load_command(name)) for name in COMMANDS}
    everything = OTHER_TOOLS.union({"--help", "--version", "--install-completion"}, *known.values())
    for page, text in PAGES.items():
        for code in re.findall(r"`([^`\n]+)`", prose(text)):
            if call := re.match(r"atmviz (\w+)", code):
                assert call[1] in {*COMMANDS, "COMMAND"}, (page, code)
            expected = known.get(call[1], everything) | {"--help"} if call else everything
            if re.match(r"(atmviz|-)", code):
                assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)) <= expected, (page, code)


def test_every_command_is_explained():
    assert set(re.findall(r"^\| `atmviz (\w+)` ", DOCS["docs/commands.md"], re.MULTILINE)) == set(COMMANDS)


def test_every_option_that_commands_share_is_explained_with_its_choices():
    explained = dict(re.findall(r"^\| (`--[^|]+`) \| (.*) \|$", DOCS["docs/commands.md"], re.MULTILINE))
    names = {name for cell in explained for name in re.findall(r"`(--?[a-z-]+)`", cell)}
    others = COMMANDS.keys() - {"train", "ablate"}  # whose settings are those of a recipe
    shared = Counter(name for command in others for name in option_names(load_command(command)) if name[0] == "-")
    assert {name for name, count in shared.items() if count > 1} <= names | {"--help", "-h", "--json"}
    (datasets,) = (text for cell, text in explained.items() if "--dataset`" in cell)
    assert set(get_args(DatasetName)) <= set(re.findall(r"`(\w+)`", datasets))


def test_every_make_target_and_extra_that_a_page_names_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for page, text in PAGES.items():
        shown = re.findall(r"^make ([a-z][a-z -]*)|`make ([a-z][a-z -]*)`", text, re.MULTILINE)
        assert {word for pair in shown for word in "".join(pair).split()} <= set(targets), page
        assert {extra for names in re.findall(r"'\.\[([\w,]+)\]'", text) for extra in names.split(",")} <= set(
            extras
        ), page


def test_python_on_the_pages_names_what_there_is():
    assert SNIPPETS
    for snippet in (snippet for snippets in SNIPPETS.values() for snippet in snippets):
        for line in ast.parse(snippet).body:
            if isinstance(line, ast.Import | ast.ImportFrom):
                exec(ast.unparse(line), {})
        for name in set(re.findall(r"\batmviz\.(\w+)", snippet)):
            assert hasattr(atmviz, name) or importlib.util.find_spec(f"atmviz.{name}"), name
        for name in set(re.findall(r"\brecording\.(\w+)", snippet)):
            assert hasattr(Recording, name) or name in Recording.__init__.__code__.co_names, name


def test_python_in_the_readme_runs_and_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "assets/photos", tmp_path / "photos")
    shutil.copy(ROOT / "assets/photos/rocket.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (session,) = blocks(README, "pycon")
    example = doctest.DocTestParser().get_doctest(session, {}, "README.md", None, None)
    assert len(example.examples) >= 10
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert results.failed == 0, capsys.readouterr().out
    assert {"photo.pdf", "recording", "histogram.png"} <= {path.name for path in tmp_path.iterdir()}
    stored = {
        re.sub(r"^offset_.*", "offset_<layer>", file.parent.name): json.loads(file.read_text())["data_type"]
        for file in (tmp_path / "recording").glob("*/zarr.json")
    }
    documented = re.findall(r"^\| `([\w<>]+)` \| [^|]+ \| (\w+) \|", DOCS["docs/recording.md"], re.MULTILINE)
    assert {name: kind for name, kind in stored.items() if re.match("float|u?int|bool", str(kind))} == dict(documented)


def test_every_path_of_the_sources_that_a_page_names_exists():
    (tree,) = [block for block in blocks(README, "") if block.startswith("atmviz/")]
    folders = {2: "atmviz/", 0: ""}
    named = {folders[len(line) - len(line.lstrip())] + line.split()[0] for line in tree.splitlines()}
    for text in PAGES.values():
        named |= set(re.findall(r"`((?:atmviz|cli|tests|docs|assets)/[\w./-]+)`", prose(text)))
    missing = {path for path in named if "NAME" not in path and not (ROOT / path).exists()}
    assert not missing


@pytest.mark.parametrize(("page", "target"), ALL_LINKS)
def test_every_link_into_the_repository_leads_somewhere(page, target):
    path, _, section = target.partition("#")
    linked = (ROOT / page).parent / path if path else ROOT / page
    assert linked.resolve().is_relative_to(ROOT)
    assert linked.exists()
    if section and linked.suffix == ".md":
        assert section in slugs(linked.read_text(encoding="utf-8"))


def test_every_page_of_docs_has_one_title_and_is_linked_by_a_section():
    for page, text in DOCS.items():
        assert len(re.findall(r"^# ", prose(text), re.MULTILINE)) == 1, page
        assert text.startswith("# "), page
    sections = [DOCS[f"docs/{name}.md"] for name in SECTIONS]
    listed = {f"docs/{target}" for text in sections for target in links(text) if target.endswith(".md")}
    assert set(DOCS) - listed == {"docs/index.md"}


def test_every_figure_is_shown_on_a_page_and_small():
    shown = {((ROOT / page).parent / target).resolve() for page, target in ALL_LINKS}
    for figure in (ROOT / "assets/figures").iterdir():
        assert figure.resolve() in shown, figure
        assert figure.stat().st_size < 400_000, figure


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("atmviz models", [["models"]]),
        ("$ atmviz models  # the variants", [["models"]]),
        ("pip install atmviz", []),
        ("git clone <this repository> atmviz && cd atmviz", []),
        ("atmviz layers | head\natmviz models > table.txt", [["layers"], ["models"]]),
        ("atmviz record a \\\n  --out b && atmviz histogram b", [["record", "a", "--out", "b"], ["histogram", "b"]]),
        ("ATMVIZ_DATA=/data atmviz histogram --layer '3_*'", [["histogram", "--layer", "3_*"]]),
        ("python -m cli overlay 'my photo.jpg' -q 0.3,0.6", [["overlay", "my photo.jpg", "-q", "0.3,0.6"]]),
        ("torchrun --nproc-per-node 8 -m atmviz_cli record --out b", [["record", "--out", "b"]]),
    ],
)
def test_commands_are_found_however_they_are_written(block, expected):
    assert commands(f"text\n```bash\n{block}\n```\natmviz not this\n") == expected


def test_commands_within_sentences_are_found_unless_they_have_placeholders():
    text = "Run `atmviz eval --offsets zero`, `atmviz eval CHECKPOINT --show DIR` or `atmviz models`.\n"
    assert inline_commands(text) == [["eval", "--offsets", "zero"]]


@pytest.mark.parametrize(
    "words",
    ["draw", "overlay --colour red", "histogram --figure 4", "overlay --query middle", "histogram --layer 3_99",
     "record --shard 3/2", "histogram --format gif", "overlay --size 16", "convert only-one", "--colour",
     "data explain coco", "data info cifar"],
)  # fmt: skip
def test_wrong_commands_would_be_noticed(words):
    with pytest.raises((Exception, SystemExit)):
        parse(words.split())
