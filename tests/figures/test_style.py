"""The look of figures: fonts, sizes of type, style files, palettes, whatever the user's settings."""

import re
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from atmviz.errors import SettingsError
from atmviz.figures.saving import FORMATS, save_figure
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import (
    COLORS,
    Look,
    add_note,
    drawable,
    figure_style,
    palette_colors,
    wrap_note,
    wrap_title,
)


def test_pdf_embeds_truetype_so_that_text_stays_text(figure, tmp_path):
    (file,) = save_figure(figure, [tmp_path / "figure.pdf"])
    content = file.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_text_of_an_svg_stays_text(figure, tmp_path):
    (file,) = save_figure(figure, [tmp_path / "figure.svg"])
    assert re.search(r"<text[^>]*>Offsets 3_18</text>", file.read_text())


def test_the_style_does_not_leak_into_other_figures(figure, tmp_path):
    before = dict(mpl.rcParams)
    save_figure(figure, [tmp_path / "figure.png"])
    assert dict(mpl.rcParams) == before


USERS = {
    "astronomer": {"image.origin": "lower", "image.cmap": "gray", "image.interpolation": "nearest"},
    "paper writer": {"text.usetex": True, "font.family": "serif", "font.size": 20, "text.parse_math": True},
    "saver": {"savefig.transparent": True, "savefig.bbox": "tight", "savefig.dpi": 30, "savefig.facecolor": "red"},
    "layouter": {"figure.autolayout": True, "figure.dpi": 30, "figure.facecolor": "black", "axes.grid": True},
    "dark": {"axes.facecolor": "black", "text.color": "white", "axes.titlesize": 30, "path.simplify": False},
}


@pytest.mark.parametrize("settings", USERS.values(), ids=USERS)
def test_a_user_s_settings_change_no_figure_and_stay(tmp_path, settings):
    def draw(name):
        with figure_style():
            figure = Figure(figsize=(2, 1))
            figure.subplots().imshow(np.arange(12).reshape(3, 4))
            figure.suptitle("Offsets 3_18")
        return save_figure(figure, [tmp_path / f"{name}.png"])[0].read_bytes()

    plain = draw("plain")
    with mpl.rc_context(settings):
        before = dict(mpl.rcParams)
        assert draw("custom") == plain
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café Ωμέγα Привет × – … $x_1$", "café Ωμέγα Привет × – … $x_1$"),
        ("写真.jpg", r"\u5199\u771f.jpg"),
        ("\x1b[2J\n\u202egpj\udcff", r"\x1b[2J\n\u202egpj\udcff"),
        ("हि", r"\u0939\u093f"),
        ("\U0001f9ff", r"\U0001f9ff"),
        ("x" * 41, "x" * 39 + "…"),
        ("写" * 40, (r"\u5199" * 7)[:39] + "…"),
    ],
)
def test_signs_that_the_font_lacks_are_shown_escaped(text, shown):
    assert drawable(text, 40) == shown


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_any_text_is_drawn_without_a_warning(tmp_path, kind):
    text = "写真 한국어 हिन्दी עברית \x1b[2J \u202e \udcff \U0001f9ff $x_{$ {} % \\alpha"
    with figure_style():
        figure = Figure(figsize=(4, 1))
        figure.suptitle(wrap_title(text, 4)[0])
        add_note(figure, wrap_note(text, 4, None)[0], None)
    save_figure(figure, [tmp_path / f"figure.{kind}"])


def test_a_long_note_and_a_warning_lie_below_one_another(unreadable):
    note, foot = wrap_note("what is shown, and of what " * 12, 5.8, None)
    with figure_style():
        figure = Figure(figsize=(5.8, foot))
        add_note(figure, note, None)
    assert len(figure.texts) == 2
    assert unreadable(figure, tolerance=0) == []


@pytest.mark.parametrize(
    ("style", "width", "points", "dpi"),
    [
        ({}, None, 9, 200),
        ({"width": "column"}, 3.25, 7, 200),
        ({"width": "8cm", "dpi": 600}, 8 / 2.54, 7, 600),
        ({"width": "text"}, 6.875, 8, 200),
        ({"width": "slide"}, 10, 12, 200),
        ({"width": "slide", "font_size": 20}, 10, 20, 200),
    ],
)
def test_a_width_brings_its_size_of_type(style, width, points, dpi):
    look = Look.of(FigureStyle(**style))
    assert (look.width, look.points, look.dpi) == (pytest.approx(width) if width else None, points, dpi)
    assert min(value for name, value in look.rc.items() if name.endswith("labelsize")) >= 6


def test_a_style_file_sets_looks_and_nothing_else(tmp_path):
    file = tmp_path / "paper.mplstyle"
    file.write_text(
        '# a comment\nfont.size: 6.5\nfigure.figsize: 3.5, 2\naxes.edgecolor: "#ff0000"  # red\nsavefig.dpi: 450\n'
        "text.usetex: True\nbackend: TkAgg\naxes.prop_cycle: cycler('color', ['r'] * 10**9)\nsavefig.directory: /\n"
        "font.family: serif\nfont.serif: No Such Font, DejaVu Serif\n"
    )
    look = Look.of(FigureStyle(style=file))
    assert (look.width, look.points, look.dpi, look.rc["axes.edgecolor"]) == (3.5, 6.5, 450, "#ff0000")
    assert look.rc["font.family"] == ["DejaVu Serif", "DejaVu Sans"]
    assert not {"text.usetex", "backend", "axes.prop_cycle", "savefig.directory"} & look.rc.keys()
    ours = Look.of(FigureStyle(style=file, width=5, font_size=10, dpi=100))
    assert (ours.width, ours.points, ours.dpi, ours.rc["xtick.labelsize"]) == (5, 10, 100, 9)


def test_a_style_is_known_by_its_name_too():
    assert Look.of(FigureStyle(style="dark_background")).rc["axes.edgecolor"] == "white"


def test_fonts_that_are_missing_are_replaced_without_a_warning(tmp_path, caplog):
    file = tmp_path / "paper.mplstyle"
    file.write_text("font.family: No Such Font\n")
    look = Look.of(FigureStyle(style=file))
    with warnings.catch_warnings(), look.applied():
        warnings.simplefilter("error")
        figure = Figure(figsize=(2, 1))
        figure.suptitle("offsets")
        save_figure(figure, [tmp_path / f"figure.{kind}" for kind in FORMATS])
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ({"style": "nowhere.mplstyle"}, "cannot read style nowhere.mplstyle (No such file"),
        ({"palette": "nowhere"}, "got palette nowhere"),
        ({"palette": "red,bleu"}, "got palette red,bleu, in which bleu is no color: expected"),
    ],
)
def test_styles_and_palettes_that_are_none_are_refused(style, message):
    with pytest.raises(SettingsError) as error:
        Look.of(FigureStyle(**style))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_kind_of_font_is_the_first_of_that_kind_that_exists(tmp_path):
    file = tmp_path / "paper.mplstyle"
    file.write_text("font.family: serif\n")
    assert "DejaVu Serif" in Look.of(FigureStyle(style=file)).rc["font.family"]


@pytest.mark.parametrize("line", ["font.size: huge", "axes.edgecolor: bleu", "axes.no_such: 1", "fnot.size: 10"])
def test_a_style_file_with_a_wrong_line_is_refused(tmp_path, line):
    file = tmp_path / "paper.mplstyle"
    file.write_text(f"font.size: 7\n{line}\n")
    with pytest.raises(SettingsError, match="cannot use style"):
        Look.of(FigureStyle(style=file))


def test_a_palette_colors_the_axes_and_the_query():
    colors = Look.of(FigureStyle(palette="#112233,teal")).colors
    assert (colors["horizontal"], colors["vertical"]) == ("#112233", "#008080")
    assert colors["query"] == COLORS["query"]
    assert len(set(Look.of(FigureStyle(palette="viridis")).colors.values())) == 4


@pytest.mark.parametrize(
    ("palette", "colors"), [("red, Blue", ["#ff0000", "#0000ff"]), ("viridis", 5), ("colorblind", 5)], ids=str
)
def test_a_palette_gives_its_own_colors_or_as_many_as_are_asked_for(palette, colors):
    made = palette_colors(palette, 5)
    assert made == colors if isinstance(colors, list) else len(set(made)) == colors


@pytest.mark.parametrize("width", ["0in", "-3", "1e9", "3.25 furlong", "100in", 0, None, [3], "", "nan", True])
def test_widths_that_are_none_are_refused(width):
    if width is None:
        assert FigureStyle(width=None).width is None
        return
    with pytest.raises(SettingsError, match="got width"):
        FigureStyle(width=width)
