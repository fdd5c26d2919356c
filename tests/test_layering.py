"""Who may import whom, read from the sources: drawing needs no torch, the library knows no command line."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(ROOT.joinpath("atmviz").rglob("*.py"))
}

# "a module and what is below it" -> the modules of this package it may import
ALLOWED = {
    "atmviz.errors": [],
    "atmviz.events": [],
    "atmviz.settings": ["errors"],
    "atmviz.files": ["variants", "errors"],
    "atmviz.processes": [],
    "atmviz.signals": ["files"],
    "atmviz.distributed": ["data.loader", "processes", "errors"],
    "atmviz.variants": [],
    "atmviz.architecture": ["variants", "geometry", "errors"],
    "atmviz.layers": ["errors"],
    "atmviz.geometry": ["errors"],
    "atmviz.ops": ["ops", "files"],
    "atmviz.models": ["models", "ops", "layers", "geometry", "architecture", "variants", "errors"],
    "atmviz.devices": ["processes", "errors"],
    "atmviz.checkpoints": [
        "checkpoints",
        "dense",
        "models",
        "devices",
        "architecture",
        "variants",
        "files",
        "events",
        "errors",
    ],
    "atmviz.checkpoints.stored": [],
    "atmviz.checkpoints.pickles": ["checkpoints.stored"],
    "atmviz.checkpoints.archives": ["checkpoints.pickles", "checkpoints.stored", "errors"],
    "atmviz.checkpoints.tensors": [
        "checkpoints.archives",
        "checkpoints.pickles",
        "checkpoints.stored",
        "files",
        "errors",
    ],
    "atmviz.checkpoints.averaged": ["checkpoints.stored"],
    "atmviz.checkpoints.origin": [],
    "atmviz.checkpoints.metadata": ["architecture", "variants", "errors"],
    "atmviz.export": ["checkpoints", "dense", "files", "events", "errors"],
    "atmviz.paper": ["architecture", "variants"],
    "atmviz.complexity": ["dense", "paper", "architecture", "variants", "errors"],
    "atmviz.benchmark": [
        *("benchmark", "checkpoints", "models", "ops", "geometry", "variants", "errors"),
        *("data.fitting", "observe", "recording", "sources.files"),
    ],
    "atmviz.dense": ["dense", "models", "layers", "geometry", "architecture", "variants", "errors"],
    "atmviz.sources.source": ["errors"],
    "atmviz.sources.listing": ["files", "errors"],
    "atmviz.sources.decoding": ["sources.listing", "geometry", "files", "errors"],
    "atmviz.sources.datasets": ["sources.source", "geometry", "architecture", "errors"],
    "atmviz.sources": ["sources", "events", "geometry", "architecture", "files", "errors"],
    "atmviz.data": ["data", "sources", "geometry", "architecture", "errors"],
    "atmviz.training.recipe_values": ["errors"],
    "atmviz.training.recipe": [
        *("training.recipe_values", "settings", "architecture", "variants", "geometry", "errors"),
    ],
    "atmviz.training.recipe_files": ["training.recipe", "training.recipe_values", "files", "architecture", "errors"],
    "atmviz.training.tasks": ["training.recipe", "sources.datasets", "models"],
    "atmviz.observe.site": ["layers"],
    "atmviz.observe.interventions": ["observe.hooks", "observe.site", "data.keyed"],
    "atmviz.observe.image": ["observe", "data.fitting", "geometry", "errors"],
    "atmviz.observe": ["observe.site", "dense", "models", "errors"],
    "atmviz.training.health": ["observe"],
    "atmviz.training.evaluation_settings": ["settings", "observe.site", "architecture", "errors"],
    "atmviz.training.evaluators": [
        *("training.evaluators", "data", "sources", "observe", "distributed", "architecture", "errors"),
    ],
    "atmviz.training.evaluate": [
        *("training.evaluators", "training.evaluation_settings", "data", "sources", "observe", "checkpoints", "paper"),
        *("distributed", "processes", "architecture", "events", "errors"),
    ],
    "atmviz.training.finetune": [
        *("training.recipe", "checkpoints", "dense", "architecture", "variants", "events", "errors"),
    ],
    "atmviz.training.build": [
        *("training.finetune", "training.recipe", "training.tasks", "data", "models", "dense", "distributed"),
        *("architecture", "events", "errors"),
    ],
    "atmviz.training.run_folder": ["training.recipe", "training.health", "checkpoints", "files", "errors"],
    "atmviz.training.stopping": ["signals", "events"],
    "atmviz.training.loop": ["training", "data", "distributed", "signals", "events", "errors"],
    "atmviz.training.ablation": ["training.loop", "training.recipe", "files", "architecture", "events", "errors"],
    "atmviz.recording.store": ["recording.sites", "observe.site", "geometry", "layers", "files", "errors"],
    "atmviz.recording.sites": ["recording.query", "observe.site", "geometry", "layers", "errors"],
    "atmviz.recording.query": ["geometry", "errors"],
    "atmviz.recording.cache": [
        *("sources", "recording.store", "geometry", "files", "architecture", "variants", "errors"),
    ],
    "atmviz.statistics.sampling": [],
    "atmviz.statistics": [
        *("statistics", "observe.site", "recording.store", "recording.sites", "layers", "errors"),
    ],
    "atmviz.choices": ["checkpoints", "sources", "settings", "events", "geometry", "errors"],
    "atmviz.views.settings": ["statistics", "choices", "settings", "paper", "geometry", "errors"],
    "atmviz.views": [
        *("views", "figures", "statistics", "recording", "observe", "checkpoints", "sources", "choices", "settings"),
        *("events", "architecture", "geometry", "files", "errors"),
    ],
    "atmviz.figures": [
        *(
            "figures",
            "statistics",
            "observe.site",
            "recording.query",
            "geometry",
            "layers",
            "architecture",
            "variants",
            "files",
        ),
        *("events", "errors"),
    ],
}
TORCH_FREE = [
    "atmviz",
    "atmviz.errors",
    "atmviz.files",
    "atmviz.processes",
    "atmviz.signals",
    "atmviz.variants",
    "atmviz.checkpoints",
    "atmviz.checkpoints.origin",
    "atmviz.architecture",
    "atmviz.paper",
    "atmviz.layers",
    "atmviz.geometry",
    "atmviz.statistics",
    "atmviz.statistics.histogram",
    "atmviz.statistics.sampling",
    "atmviz.sources",
    *(name for name in MODULES if name.startswith("atmviz.sources.")),
    "atmviz.training",
    "atmviz.training.evaluation_settings",
    "atmviz.training.recipe",
    "atmviz.training.recipe_files",
    "atmviz.training.recipe_values",
    "atmviz.recording",
    "atmviz.observe",
    "atmviz.observe.site",
    "atmviz.recording.sites",
    "atmviz.recording.store",
    "atmviz.recording.query",
    "atmviz.recording.cache",
    "atmviz.figures",
    "atmviz.figures.confusion",
    "atmviz.figures.histograms",
    "atmviz.figures.prediction_folder",
    "atmviz.figures.predictions",
    "atmviz.figures.overlay",
    "atmviz.figures.style",
    "atmviz.choices",
    "atmviz.views",
    "atmviz.views.drawn",
    "atmviz.views.histograms",
    "atmviz.views.settings",
]


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


def layer_of(module):
    """The longest entry of ALLOWED that a module belongs to."""
    return max((root for root in ALLOWED if below(module, root)), key=len, default=None)


@pytest.mark.parametrize("module", [module for module in MODULES if layer_of(module)])
def test_modules_import_only_what_lies_below_them(module):
    allowed = [f"atmviz.{name}" for name in ALLOWED[layer_of(module)]]
    own = {name for name in imports(MODULES[module]) if below(name, "atmviz")}
    assert {name for name in own if not below(name, *allowed)} == set()


def test_every_rule_is_about_a_module_that_exists():
    assert [module for module in [*ALLOWED, *TORCH_FREE] if module not in MODULES] == []


@pytest.mark.parametrize("module", TORCH_FREE)
def test_what_reads_and_draws_does_not_import_torch(module):
    found = imports(MODULES[module], everywhere=False)
    assert {name for name in found if below(name, "torch", "torchvision", "timm", "safetensors")} == set()


def test_importing_what_reads_and_draws_leaves_torch_unloaded():
    code = f"import sys, {', '.join(TORCH_FREE)}\nassert not {{'torch', 'timm', 'torchvision'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_the_library_knows_no_command_line_and_no_pyplot(module):
    forbidden = ("typer", "click", "rich", "atmviz_cli", "cli", "argparse.ArgumentParser", "matplotlib.pyplot")
    assert {name for name in imports(MODULES[module]) if below(name, *forbidden)} == set()


@pytest.mark.parametrize("file", sorted(ROOT.joinpath("cli").glob("*.py")), ids=lambda file: file.stem)
def test_commands_load_torch_only_when_they_run(file):
    heavy = ("torch", "timm", "matplotlib", "seaborn", "zarr", "cv2", "atmviz.models", "atmviz.checkpoints")
    found = imports(file, everywhere=False)
    # the settings that options come from
    training = ("recipe", "recipe_files", "evaluation_settings")
    light = ("atmviz.recording.settings", *(f"atmviz.training.{name}" for name in training))
    heavy = (*heavy, "atmviz.recording", "atmviz.figures", "atmviz.training")
    assert {name for name in found if below(name, *heavy) and not below(name, *light)} == set()


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
