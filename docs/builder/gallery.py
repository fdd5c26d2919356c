"""What sphinx-gallery does with the scripts: saves their figures, compares numbers and figures with stored ones.

Every table, series and number that a script leaves in a variable, and the positions of what a figure draws, are
compared with `docs/gallery/numbers.json`; with `ATMVIZ_DOCS=store` they are written there. A figure that README or a
page shows is compared with the file of its variable's name in `assets/figures`.
"""

import io
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "docs/gallery/numbers.json"
STORED = ROOT / "assets/figures"
RELATIVE, ABSOLUTE = 5e-3, 1e-3
"""How far a number may be from the stored one: kernels of other processors round differently."""
LEVELS = 2.0
"""Mean difference of pixels, of 255, that a stored figure may have: fonts are drawn differently by other versions."""
MOST_PX = 3
"""Difference of size that it may have."""
MOST_ROWS = 40
DPI = 150


def copied_scripts(scripts: Path, folder: Path) -> Path:
    """Return a copy of the scripts, in which they may write files."""
    shutil.copytree(scripts, folder, dirs_exist_ok=True)
    for old in folder.glob("*.py"):
        if not (scripts / old.name).exists():
            old.unlink()
    return folder


def scrape(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Compare what a block of code computed, save its new figures, and return them as RST."""
    from sphinx_gallery.scrapers import figure_rst

    script = Path(block_vars["src_file"]).stem
    names = {name: value for name, value in block_vars["example_globals"].items() if not name.startswith("_")}
    check_numbers(script, {name: plain(value) or positions(value) for name, value in names.items()})
    paths, shown = [], block_vars.setdefault("shown", set())
    for name, value in names.items():
        drawn = getattr(value, "figure", value)
        is_file = isinstance(value, Path) and value.suffix in (".gif", ".png")
        if name in shown or not (isinstance(drawn, Figure) or is_file):
            continue
        shown.add(name)
        path = Path(next(block_vars["image_path_iterator"]))
        if is_file:
            path = path.with_suffix(value.suffix)
            shutil.copy(value, path)
        else:
            drawn.savefig(path, dpi=DPI)
            check_figure(STORED / f"{name}.png", drawn)
        paths.append(str(path))
    return figure_rst(paths, gallery_conf["src_dir"])


def plain(value: Any) -> Any:
    """Return the numbers of a variable as lists, by column; of more than 40 rows their mean. None for other things."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items() if plain(each)}
    if hasattr(value, "select_dtypes"):  # a table
        return plain(dict(value.select_dtypes("number")))
    if not isinstance(value, int | float | list) and not hasattr(value, "dtype"):
        return None
    values = np.asarray(value).reshape(-1)
    if values.dtype.kind not in "if":
        return None
    numbers = values if len(values) <= MOST_ROWS else [np.nanmean(values)]
    return [float(f"{each:.5g}") if math.isfinite(each) else None for each in numbers]


def positions(value: Any) -> dict[str, list[float]] | None:
    """Return for each panel of a figure how many things are drawn, their mean position and value; None for others."""
    figure = getattr(value, "figure", value)
    if not isinstance(figure, Figure):
        return None
    found = {}
    for number, axes in enumerate(figure.axes, 1):
        points = [np.asarray(each.get_offsets()) for each in axes.collections]
        points += [
            np.asarray(each.get_extents().transformed(axes.transData.inverted()).get_points()) for each in axes.patches
        ]
        points += [np.column_stack(each.get_data()) for each in axes.lines]
        drawn = np.concatenate([np.empty((0, 2)), *points]).astype(float)
        colors = [
            np.ma.filled(each.get_array(), np.nan)
            for each in (*axes.images, *axes.collections)
            if each.get_array() is not None
        ]
        values = [np.nanmean(each) for each in colors if np.size(each)]
        means = np.nanmean(drawn, 0) if len(drawn) else ()
        if len(drawn) or values:
            found[f"panel {number}"] = plain(np.array([len(drawn), *means, *values]))
    return found


def check_numbers(script: str, numbers: dict[str, Any]) -> None:
    """Compare the numbers of a script with the stored ones.

    Raises:
        ValueError: a number differs, or a name has no stored numbers.
    """
    found = {name: value for name, value in numbers.items() if value}
    stored = json.loads(NUMBERS.read_text("utf-8")) if NUMBERS.exists() else {}
    if os.environ.get("ATMVIZ_DOCS") == "store":
        stored[script] = {**stored.get(script, {}), **found}
        lines = [f"{json.dumps(script)}: {json.dumps(values)}" for script, values in sorted(stored.items())]
        NUMBERS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return
    for name, value in found.items():
        expected = stored.get(script, {}).get(name)
        if expected is None or not is_close(value, expected):
            raise ValueError(f"{script}: {name} is {value}, stored is {expected}: `make figures` stores what is")


def is_close(value: Any, expected: Any) -> bool:
    """Return whether numbers, in lists of lists, are equal up to rounding."""
    if isinstance(value, dict):
        return value.keys() == expected.keys() and all(is_close(value[name], expected[name]) for name in value)
    if isinstance(value, list):
        return len(value) == len(expected) and all(map(is_close, value, expected))
    if value is None or expected is None:
        return value is expected
    return math.isclose(value, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def check_figure(stored: Path, figure: Figure) -> None:
    """Compare a figure with the file of that name that the pages show, if there is one.

    Raises:
        ValueError: the two differ in size or in their pixels.
    """
    if not stored.exists():
        return
    with Image.open(stored) as expected:
        expected.load()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=round(expected.info["dpi"][0]))
    drawn, again = Image.open(buffer).convert("RGB"), "draws the stored figures anew: `make figures`"
    if max(abs(a - b) for a, b in zip(drawn.size, expected.size, strict=True)) > MOST_PX:
        raise ValueError(f"{stored.name} has {expected.size} pixels, the script draws {drawn.size}; {again}")
    pixels = [np.asarray(each, float) for each in (drawn.resize(expected.size), expected.convert("RGB"))]
    difference = float(np.abs(pixels[0] - pixels[1]).mean())
    if difference > LEVELS:
        raise ValueError(f"{stored.name} differs by {difference:.1f} of 255 on average; {again}")
