"""Who may import whom, read from the sources: drawing needs no torch, the library knows no command line."""

import ast
import doctest
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(ROOT.joinpath("atmviz").rglob("*.py"))
}

# A room ("a module and what is below it") and the rooms that it may import. Every module is in a room, and imports from
# its own room freely.
ROOMS = {
    "atmviz.errors": [],
    "atmviz.events": ["errors"],
    "atmviz.processes": [],
    "atmviz.variants": [],
    "atmviz.hub": ["errors"],
    "atmviz.files": ["hub", "variants", "errors"],
    "atmviz.signals": ["files"],
    "atmviz.settings": ["errors"],
    "atmviz.geometry": ["errors"],
    "atmviz.layers": ["errors"],
    "atmviz.architecture": ["variants", "geometry", "errors"],
    "atmviz.paper": ["architecture"],
    "atmviz.released": [],
    "atmviz.ops": ["files"],
    "atmviz.models": ["ops", "observe.site", "architecture", "variants", "layers", "geometry"],
    "atmviz.dense": ["models", "architecture", "variants", "layers", "geometry", "errors"],
    "atmviz.complexity": ["dense", "paper", "architecture", "variants", "errors"],
    "atmviz.devices": ["processes", "errors"],
    "atmviz.checkpoints": [
        *("models", "dense", "devices", "architecture", "variants", "files", "hub", "events", "errors"),
    ],
    "atmviz.export": ["checkpoints", "dense", "files", "events", "errors"],
    "atmviz.sources": ["architecture", "geometry", "files", "events", "errors"],
    "atmviz.choices": [
        *("checkpoints", "sources", "architecture", "variants", "layers", "settings", "geometry", "files", "hub"),
        *("events", "errors"),
    ],
    "atmviz.data": ["sources", "architecture", "geometry", "errors"],
    "atmviz.distributed": ["data.loader", "processes", "errors"],
    "atmviz.observe.site": ["layers", "errors"],
    "atmviz.observe": ["observe", "models", "dense", "data", "layers", "geometry", "errors"],
    "atmviz.recording": [
        *("observe", "sources", "data", "ops", "checkpoints", "choices", "distributed", "processes", "architecture"),
        *("layers", "geometry", "settings", "files", "events", "errors"),
    ],
    "atmviz.statistics": ["recording", "observe.site", "layers", "errors"],
    "atmviz.figures.settings": ["settings", "errors"],
    "atmviz.figures": [
        *("statistics", "recording.query", "recording.sites", "observe.site", "observe.image", "architecture"),
        *("variants", "layers", "geometry", "files", "events", "errors"),
    ],
    "atmviz.views": [
        *("figures", "statistics", "training", "recording", "observe", "sources", "checkpoints", "choices", "paper"),
        *("layers", "architecture", "geometry", "settings", "files", "events", "errors"),
    ],
    "atmviz.explorer.settings": ["settings", "layers", "errors"],
    "atmviz.explorer": [
        *("views", "figures", "statistics", "recording", "observe", "sources", "choices", "layers", "geometry"),
        *("settings", "files", "events", "errors"),
    ],
    "atmviz.reports": [
        *("explorer.page", "views", "figures", "statistics", "recording", "sources", "paper", "architecture", "files"),
        *("hub", "events", "errors"),
    ],
    "atmviz.training": [
        *("checkpoints", "observe", "statistics", "data", "sources", "models", "dense", "distributed", "processes"),
        *(
            "signals",
            "paper",
            "architecture",
            "variants",
            "layers",
            "geometry",
            "settings",
            "files",
            "events",
            "errors",
        ),
    ],
    "atmviz.benchmark": [
        *("recording", "observe", "checkpoints", "data", "sources", "models", "ops", "variants", "geometry", "errors"),
    ],
    "atmviz.inspection": ["explorer.page", "figures", "checkpoints", "recording", "files", "hub", "errors"],
    "atmviz.publishing": [
        *("views", "statistics", "recording", "checkpoints", "paper", "architecture", "variants", "files", "hub"),
        "errors",
    ],
    "atmviz.__main__": [],
    "atmviz": [],
}
# All other modules are read and drawn with where there is no torch.
NEED_TORCH = [
    *("atmviz.models", "atmviz.ops", "atmviz.dense", "atmviz.complexity", "atmviz.devices", "atmviz.distributed"),
    *("atmviz.export", "atmviz.publishing", "atmviz.benchmark.*", "atmviz.observe.hooks", "atmviz.observe.image"),
    *("atmviz.recording.run", "atmviz.recording.batches", "atmviz.recording.reducer"),
    *("atmviz.recording.precision", "atmviz.views.overlays"),
    "atmviz.views.moving",
    *(f"atmviz.training.{name}" for name in ("ablation", "build", "evaluate", "finetune", "health", "loop")),
    *(f"atmviz.training.{name}" for name in ("evaluation", "evaluator", "evaluators", "detection_evaluator")),
    *(f"atmviz.training.{name}" for name in ("intervene", "run_folder", "tasks")),
    *("atmviz.data.*", "atmviz.checkpoints.*"),  # but for their __init__
]


def needs_torch(module):
    if module == "atmviz.checkpoints.origin":
        return False
    return any(module.startswith(name[:-1]) if name.endswith("*") else below(module, name) for name in NEED_TORCH)


def imports(file, everywhere=True):
    """Modules that a file imports, `from a import b` as a.b; `if TYPE_CHECKING:` is no import."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not everywhere:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            package = file.relative_to(ROOT).parent.parts[: len(file.relative_to(ROOT).parts) - node.level]
            module = node.module if not node.level else ".".join([*package, *filter(None, [node.module])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


def below(name, *roots):
    return any(name == root or name.startswith(f"{root}.") for root in roots)


TORCH_FREE = [module for module in MODULES if not needs_torch(module)]


def room_of(module):
    """The longest entry of ROOMS that a module belongs to."""
    return max((room for room in ROOMS if below(module, room)), key=len)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_from_the_rooms_below_theirs(module):
    room = room_of(module)
    assert room != "atmviz" or module == "atmviz", f"{module} is in no room: add it to ROOMS"
    allowed = [room, *(f"atmviz.{name}" for name in ROOMS[room])]
    imported = {name for name in imports(MODULES[module]) if below(name, "atmviz")}
    assert {name for name in imported if not below(name, *allowed)} == set()


def test_no_two_rooms_import_each_other():
    below_of = {room: {f"atmviz.{name}" for name in names} for room, names in ROOMS.items()}
    circles = [(a, b) for a in ROOMS for b in ROOMS if a < b and b in below_of[a] and a in below_of[b]]
    assert circles == []


def test_every_rule_is_about_a_module_that_exists():
    assert [name for name in [*ROOMS, *NEED_TORCH] if not name.endswith("*") and name not in MODULES] == []
    needless = [m for m in MODULES if needs_torch(m) and m in NEED_TORCH and not uses_torch(m)]
    assert needless == []


@functools.cache
def uses_torch(module):
    """Whether a module or what it imports from the package when it is imported needs torch."""
    found = imports(MODULES[module], everywhere=False)
    if {name for name in found if below(name, "torch", "torchvision", "timm", "safetensors")}:
        return True
    inner = [max((m for m in MODULES if below(name, m)), key=len) for name in found if below(name, "atmviz")]
    return any(uses_torch(name) for name in inner if name not in (module, "atmviz"))


@pytest.mark.parametrize("module", TORCH_FREE)
def test_what_reads_and_draws_does_not_import_torch(module):
    found = imports(MODULES[module], everywhere=False)
    assert {name for name in found if below(name, "torch", "torchvision", "timm", "safetensors")} == set()


def test_importing_what_reads_and_draws_leaves_torch_unloaded():
    code = f"import sys, {', '.join(TORCH_FREE)}\nassert not {{'torch', 'timm', 'torchvision'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_the_library_knows_no_command_line_no_pyplot_and_no_zarr(module):
    """pyplot and zarr follow settings of the user's for other programs; zarr, those of files too."""
    forbidden = ("typer", "click", "rich", "atmviz_cli", "cli", "argparse.ArgumentParser", "matplotlib.pyplot", "zarr")
    assert {name for name in imports(MODULES[module]) if below(name, *forbidden)} == set()


def test_commands_load_what_takes_long_only_when_they_run():
    commands = ", ".join(f"atmviz_cli.{file.stem}" for file in ROOT.joinpath("cli").glob("[a-z]*.py"))
    heavy = {"torch", "torchvision", "timm", "matplotlib", "seaborn", "pandas", "zarr", "cv2"}
    code = f"import sys, {commands}\nheavy = {heavy} & set(sys.modules)\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("from torch import nn", {"torch.nn"}),
        ("from ..models import ATMNet", {"atmviz.models.ATMNet"}),
        ("from .style import add_note", {"atmviz.figures.style.add_note"}),
        ("from . import style", {"atmviz.figures.style"}),
        ("try:\n    import torch\nexcept ImportError: pass", {"torch"}),
        ("class A:\n    import torch", {"torch"}),
        ("def f():\n    import torch", set()),
        ("if TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_imports_are_found_however_they_are_written(tmp_path, monkeypatch, line, found):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "atmviz" / "figures" / "new.py"
    file.parent.mkdir(parents=True)
    file.write_text(line)
    assert imports(file, everywhere=False) == found


@pytest.mark.parametrize("module", MODULES)
def test_the_library_names_no_option_of_the_command_line(module):
    """A caller from Python has no flags; the command line may add them. Declarations of options name them alone."""
    tree = ast.parse(MODULES[module].read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts = [text for text in texts if not re.fullmatch("--?[a-z-]+(/--[a-z-]+)?", text)]
    assert [text for text in texts if re.search(r"(^|[\s`(\[])--[a-z]|`atmviz ", text)] == []


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0
