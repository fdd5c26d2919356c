"""Saved figures: names, formats, metadata, whole files only, the same bytes again."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image

from atmviz.errors import SettingsError
from atmviz.figures.saving import FORMATS, figure_files, figure_name, fingerprint, read_about, save_figure, weights_name

ABOUT = {
    "figure": "overlay",
    "model": "atmnet_nano",
    "data": {"image": "写真 (1) \\ a.jpg\n</dc:description>"},
    "n": 0.1,
}


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml version")]
)
def test_every_format_is_written_as_what_it_is_called(figure, tmp_path, kind, start):
    (file,) = save_figure(figure, [tmp_path / "new" / f"a.b.{kind}"])
    assert file.read_bytes().startswith(start)
    assert list(tmp_path.joinpath("new").iterdir()) == [file]


@pytest.mark.parametrize("kind", FORMATS)
def test_saving_again_gives_the_same_bytes(figure, tmp_path, kind):
    files = [save_figure(figure, [tmp_path / f"{name}.{kind}"], ABOUT)[0] for name in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_equal_figures_give_the_same_svg_wherever_they_lie_in_memory(tmp_path):
    files, figures = [], []
    for name in ("first", "second"):
        figures.append(Figure(figsize=(2, 1)))  # kept, so that the second lies elsewhere
        axes = figures[-1].subplots()
        for side in (0.2, 0.5):
            axes.bar([side], [1])[0].set_clip_path(Polygon([[0, 0], [1, 0], [side, 1]], transform=axes.transData))
        files += save_figure(figures[-1], [tmp_path / f"{name}.svg"], {"p": "p0123456789"})
    text = files[0].read_text("utf-8")
    assert text == files[1].read_text("utf-8")
    clips = re.findall('<clipPath id="(.*)">', text)
    assert len(set(clips)) == len(clips) >= 2
    assert set(re.findall(r"url\(#(.*?)\)", text)) <= set(clips)
    assert read_about(files[0])["shows"] == {"p": "p0123456789"}


def test_a_failed_save_leaves_all_old_files_and_nothing_half_written(figure, tmp_path, monkeypatch):
    files = save_figure(figure, [tmp_path / "figure.svg", tmp_path / "figure.png"], ABOUT)
    before = [file.read_bytes() for file in files]
    plain = figure.savefig

    def fail(path, **settings):
        plain(path, **settings)
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, files, {**ABOUT, "n": 2})
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("kind", FORMATS)
def test_only_figures_of_atmviz_are_replaced(figure, tmp_path, kind):
    files = save_figure(figure, [tmp_path / f"ours.{kind}"], ABOUT)
    assert save_figure(figure, files) == files
    Image.new("RGB", (4, 4)).save(tmp_path / f"photo.{kind}", "PNG")
    before = (tmp_path / f"photo.{kind}").read_bytes()
    with pytest.raises(SettingsError, match=f"photo.{kind} exists and is no figure of atmviz"):
        save_figure(figure, [tmp_path / f"new.{kind}", tmp_path / f"photo.{kind}"])
    assert (tmp_path / f"photo.{kind}").read_bytes() == before
    assert not (tmp_path / f"new.{kind}").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_figure_says_what_it_shows_and_which_command_drew_it(figure, tmp_path, kind):
    command = "atmviz overlay '写真 (1).jpg' --query \"0.3,0.6\" \\ </svg> )"
    (file,) = save_figure(figure, [tmp_path / f"figure.{kind}"], ABOUT, command=command)
    said = read_about(file)
    assert said.pop("software").startswith("atmviz ")
    assert said == {"command": command, "shows": ABOUT}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_figure_that_says_nothing_is_still_one_of_atmviz(figure, tmp_path, kind):
    (file,) = save_figure(figure, [tmp_path / f"figure.{kind}"])
    assert list(read_about(file)) == ["software"]


@pytest.mark.parametrize("kind", FORMATS)
def test_other_files_are_no_figures_of_atmviz(tmp_path, kind):
    theirs = Figure(figsize=(1, 1))
    theirs.savefig(tmp_path / f"theirs.{kind}")
    (tmp_path / f"text.{kind}").write_text("(" * 10**6)
    (tmp_path / f"empty.{kind}").touch()
    Image.new("RGB", (4, 4)).save(tmp_path / f"photo.{kind}", "PNG")
    assert {read_about(file) for file in tmp_path.iterdir()} == {None}
    assert read_about(tmp_path / "photo.jpg") is None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("text", ["[" * 10**5, "null", "{", "\\"])
def test_metadata_of_unknown_origin_is_read_without_harm(figure, tmp_path, kind, text, monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda *_, **__: text)
    (file,) = save_figure(figure, [tmp_path / f"figure.{kind}"], ABOUT)
    assert list(read_about(file)) == ["software"]


def test_out_is_a_folder_or_a_file(tmp_path):
    assert [str(file) for file in figure_files("out", "a.b")] == ["out/a.b.png"]
    assert [str(file) for file in figure_files("out.v2/", "a", ["pdf", "svg"])] == ["out.v2/a.pdf", "out.v2/a.svg"]
    assert [str(file) for file in figure_files("new/fig.PDF", "a")] == ["new/fig.PDF"]
    (tmp_path / "folder.pdf").mkdir()
    assert figure_files(tmp_path / "folder.pdf", "a") == [tmp_path / "folder.pdf/a.png"]


@pytest.mark.parametrize(("out", "formats"), [("a.jpg", None), ("a.eps", None), ("a.csv", None), ("a.pdf", ["png"])])
def test_files_of_other_formats_are_refused(out, formats):
    with pytest.raises(SettingsError, match=f"got out {out}"):
        figure_files(out, "name", formats)


ODD = ["../../etc/passwd", "/abs", "..", "", "\x1b[2J", "\udcff", "写" * 100, "x" * 300, "x" * 299 + "y", "a/b", "a-b"]
LAYERS = ["2_1", "3_18"]


def name(subject="photos", weights="atmnet_nano", layers=LAYERS, about=ABOUT):
    return figure_name(subject, "overlay", weights, layers, about)


def test_plain_names_are_as_they_are():
    end = fingerprint(ABOUT)
    assert name() == f"photos_atmnet_nano_overlay_2_1-3_18_{end}"
    assert name(layers=list("abcdefg")) == f"photos_atmnet_nano_overlay_7-layers_{end}"
    assert weights_name("atmnet_nano", False, "8cf39f00") == "atmnet_nano"
    assert weights_name("atmnet_nano", True, "8cf39f00") == "atmnet_nano-8cf39f"
    assert weights_name("semantic_fpn(atmnet_nano)", None, "8cf39f00") == "semantic_fpn-atmnet_nano-8cf39f"


@pytest.mark.parametrize("what", ["subject", "weights"])
def test_any_text_gives_a_name_of_its_own_within_the_folder(tmp_path, what):
    names = [name(**{what: text, "about": {"text": text}}) for text in ODD]
    for each in names:
        assert len(f"{each}.partial".encode()) < 200
        tmp_path.joinpath(f"{each}.png").touch()
    assert len(list(tmp_path.iterdir())) == len(ODD)


def test_figures_that_differ_in_anything_have_other_names():
    rng = np.random.default_rng(0)
    values = [{"queries": rng.normal(size=2).round(3).tolist(), "layers": str(k)} for k in range(2000)]
    values += [{"a": 1}, {"a": "1"}, {"a": None}, {"a": [1]}, {"a": 1.5}, {"a": True}, {}, {"b": 1}]
    assert len({name("x" * 300, about=about) for about in values}) == len(values)
    assert name(about={"a": 1, "b": 2}) == name(about={"b": 2, "a": 1})
