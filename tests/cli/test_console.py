"""What reaches the terminal: text as it is, tables at any width."""

import io
import json
import os
import subprocess
import sys

import pytest
from atmviz_cli import console
from atmviz_cli.progress import ProgressConsole

HOSTILE = "[red]:heart: \x1b[2J\x1b]0;owned\x07 \u202egpj \udcff [/nothing]"
SHOWN = r"[red]:heart: \x1b[2J\x1b]0;owned\x07 \u202egpj \udcff [/nothing]"
CELLS = [("atmnet_tiny", "27.152232", "of a_long_name"), ("x", "1", HOSTILE)]


@pytest.mark.parametrize("width", [20, 200])
def test_nothing_in_a_text_acts_on_the_terminal(terminal, width):
    written = terminal(width)
    console.say(HOSTILE)
    console.print_paths([HOSTILE])
    with console.waiting(HOSTILE):
        pass
    with ProgressConsole("loading", HOSTILE) as events:
        events.images(1, 2)
    text = written.getvalue()
    assert text.startswith(f"{SHOWN}\n{SHOWN}\n")
    assert [acts for acts in ("\x1b]", "\x07", "\u202e", "\udcff", "\x1b[2J", "❤") if acts in text] == []


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 200])
def test_a_table_shows_every_cell_at_any_width(terminal, width):
    written = terminal(width)
    console.print_rows(
        "Numbers of [bold]atmviz[/bold]",
        ("model", "#P (M)", "note"),
        CELLS,
        "counted now, and a caption longer than the table is",
    )
    lines = written.getvalue().splitlines()
    for text in (*CELLS[0], *CELLS[1][:2], SHOWN, "#P (M)", "note", "Numbers of [bold]atmviz[/bold]"):
        assert any(text in line for line in lines), text
    assert lines[-1] == "counted now, and a caption longer than the table is"
    assert all("│" not in line or len(line) <= width for line in lines)
    assert any("│" in line for line in lines) == (width == 200)


def test_a_pipe_has_room_for_any_table(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.print_rows(None, (f"heading {k}" for k in range(40)), [[f"cell {k}" for k in range(40)]])
    (row,) = (line for line in sys.stdout.getvalue().splitlines() if "cell 0" in line)
    assert [f"cell {k} " in row for k in range(40)] == [True] * 40


def test_a_path_reaches_a_pipe_as_it_is(capfdbinary):
    console.print_paths([os.fsdecode(b"a\xff\x1b.png")])
    assert capfdbinary.readouterr().out == b"a\xff\x1b.png\n"


def test_json_of_any_text_is_ascii(capfdbinary):
    console.print_json({"name": "写\udcff\x1b", "none": float("nan"), "all": (1, [-float("inf")], 0.1)})
    written = capfdbinary.readouterr().out
    assert written.isascii()
    assert json.loads(written) == {"name": "写\udcff\x1b", "none": None, "all": [1, [None], 0.1]}


USERS = {
    "a backend that is not there": ({"MPLBACKEND": "module://matplotlib_inline.backend_inline_of_nobody"}, b""),
    "nonsense for a backend": ({"MPLBACKEND": "nonsense"}, b""),
    "settings nowhere": ({"MATPLOTLIBRC": "/nowhere/at/all"}, b""),
    "settings that are no text": ({}, b"\xff\xfe"),
    "settings of nonsense": ({}, b"nonsense: 1\naxes.grid: perhaps\nimage.origin\n"),
    "other settings": ({}, b"image.origin: lower\ntext.usetex: True\n"),
}


@pytest.mark.parametrize(("environment", "settings"), USERS.values(), ids=USERS)
def test_a_user_s_matplotlib_does_not_stop_its_import(tmp_path, environment, settings):
    if settings:
        (tmp_path / "matplotlibrc").write_bytes(settings)
    code = (
        "from atmviz_cli.console import import_matplotlib\nimport os, sys\nbefore = os.getcwd()\nimport_matplotlib()\n"
        "import matplotlib.pyplot as plt\nassert os.getcwd() == before\nassert plt.rcParams['image.origin'] == 'upper'"
    )
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_torch_s_warning_that_a_cpu_has_no_cuda_is_not_shown():
    code = "import atmviz_cli.train, logging, torch.utils.cpp_extension as extension\n"
    code += "extension.logger.warning('No CUDA runtime is found')\nlogging.getLogger('torch').warning('other')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "other" in done.stderr
    assert "CUDA" not in done.stderr


MODULES = [
    ("1_1", "backbone.body.model.stages.0.blocks.0.token_mixer", "itself", "64"),
    ("fpn_c2", "neck", "1_1", "256"),
]
HEADINGS = ("layer", "module", "offsets of", "C")


def test_on_a_terminal_a_long_name_is_wrapped_after_its_dots(terminal):
    written = terminal(60)
    console.print_rows(None, HEADINGS, MODULES, texts=3)
    lines = [line for line in written.getvalue().splitlines() if line.startswith("│")]
    assert max(map(len, lines)) <= 60
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert [row for row in cells if row[0]] == [["1_1", "backbone.body.model.stages.", "itself", "64"], [*MODULES[1]]]
    assert "".join(row[1] for row in cells[:-1]) == MODULES[0][1]


def test_in_a_pipe_a_long_name_is_one_word(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.print_rows(None, HEADINGS, MODULES, texts=3)
    assert MODULES[0][1] in sys.stdout.getvalue()


def test_a_table_of_no_rows_fits_any_terminal(terminal):
    written = terminal(10)
    console.print_rows("title", HEADINGS, [], texts=3)
    assert written.getvalue() == "title\n"
