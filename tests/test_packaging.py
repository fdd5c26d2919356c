"""What is installed: every sub-package, every photograph with its origin, one version everywhere."""

import hashlib
import re
import sys
import tomllib
from importlib import resources
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from atmviz.files import BUNDLED_CHECKPOINTS, find_checkpoint

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
PHOTOS = sorted(path.name for path in ROOT.joinpath("assets/photos").iterdir() if path.suffix != ".md")


def test_every_folder_with_sources_recipes_tables_or_scripts_is_a_listed_package():
    files = [file for file in ROOT.joinpath("atmviz").rglob("*") if file.suffix in (".py", ".yaml", ".csv", ".js")]
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    assert {package for package in SETUPTOOLS["packages"] if package.split(".")[0] == "atmviz"} == found


def folder_of(package):
    """Where a package's files lie in the repository."""
    top, *rest = package.split(".")
    return ROOT.joinpath(SETUPTOOLS["package-dir"].get(top, top), *rest)


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_listed_package_is_a_folder(package):
    holds_sources = any(folder_of(package).glob("*.py"))
    assert (folder_of(package) / "__init__.py").is_file() if holds_sources else folder_of(package).is_dir()


@pytest.mark.parametrize(("package", "patterns"), SETUPTOOLS["package-data"].items())
def test_every_pattern_of_package_data_matches_something(package, patterns):
    assert [pattern for pattern in patterns if not list(folder_of(package).glob(pattern))] == []


def test_commands_and_assets_are_installed_under_names_of_our_own():
    assert {package.split(".")[0] for package in SETUPTOOLS["packages"]} == {"atmviz", "atmviz_assets", "atmviz_cli"}


def test_every_file_of_a_package_that_is_no_source_is_package_data():
    for package in SETUPTOOLS["packages"]:
        patterns = SETUPTOOLS["package-data"].get(package, [])
        included = {file for pattern in patterns for file in folder_of(package).glob(pattern)}
        files = {file for file in folder_of(package).iterdir() if file.is_file()}
        assert {file for file in files if file.suffix not in (".py", ".pyc")} <= included


def test_a_source_distribution_holds_what_builds_tests_and_documents_it():
    grafted = re.findall(r"^graft (\S+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    packaged = {folder_of(package).relative_to(ROOT).parts[0] for package in SETUPTOOLS["packages"]}
    sources = {path.name for path in ROOT.iterdir() if any(path.glob("*.py"))}
    assert sources <= {*grafted, *packaged}
    assert SETUPTOOLS["include-package-data"] is False  # so that what is grafted is not installed


def test_the_installed_package_has_the_photographs():
    installed = {file.name for file in resources.files("atmviz_assets").joinpath("photos").iterdir()}
    assert set(PHOTOS) <= installed
    assert PHOTOS


@pytest.mark.parametrize("photo", PHOTOS)
def test_every_photograph_has_an_origin_and_a_free_licence(photo):
    rows = [line.split("|") for line in (ROOT / "assets/photos/ORIGINS.md").read_text().splitlines()]
    (row,) = (row for row in rows if len(row) > 4 and row[1].strip() == f"`{photo}`")
    assert all(cell.strip() for cell in row[2:5])
    assert row[4].strip() in ("public domain", "CC0")


def test_origins_name_no_photograph_that_is_not_there():
    named = re.findall(r"^\| `(.+?)` \|", (ROOT / "assets/photos/ORIGINS.md").read_text(), re.MULTILINE)
    assert sorted(named) == PHOTOS


def test_every_bundled_checkpoint_is_installed_small_and_has_a_model_card():
    cards = {path.stem: path.read_text() for path in ROOT.joinpath("assets/models").glob("*.md")}
    assert cards.keys() == set(BUNDLED_CHECKPOINTS)
    for name, card in cards.items():
        assert find_checkpoint(name).stat().st_size < 6_000_000
        assert hashlib.sha256(find_checkpoint(name).read_bytes()).hexdigest() in card


def test_the_version_is_the_same_everywhere():
    cited = re.search(r"^version: *\"?([^\"\s]+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    assert cited[1] == PROJECT["project"]["version"] == version("atmviz")


def test_the_command_is_installed_and_starts_the_app():
    (command,) = entry_points(group="console_scripts", name="atmviz")
    assert command.value == PROJECT["project"]["scripts"]["atmviz"]
    assert callable(command.load())


def test_every_import_of_the_sources_is_a_declared_dependency():
    names = {
        "IPython": "ipython",
        "PIL": "pillow",
        "cv2": "opencv-python-headless",
        "faster_coco_eval": "faster-coco-eval",
        "lazy_loader": "lazy-loader",
        "sklearn": "scikit-learn",
        "triton": "torch",  # a torch for CUDA brings the one it was made with
        "yaml": "pyyaml",
    }
    imported = {
        match
        for folder in ("atmviz", "cli")
        for file in ROOT.joinpath(folder).rglob("*.py")
        for match in re.findall(r"^\s*(?:from|import) ([A-Za-z_]\w*)", file.read_text(), re.MULTILINE)
    }
    extras = [line for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
    declared = {re.split(r"[<>=~!\[; ]", line)[0] for line in (*PROJECT["project"]["dependencies"], *extras)}
    own = {"atmviz", "atmviz_cli", "atmviz_assets"}
    foreign = {names.get(name, name) for name in imported - set(sys.stdlib_module_names) - own}
    assert foreign <= declared
