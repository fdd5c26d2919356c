"""`atmviz.inspect` and the command: figures, recordings, run folders and checkpoints say what they are."""

import copy
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from atmviz_cli.app import app
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

import atmviz
from atmviz.errors import AtmvizError, SettingsError
from atmviz.figures.saving import save_figure
from atmviz.files import find_checkpoint

PAGE = '<meta name="generator" content="atmviz 1"><script type="application/json" id="header">'
SAMPLE = Path(__file__).parent / "data/recording_schema_1.zip"


@pytest.fixture
def recording(tmp_path):
    shutil.unpack_archive(SAMPLE, tmp_path / "sample")
    return next(tmp_path.glob("sample/**/status")).parent


def test_a_figure_says_its_command_and_what_it_shows(tmp_path):
    (file,) = save_figure(Figure(figsize=(1, 1)), [tmp_path / "a.png"], {"model": "x"}, command="atmviz overlay")
    said = atmviz.inspect(file)
    assert (said["kind"], said["command"], said["shows"]) == ("figure", "atmviz overlay", {"model": "x"})


def test_no_file_says_of_itself_that_it_is_another(tmp_path):
    said = {"kind": "checkpoint", "path": "/another"}
    (figure,) = save_figure(Figure(figsize=(1, 1)), [tmp_path / "a.png"], {}, command="atmviz overlay")
    with Image.open(figure) as image:
        info = PngInfo()
        info.add_text("Software", image.info["Software"])
        info.add_text("Description", json.dumps(said))
        image.save(figure, pnginfo=info)
    page = tmp_path / "a.html"
    header = {"models": [{"name": "m"}], "software": "s", "command": "c", "about": said}
    page.write_text(f"{PAGE}{json.dumps(header)}</script>")
    for file, kind in ((figure, "figure"), (page, "page")):
        assert list(atmviz.inspect(file).items())[:2] == [("kind", kind), ("path", str(file))]


def test_a_page_that_never_ends_what_it_says_is_refused_at_once(tmp_path):
    (tmp_path / "a.html").write_text(PAGE * 200_000)
    begun = time.monotonic()
    with pytest.raises(SettingsError, match="is no page of the explorer, which says what it holds"):
        atmviz.inspect(tmp_path / "a.html")
    assert time.monotonic() - begun < 5


def test_a_page_larger_than_any_is_refused_unread(tmp_path):
    (tmp_path / "a.html").write_text(PAGE)
    os.truncate(tmp_path / "a.html", 2**30)
    with pytest.raises(SettingsError, match=r"cannot read .*a.html \(1,073,741,824 bytes, larger than 64,000,000\)"):
        atmviz.inspect(tmp_path / "a.html")


@pytest.mark.parametrize("path", [None, 3, b"a.png", []])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(SettingsError, match="as a path, expected a figure, a page"):
        atmviz.inspect(path)


def test_a_recording_says_its_network_images_and_quantities(recording):
    said = atmviz.inspect(recording)
    assert (said["kind"], said["model"], said["complete"]) == ("recording", "atmnet_nano", True)
    assert said["precision"] == "fp32"  # of a recording that does not name it
    assert said["quantities"]["offset"] == "offsets of the query token, positive to the right and down, tokens"
    assert json.loads(json.dumps(said)) == said


@pytest.mark.parametrize("where", ["name", "file", "run folder"])
def test_a_checkpoint_says_its_network_and_origin(where, tmp_path):
    bundled = find_checkpoint("atmnet_nano.shapes")
    shutil.copy(bundled, tmp_path / "best.safetensors")
    said = atmviz.inspect({"name": "atmnet_nano.shapes", "file": bundled, "run folder": tmp_path}[where])
    assert (said["kind"], said["model"], said["weights"], said["tensors"]) == ("checkpoint", "atmnet_nano", "ema", 500)
    assert json.loads(json.dumps(said)) == said


def test_the_command_shows_the_settings_of_a_recipe_that_are_not_the_usual_ones():
    shown, whole = (CliRunner().invoke(app, ["inspect", "atmnet_nano.shapes", *more]) for more in ((), ("--json",)))
    recipe = json.loads(whole.stdout)["training_info"]["recipe"]
    lines = [line for line in shown.stdout.splitlines() if line.startswith("training_info recipe ")]
    assert "training_info recipe lr: 0.002" in lines
    assert not any("weight_decay" in line for line in lines)
    assert lines[-1] == (
        f"training_info recipe defaults: {len(recipe) - len(lines) + 1} other settings; --json prints all"
    )


def test_a_photograph_is_refused_with_what_is_expected(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(600))
    with pytest.raises(AtmvizError, match=r"photo.jpg is an image, expected a checkpoint: choose another file"):
        atmviz.inspect(tmp_path / "photo.jpg")


def test_a_name_that_atmviz_or_a_recording_has_not_names_the_nearest(recording):
    with pytest.raises(AttributeError, match=r"atmviz has no 'overlai'; did you mean overlay\?"):
        atmviz.overlai  # noqa: B018
    opened = atmviz.open_recording(recording)
    with pytest.raises(AttributeError, match=r"a recording has no 'offset'; did you mean offsets\?"):
        opened.offset  # noqa: B018
    assert copy.copy(opened).model == opened.model
    with pytest.raises(AtmvizError, match=r"no recording in .*; did you mean .*\?"):
        atmviz.open_recording(recording.with_name(f"{recording.name}x"))


@pytest.mark.parametrize("name", ["nowhere.png", "nowhere", "empty", "text.png", "text.pth", ""])
def test_other_things_are_refused_in_one_line(tmp_path, name):
    (tmp_path / "empty").mkdir()
    for text in ("text.png", "text.pth"):
        (tmp_path / text).write_text("no figure")
    with pytest.raises(AtmvizError) as error:
        atmviz.inspect(tmp_path / name)
    assert "\n" not in str(error.value)
