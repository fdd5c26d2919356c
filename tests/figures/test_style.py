"""Saved figures: formats, embedded fonts, whole files only, the same bytes again."""

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from atmviz.figures.style import figure_style, save_figure


@pytest.fixture
def figure():
    with figure_style():
        figure = Figure(figsize=(2, 1))
        figure.subplots().set_title("Offsets 3_18")
    return figure


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml version")]
)
def test_every_format_is_written_as_what_it_is_called(figure, tmp_path, kind, start):
    (file,) = save_figure(figure, tmp_path / "a.b", [kind])  # a dot in the name is no suffix
    assert file == tmp_path / f"a.b.{kind}"
    assert file.read_bytes().startswith(start)


def test_files_come_back_in_the_order_asked_for_and_nothing_else_is_left(figure, tmp_path):
    files = save_figure(figure, tmp_path / "new" / "figure", ["svg", "png", "pdf"])
    assert [file.suffix for file in files] == [".svg", ".png", ".pdf"]
    assert sorted(tmp_path.joinpath("new").iterdir()) == sorted(files)


def test_pdf_embeds_truetype_so_that_text_stays_text(figure, tmp_path):
    (file,) = save_figure(figure, tmp_path / "figure", ["pdf"])
    content = file.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_svg_needs_no_font(figure, tmp_path):
    (file,) = save_figure(figure, tmp_path / "figure", ["svg"])
    assert "<text" not in file.read_text()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_saving_again_gives_the_same_bytes(figure, tmp_path, kind):
    (first,), (second,) = (save_figure(figure, tmp_path / name, [kind]) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_save_leaves_the_old_file_and_nothing_half_written(figure, tmp_path, monkeypatch):
    (file,) = save_figure(figure, tmp_path / "figure", ["png"])
    before = file.read_bytes()

    def fail(path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, tmp_path / "figure", ["png"])
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def test_the_style_does_not_leak_into_other_figures(figure, tmp_path):
    before = dict(mpl.rcParams)
    save_figure(figure, tmp_path / "figure", ["png"])
    assert dict(mpl.rcParams) == before
