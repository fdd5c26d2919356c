"""`atmviz overlay`: files, the numbers said, and every form of query."""

import csv
import json
import os
import re

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from atmviz.checkpoints import load_model
from atmviz.geometry import Preprocessing
from atmviz.observe import find_sites, observe_image
from atmviz.sources.decoding import load_image

SMALL = ("--size", "64")


@pytest.fixture
def blank(monkeypatch):
    """Draw nothing: for tests of what is sampled and said, not of the figure."""
    monkeypatch.setattr("atmviz.views.overlays.draw_overlay", lambda *_, **__: Figure(figsize=(1, 1)))


@pytest.fixture
def photo(tmp_path):
    """64 pixels high, 128 wide: 4 x 8 tokens of 16 pixels in stage 3 at 64 px."""
    pixels = np.random.default_rng(1).integers(0, 255, (64, 128, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_files_are_named_after_image_and_model_and_written_in_each_format(succeed, folder, photo):
    result = succeed("overlay", photo, *SMALL, "--out", "figures", "--format", "svg,png", "-c", "atmnet_nano")
    svg, png, table = result.stdout.splitlines()
    assert re.fullmatch(r"figures/photo_atmnet_nano_overlay_3_18_\w{8}\.svg", svg)
    assert [png, table] == [svg.replace(".svg", ".png"), svg.replace(".svg", ".csv")]
    assert len(list(folder.rglob("*.*"))) == 3
    assert "untrained weights" in result.stderr


def test_json_holds_the_numbers_that_are_drawn_and_is_all_there_is_on_stdout(succeed, checkpoint, photo):
    result = succeed("overlay", photo, *SMALL, "-c", checkpoint, "--query", "1:6", "--layer", "3_18", "--json")
    said = json.loads(result.stdout)
    assert (said["model"], said["trained"], said["skipped"]) == ("atmnet_nano", True, {})
    (image,) = said["images"]
    (panel,) = image["panels"]
    file, table = image["files"]
    assert table == file.replace(".png", ".csv")
    assert re.fullmatch(r"photo_atmnet_nano-[0-9a-f]{6}_overlay_3_18_\w{8}\.png", file)
    assert (panel["layer"], panel["source"], panel["map_size"]) == ("3_18", "3_13", [4, 8])
    assert (panel["query_token"], panel["query_px"]) == ([1, 6], [16 * 6 + 7.5, 16 * 1 + 7.5])

    network = load_model(checkpoint, device="cpu")
    observed = observe_image(
        network, load_image(photo), Preprocessing((64, 64), "whole"), find_sites(network, ["3_18"])
    )
    nearest = np.rint(np.repeat(observed.offsets["3_18"][1, 6], 4, axis=-1))
    for axis, own, size, sides in (("horizontal", 6, 8, ("left", "right")), ("vertical", 1, 4, ("top", "bottom"))):
        position = nearest[0 if axis == "horizontal" else 1] + own
        assert panel[axis] == [int((position == token).sum()) for token in range(size)]
        assert panel["outside"][sides[0]] == (position < 0).sum()
        assert panel["outside"][sides[1]] == (position >= size).sum()


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    ("query", "tokens"),
    [
        ("center", [[2, 4]]),
        ("centre", [[2, 4]]),
        ("0,0", [[0, 0]]),
        ("127,63", [[3, 7]]),
        ("100,20", [[1, 6]]),  # x, y
        ("0.9,0.3", [[1, 7]]),
        ("1:6", [[1, 6]]),  # row, column
        ("grid:2x4", [[r, c] for r in (1, 3) for c in (1, 3, 5, 7)]),
        ("random:5", None),
    ],
)
def test_every_form_of_query_names_its_tokens(succeed, photo, query, tokens):
    said = json.loads(succeed("overlay", photo, *SMALL, "--query", query, "--json").stdout)
    found = [panel["query_token"] for panel in said["images"][0]["panels"]]
    if tokens is None:
        assert len(found) == 5
        assert all(0 <= i < 4 and 0 <= j < 8 for i, j in found)
    else:
        assert found == tokens


@pytest.mark.usefixtures("blank")
def test_random_queries_are_drawn_by_seed(succeed, photo):
    def drawn(*seed):
        said = json.loads(succeed("overlay", photo, *SMALL, "-q", "random:6", "--layer", "1_1", *seed, "--json").stdout)
        return [panel["query_token"] for panel in said["images"][0]["panels"]]

    assert drawn() == drawn("--seed", "0") != drawn("--seed", "1")


@pytest.mark.usefixtures("blank")
def test_queries_and_layers_give_a_panel_each_and_stages_have_maps_of_their_own(succeed, photo):
    options = ("-q", "center", "-q", "0,0", "--layer", "2_1,3_18", "--json")
    said = json.loads(succeed("overlay", photo, *SMALL, *options).stdout)
    panels = said["images"][0]["panels"]
    assert [(panel["layer"], panel["query_token"], panel["map_size"]) for panel in panels] == [
        ("2_1", [4, 8], [8, 16]),
        ("3_18", [2, 4], [4, 8]),
        ("2_1", [0, 0], [8, 16]),
        ("3_18", [0, 0], [4, 8]),
    ]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(("anchor", "shift"), [("cell", 0), ("rf", -6.5)])
def test_the_anchor_moves_the_query_and_not_what_it_samples(succeed, photo, anchor, shift):
    said = json.loads(succeed("overlay", photo, *SMALL, "-q", "1:6", "--anchor", anchor, "--json").stdout)
    panel = said["images"][0]["panels"][0]
    assert panel["query_px"] == [103.5 + shift, 23.5 + shift]
    assert sum(panel["horizontal"]) + panel["outside"]["left"] + panel["outside"]["right"] == panel["channels"] == 64


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    ("fit", "map_size", "query_px"),
    [
        ((), [4, 8], [71.5, 39.5]),
        (("--fit", "squash"), [4, 4], [79.5, 39.5]),  # 40 of 64 input pixels across 128
        (("--fit", "crop"), [4, 4], [70.514, 38.075]),  # cut 64 x 64 from 73 x 146, at (4, 41)
    ],
)
def test_fits_place_the_map_on_the_photograph(succeed, photo, fit, map_size, query_px):
    said = json.loads(succeed("overlay", photo, *SMALL, *fit, "--json").stdout)
    panel = said["images"][0]["panels"][0]
    assert panel["map_size"] == map_size
    assert panel["query_px"] == pytest.approx(query_px, abs=1e-3)


@pytest.mark.usefixtures("blank")
def test_a_photograph_taken_sideways_is_turned_upright(succeed, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it
    Image.new("RGB", (128, 64)).save(tmp_path / "sideways.jpg", exif=exif)
    said = json.loads(succeed("overlay", tmp_path / "sideways.jpg", *SMALL, "-q", "20,100", "--json").stdout)
    panel = said["images"][0]["panels"][0]
    assert (panel["map_size"], panel["query_token"]) == ([8, 4], [6, 1])


def test_a_photograph_of_eight_megapixels_works(succeed, tmp_path):
    Image.linear_gradient("L").resize((3264, 2448)).convert("RGB").save(tmp_path / "large.jpg")
    said = json.loads(succeed("overlay", tmp_path / "large.jpg", *SMALL, "-q", "3263,2447", "--json").stdout)
    assert said["images"][0]["panels"][0]["query_token"] == [3, 5]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_photographs_of_other_kinds_work(succeed, tmp_path, mode):
    Image.new(mode, (80, 64)).save(tmp_path / "photo.tif")
    succeed("overlay", tmp_path / "photo.tif", *SMALL)


@pytest.mark.usefixtures("blank")
def test_the_bundled_photograph_is_drawn_without_a_source(succeed):
    said = json.loads(succeed("overlay", *SMALL, "--json").stdout)
    assert [image["image"] for image in said["images"]] == ["astronaut.jpg"]


@pytest.mark.usefixtures("blank")
def test_several_images_have_a_figure_each_also_when_their_names_are_equal(succeed, folder, images, tmp_path):
    (tmp_path / "noise" / "below").mkdir()
    (images / "a.png").rename(images / "below" / "b.png")
    files = succeed("overlay", images, *SMALL).stdout.splitlines()
    assert len(set(files)) == 6
    assert sorted(files) == sorted(file.name for file in folder.iterdir())


@pytest.mark.usefixtures("blank")
def test_corrupt_images_among_good_ones_are_left_out_and_named(succeed, damaged_images):
    result = succeed("overlay", damaged_images, *SMALL, "--json")
    said = json.loads(result.stdout)
    assert len(said["images"]) == 3
    assert list(said["skipped"]) == ["broken.png"]
    assert "skipped 1 unreadable image: broken.png" in result.stderr


@pytest.mark.usefixtures("blank")
def test_strict_stops_at_a_corrupt_image(run, damaged_images):
    result = run("overlay", damaged_images, *SMALL, "--strict")
    assert result.exit_code == 1
    assert "broken.png" in result.stderr.splitlines()[-1]


def test_more_panels_than_a_figure_can_show_are_refused(refuse, images):
    refuse(2, "expected at most 256 panels", "overlay", *sorted(images.glob("*"))[:1], *SMALL, "--query", "grid:20x20")


def test_a_name_that_looks_like_a_formula_is_text(succeed, images):
    photo = sorted(images.glob("*"))[0].rename(images / "x_$_{$.png")
    succeed("overlay", photo, *SMALL)


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    "names",
    [
        ["x" * 240 + "1.png", "x" * 240 + "2.png"],
        ["写" * 80 + ".png", "龍.png"],
        [os.fsdecode(b"\xff.png"), os.fsdecode(b"\xfe.png"), "\x1b[2J.png", "\u202e.png"],
        ["a/b.png", "a-b.png", "a-b.jpg", "c/b.png"],
    ],
    ids=["long", "of three bytes a sign", "not UTF-8 and acting", "alike"],
)
def test_every_image_has_a_figure_of_its_own_that_is_there(succeed, folder, photo, names):
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(photo.read_bytes())
    queries = [part for k in range(9) for part in ("--query", f"0.{k}1111111,0.5")]
    for more in ([], queries):
        said = json.loads(succeed("overlay", "in", *SMALL, "--out", "figures", *more, "--json").stdout)
        assert sorted(image["image"] for image in said["images"]) == sorted(names)
        files = {file for image in said["images"] for file in image["files"]}
        assert len(files) == 2 * len(names)
        assert all((folder / file).is_file() for file in files)
    assert len(list((folder / "figures").iterdir())) == 4 * len(names)


@pytest.mark.parametrize(
    "name", ["写真 한국어.png", os.fsdecode(b"\xff\xfe.png"), "\x1b[31m\u202e.png", "new\nline.png"]
)
def test_a_name_in_any_script_is_drawn_without_a_warning(succeed, folder, photo, name):
    photo.rename(folder / name)
    result = succeed("overlay", name, *SMALL, "--format", "png,pdf,svg", "-c", "atmnet_nano")
    assert len(result.stdout.splitlines()) == 4


def test_random_queries_of_other_seeds_are_other_figures(succeed, folder, photo, blank):
    for seed in ("0", "1"):
        succeed("overlay", photo, *SMALL, "-q", "random:2", "--seed", seed, "-c", "atmnet_nano")
    assert len(list(folder.glob("photo_atmnet_nano_overlay_3_18_*.png"))) == 2


@pytest.mark.parametrize(
    ("fit", "size", "seen", "crop_pct", "said"),
    [
        ("whole", "64", 1, None, "not cropped: 100 % of the photograph is seen"),
        ("squash", "64", 1, None, "squashed, not cropped: 100 % of the photograph is seen"),
        ("crop", "64", 64 * 64 / (73 * 146), 0.875, "center crop: 38 % of the photograph is seen"),
        ("crop", "512x512", 0.5, 1, "center crop: 50 % of the photograph is seen"),  # the README's Fig. 5
        ("crop", "600x800", 800 / 1200, 1, "center crop: 67 % of the photograph is seen"),
    ],
)
def test_the_crop_follows_from_the_size_and_is_said(succeed, monkeypatch, photo, fit, size, seen, crop_pct, said):
    notes = []
    monkeypatch.setattr(
        "atmviz.views.overlays.draw_overlay", lambda *_, note, **__: notes.append(note) or Figure((1, 1))
    )
    options = ("--fit", fit, "--size", size, "--layer", "4_1", "--json")
    found = json.loads(succeed("overlay", photo, *options).stdout)
    assert found["images"][0]["seen"] == pytest.approx(seen, abs=2e-3)
    assert (found["preprocessing"]["fit"], found["preprocessing"]["crop_pct"]) == (fit, crop_pct)
    assert notes[0].endswith(said)


def test_a_montage_is_one_figure_of_all_images_with_one_table(succeed, folder, damaged_images):
    said = json.loads(succeed("overlay", damaged_images, *SMALL, "--montage", "--layer", "2_1,3_18", "--json").stdout)
    (figure,) = said["images"]
    assert len(figure["files"]) == 2
    assert list(said["skipped"]) == ["broken.png"]
    shown = figure["montage"]
    assert [(image["image"], len(image["panels"])) for image in shown] == [(image["image"], 2) for image in shown]
    assert len(shown) == 3
    with (folder / figure["files"][1]).open() as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {image["image"] for image in shown}
    for image in shown:
        for panel in image["panels"]:
            counted = [row for row in rows if (row["image"], row["layer"]) == (image["image"], panel["layer"])]
            assert sum(int(row["channels"]) for row in counted) == 2 * panel["channels"]


def test_figure_5_is_a_montage_at_its_size_of_the_images_given(succeed, folder, images):
    said = json.loads(succeed("overlay", images, "--figure", "5", "--json").stdout)
    (figure,) = said["images"]
    assert [image["input_size"] for image in figure["montage"]] == [[512, 512]] * 3
    assert {panel["layer"] for image in figure["montage"] for panel in image["panels"]} == {"3_18"}
    assert {tuple(panel["map_size"]) for image in figure["montage"] for panel in image["panels"]} == {(32, 32)}


def test_figure_5_without_images_takes_four_of_ade20k(succeed, tmp_path):
    folder = tmp_path / "ADEChallengeData2016" / "images" / "validation"
    folder.mkdir(parents=True)
    for number in range(1, 7):
        Image.new("RGB", (80, 64), (40 * number, 0, 0)).save(folder / f"ADE_val_{number:08}.jpg")
    options = ("--figure", "5", "--data-dir", tmp_path, "--size", "64", "--layer", "4_1", "--json")
    (figure,) = json.loads(succeed("overlay", *options).stdout)["images"]
    assert len(figure["montage"]) == 4
    assert [image["input_size"] for image in figure["montage"]] == [[64, 64]] * 4


@pytest.mark.parametrize("view", ["density", "fusion"])
def test_other_views_have_files_of_their_own(succeed, folder, photo, view):
    files = {
        file for option in ((), ("--view", view)) for file in succeed("overlay", photo, *SMALL, *option).stdout.split()
    }
    assert len(files) == 4
    assert all((folder / file).is_file() for file in files)


def test_the_style_of_a_figure_is_set_by_options(succeed, folder, photo):
    options = ["--width", "8cm", "--no-title", "--no-legend", "--axis", "horizontal", "--font-size", "8"]
    file = succeed("overlay", photo, *SMALL, *options).stdout.split()[0]
    with Image.open(folder / file) as image:
        assert image.width / image.info["dpi"][0] == pytest.approx(8 / 2.54, abs=0.01)
    said = json.loads(succeed("overlay", photo, *SMALL, "--axis", "horizontal", "--json").stdout)
    (panel,) = said["images"][0]["panels"]
    assert "vertical" not in panel
    assert set(panel["outside"]) == {"left", "right"}


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ("got width 'wide'", ("--width", "wide")),
        ("got figure 3, expected 5", ("--figure", "3")),
        ("expected at most 256 panels", ("--query", "grid:20x20")),
        ("got palette nocolors", ("--palette", "nocolors")),
    ],
)
def test_styles_and_figures_that_do_not_exist_are_refused(refuse, photo, says, options):
    refuse(2, says, "overlay", photo, *SMALL, *options)


def test_random_weights_follow_the_seed(succeed, photo, blank):
    command = ("overlay", photo, *SMALL, "-c", "atmnet_nano", "--layer", "3_1", "--json")
    first, second, again = (
        json.loads(succeed(*command, "--seed", seed).stdout)["images"][0]["panels"] for seed in (1, 2, 1)
    )
    assert first == again != second


@pytest.fixture
def clip(folder):
    writer = cv2.VideoWriter("clip.mp4", cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (128, 64))
    for pixels in np.random.default_rng(1).integers(0, 255, (3, 64, 128, 3), np.uint8):
        writer.write(pixels)
    writer.release()
    return folder / "clip.mp4"


def test_a_clip_becomes_a_moving_picture_with_its_jitter(succeed, folder, clip):
    said = json.loads(succeed("overlay", clip, *SMALL, "--dpi", "30", "--layer", "3_18", "--json").stdout)
    (moving,) = said["images"]
    file, table = moving["files"]
    assert re.fullmatch(r"clip_atmnet_nano-8cf39f_overlay_3_18_\w{8}\.mp4", file)
    assert table == file.replace(".mp4", ".csv")
    assert (moving["frames"], moving["frames_per_second"]) == (3, 25)
    assert [(row["layer"], row["source"], row["axis"]) for row in moving["rows"]] == [
        ("3_18", "3_13", "horizontal"),
        ("3_18", "3_13", "vertical"),
    ]
    assert all(row["jitter"] > 0 for row in moving["rows"])
    assert {path.name for path in folder.iterdir()} == {"clip.mp4", file, table}
    assert "kind: figure" in succeed("inspect", file).stdout


def test_images_move_where_the_file_to_write_does(succeed, photo, folder):
    args = ("overlay", photo, photo.parent / "photo.png", *SMALL, "--dpi", "30", "--out", "a.gif")
    assert succeed(*args).stdout.split() == ["a.gif", "a.csv"]
    said = json.loads(succeed("overlay", photo, *SMALL, "--dpi", "30", "-q", "path:0,0;1,1", "--json").stdout)
    assert [image["frames"] for image in said["images"]] == [26]
    assert said["images"][0]["files"][0].endswith(".gif")
    assert said["images"][0]["rows"] == []


@pytest.mark.parametrize(
    ("code", "says", "options"),
    [
        (2, "got out a.png for a moving picture, expected a folder, or a file .mp4 or .gif", ("--out", "a.png")),
        (2, "got out a.avi for a moving picture", ("--out", "a.avi")),
        (2, "got formats png for a moving picture", ("--format", "png")),
        (2, "got a montage for a moving picture", ("--montage",)),
        (2, "expected 2 to 100 points", ("--query", "path:0.5,0.5")),
        (2, "expected 2 to 100 points", ("--query", "path:0.5,0.5;3,4")),
        (2, "clip.mp4 exists and is no figure of atmviz", ("--out", "clip.mp4")),
    ],
)
def test_moving_pictures_that_cannot_be_written_are_refused(refuse, clip, code, says, options):
    refuse(code, says, "overlay", clip, *SMALL, *options)


@pytest.mark.parametrize(
    "command",
    ["overlay", "histogram", "claims", "depth", "adaptivity", "intervene", "overlay --query path:0,0;1,1"],
)
def test_no_model_is_loaded_where_the_file_belongs_to_others(refuse, folder, command):
    moves = "path:" in command
    (file := folder / f"taken.{'gif' if moves else 'png'}").write_bytes(b"mine")
    said = refuse(2, f"{file.name} exists and is no figure of atmviz", *command.split(), "--out", file)
    assert len(said.stderr.splitlines()) == 1  # nothing of a checkpoint


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", b"\0\0\0\x18ftypmp42" + bytes(64)])
def test_damaged_clips_are_refused_in_one_line(refuse, folder, content):
    (folder / "a.mp4").write_bytes(content)
    refuse(1, "cannot read clip a.mp4", "overlay", "a.mp4", *SMALL)


def test_what_a_clip_loses_is_said(succeed, folder):
    images = [Image.new("RGB", (64, 64), (60 * number, 0, 0)) for number in range(4)]
    images[0].save("v.gif", save_all=True, append_images=images[1:], duration=[40, 40, 400, 40])
    result = succeed("overlay", "v.gif", *SMALL, "--dpi", "30", "--out", "moving.mp4")
    assert "v.gif: its frames are not evenly spaced: they are shown at their mean rate" in result.stderr
