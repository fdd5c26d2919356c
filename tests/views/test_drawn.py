"""Drawn figures in files: what is replaced, what is refused, and that figure and table are of the same data."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pandas
import PIL.Image
import pytest
from matplotlib.figure import Figure

from atmviz import figures
from atmviz.errors import SettingsError
from atmviz.events import Events
from atmviz.figures.saving import read_about
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import ShownFigure
from atmviz.views.drawn import DrawnFigure, describe_style


class Heard(Events):
    """Keeps messages."""

    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


def drawn(name="name", table=True, **about):
    rows = pandas.DataFrame([{"layer": "3_18", "about": str(about)}]) if table else None
    return DrawnFigure(Figure(figsize=(1, 1)), name, {}, about, rows)


def test_a_folder_takes_the_figure_under_its_name(tmp_path):
    files = drawn(a=1).save(tmp_path / "out", ["png", "pdf"])
    assert [file.name for file in files] == ["name.png", "name.pdf", "name.csv"]
    assert files[2].read_text() == "layer,about\n3_18,{'a': 1}\n"


def test_a_file_is_that_file_with_its_table_beside_it(tmp_path):
    files = drawn(a=1).save(tmp_path / "paper.pdf")
    assert sorted(tmp_path.iterdir()) == sorted(files) == [tmp_path / "paper.csv", tmp_path / "paper.pdf"]
    assert drawn(table=False).save(tmp_path / "other.svg") == [tmp_path / "other.svg"]


def test_a_figure_of_something_else_is_replaced_with_a_word_and_the_same_one_without(tmp_path):
    heard = Heard()
    for about in ({"a": (1, 2)}, {"a": (1, 2)}, {"a": (1, 3)}):
        files = drawn(**about).save(tmp_path / "paper.pdf", events=heard)
        assert "[1, 2]" in str(read_about(files[0])) or heard.messages
    assert heard.messages == [f"replaced {tmp_path / 'paper.pdf'}, which showed something else"]
    assert (tmp_path / "paper.csv").read_text() == "layer,about\n3_18,\"{'a': (1, 3)}\"\n"


@pytest.mark.parametrize("existing", ["paper.pdf", "paper.csv"])
def test_files_of_the_user_s_are_never_replaced(tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    with pytest.raises(SettingsError, match=rf"{existing} exists and .* no figure of atmviz"):
        drawn(a=1).save(tmp_path / "paper.pdf")
    assert [file.name for file in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize(("out", "formats"), [("", ["pdf", "tex"]), ("paper.pdf", ["tex"])], ids=["folder", "file"])
def test_the_table_is_written_in_latex_where_asked_and_again(tmp_path, out, formats):
    for about in (1, 2):
        files = drawn(a=about).save(tmp_path / out, formats)
        assert [file.suffix for file in files] == [".pdf", ".csv", ".tex"]
        assert set(tmp_path.iterdir()) == set(files)
        assert rf"3\_18 & \{{'a': {about}\}} \\" in files[2].read_text()


def test_texts_for_people_stand_in_latex_and_numbers_in_csv(tmp_path):
    shown = replace(drawn(a=1), printed=pandas.DataFrame({"estimate": ["5.8 [4.6, 7.1]"]}))
    files = shown.save(tmp_path, ["tex"])
    assert [file.suffix for file in files] == [".png", ".csv", ".tex"]
    assert "5.8 [4.6, 7.1]" in files[2].read_text()
    assert "3_18" in files[1].read_text()


def test_latex_of_the_user_s_is_not_replaced_beside_a_figure_of_ours(tmp_path):
    drawn(a=1).save(tmp_path / "paper.pdf")
    (tmp_path / "paper.tex").write_text("mine")
    with pytest.raises(SettingsError, match=r"paper.tex exists and belongs to no figure of atmviz"):
        drawn(a=2).save(tmp_path / "paper.pdf", ["tex"])
    assert (tmp_path / "paper.tex").read_text() == "mine"


def test_a_figure_without_a_table_has_no_latex(tmp_path):
    with pytest.raises(SettingsError, match="got format tex, expected png, pdf or svg: this figure has no table"):
        drawn(table=False).save(tmp_path, ["tex"])
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_cannot_be_written_leaves_the_earlier_one_with_its_table(tmp_path, monkeypatch):
    drawn(a=1).save(tmp_path / "paper.pdf")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    failing = drawn(a=2)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing.figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        failing.save(tmp_path / "paper.pdf")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_notebook_shows_the_figure():
    width = PIL.Image.open(io.BytesIO(drawn()._repr_png_())).width
    assert width == PIL.Image.open(io.BytesIO(ShownFigure(figsize=(1, 1))._repr_png_())).width > 100


def test_every_figure_that_a_call_returns_is_one_that_notebooks_show():
    sources = Path(figures.__file__).parent.glob("*.py")
    of_files = {"confusion.py", "predictions.py"}  # which write theirs
    assert {path.name for path in sources if re.search(r"= Figure\(", path.read_text(encoding="utf-8"))} == of_files


def test_a_style_is_described_by_what_is_unusual():
    assert describe_style(FigureStyle()) == {}
    assert describe_style(FigureStyle(width="column", title=False)) == {"width": 3.25, "title": False}
