"""Moving overlays: frame k is the overlay of frame k, all frames have one size, and offsets are compared in time."""

import csv
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

import atmviz
from atmviz.errors import DatasetError, SettingsError
from atmviz.events import Events
from atmviz.figures.moving import pixels_of
from atmviz.figures.saving import read_about
from atmviz.figures.style import Look
from atmviz.geometry import Preprocessing
from atmviz.observe import find_sites, observe_image
from atmviz.sources.clips import open_clip
from atmviz.views import draw_moving

SMALL = {"size": 64, "layers": "3_18"}


def pictures(count):
    """Noise that moves to the right."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 72, 3), np.uint8)
    return [np.roll(noise, 6 * number, axis=1) for number in range(count)]


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (72, 48))
    for pixels in pictures(5):
        writer.write(pixels[:, :, ::-1])
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames").mkdir()
    for number, pixels in enumerate(pictures(4)):
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{number:03}.png")
    return tmp_path / "frames"


def drawn(*args, **settings):
    (moving,) = draw_moving(*args, **SMALL | settings)
    return moving


def placed_as(figure, other):
    """Give a figure the size of another, with its axes in the same places."""
    figure.set_size_inches(other.get_size_inches())
    for axes, place in zip(figure.axes, other.axes, strict=True):
        axes.set_position(place.get_position())
    return figure


def panels(figure):
    """The pixels of the axes of a figure, with what is drawn just beyond them, but without titles."""
    for axes in figure.axes:
        axes.set_title("")
        for text in [text for text in axes.texts if "query token" in text.get_text()]:
            text.remove()
    pixels = pixels_of(figure, Look.of(), 100)
    height, width, _ = pixels.shape
    boxes = [axes.get_position() for axes in figure.axes]
    return [
        pixels[
            int((1 - box.y1) * height) - 24 : int((1 - box.y0) * height) + 24,
            int(box.x0 * width) - 24 : int(box.x1 * width) + 24,
        ]
        for box in boxes
    ]


@pytest.mark.parametrize(
    "settings",
    [{}, {"layers": ["2_1", "4_1"], "queries": ("0.1,0.2",)}, {"queries": ("0:0", "1:1")}],
    ids=["plain", "two layers", "two queries"],
)
def test_frame_k_is_the_overlay_of_frame_k(clip, nano, settings):
    frames = open_clip(clip)
    sizes = set()
    for index, figure, _, _ in drawn(clip, nano, every=2, **settings).overlays.figures():
        alone = atmviz.overlay(frames.read(index), nano, **SMALL | settings)
        sizes.add(pixels_of(figure, Look.of(), 100).shape)
        for moving, still in zip(panels(figure), panels(placed_as(alone, figure)), strict=True):
            assert moving.tolist() == still.tolist()
    assert len(sizes) == 1


@pytest.mark.parametrize("width", ["column", "slide"])
def test_axes_stay_in_place_whatever_is_sampled(photos, nano, width):
    walk = drawn(photos / "a.png", nano, layers=["1_1", "3_18"], width=width, queries="path:0.01,0.01;0.99,0.99")
    figures = [figure for index, figure, _, _ in walk.overlays.figures() if index % 5 == 0]
    assert len({tuple(figure.get_size_inches()) for figure in figures}) == 1
    assert len({str([axes.get_position() for axes in figure.axes[:2]]) for figure in figures}) == 1
    titles = [[text.get_text() for axes in figure.axes for text in axes.texts] for figure in figures]
    assert len({str(text) for text in titles}) == len(figures)  # query tokens and percentages differ


def test_what_is_written_is_what_was_drawn_at_the_rate_of_the_clip(clip, nano, tmp_path):
    moving = drawn(clip, nano, dpi=60)
    expected = [pixels_of(figure, Look.of(), 60) for _, figure, _, _ in drawn(clip, nano).overlays.figures()]
    file, _ = moving.save(tmp_path / "out.mp4")
    written = open_clip(file)
    assert (len(written), written.rate) == (5, 10)
    height, width, _ = expected[0].shape
    for number, pixels in enumerate(expected):
        assert np.abs(written.read(number)[:height, :width].astype(int) - pixels).mean() < 8
    assert (moving.numbers["frames"], moving.numbers["frames_per_second"]) == (5, 10)
    assert moving.numbers["size_px"] == [width, height]


def test_jitter_is_the_change_of_the_offsets_between_frames(clip, nano, tmp_path):
    moving = drawn(clip, nano, dpi=30, layers=["2_1", "3_18"])
    _, table = moving.save(tmp_path / "out.gif")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["frame"], row["time_s"]) for row in rows[::4]] == [
        ("1", "0.1"),
        ("2", "0.2"),
        ("3", "0.3"),
        ("4", "0.4"),
    ]
    sites = find_sites(nano, ["2_1", "3_18"])
    frames = open_clip(clip)
    seen = [observe_image(nano, frames.read(k), Preprocessing((64, 64), "whole"), sites).offsets for k in range(5)]
    for row in rows:
        axis, after = ("horizontal", "vertical").index(row["axis"]), int(row["frame"])
        change = np.abs(seen[after][row["layer"]] - seen[after - 1][row["layer"]])[:, :, axis].mean()
        assert float(row["jitter"]) == pytest.approx(change, rel=1e-5)
        assert change > 0.001
    means = {(row["layer"], row["axis"]): row["jitter"] for row in moving.numbers["rows"]}
    for (layer, axis), mean in means.items():
        of_one = [float(row["jitter"]) for row in rows if (row["layer"], row["axis"]) == (layer, axis)]
        assert mean == pytest.approx(np.mean(of_one))
    assert [row["source"] for row in rows[:4]] == ["2_1", "2_1", "3_13", "3_13"]


def test_every_second_frame_lasts_twice_as_long(clip, nano, tmp_path):
    moving = drawn(clip, nano, dpi=30, every=2)
    file, table = moving.save(tmp_path / "out.mp4")
    assert (len(open_clip(file)), open_clip(file).rate) == (3, 5)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["frame"], row["time_s"]) for row in rows[::2]] == [("2", "0.2"), ("4", "0.4")]


def test_a_folder_of_frames_moves_at_the_rate_asked_for(folder, nano, tmp_path):
    heard = []

    class Heard(Events):
        def images(self, done, total):
            heard.append((done, total))

    moving = drawn(folder, nano, fps=8, dpi=30, events=Heard())
    file, _ = moving.save(tmp_path / "out.mp4")
    assert (len(open_clip(file)), open_clip(file).rate) == (4, 8)
    assert heard == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    (figure,) = [figure for index, figure, _, _ in moving.overlays.figures() if index == 2]
    alone = placed_as(atmviz.overlay(folder / "002.png", nano, **SMALL), figure)
    assert panels(figure)[0].tolist() == panels(alone)[0].tolist()


def test_frames_of_other_sizes_are_refused_and_no_file_is_left(folder, nano, tmp_path):
    Image.new("RGB", (80, 48)).save(folder / "002.png")
    with pytest.raises(DatasetError, match=r"frame 002.png is 80x48 px, expected 72x48 px as the first"):
        drawn(folder, nano, dpi=30).save(tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir() if path.suffix or path.name.startswith(".")] == []


def test_a_query_walks_over_one_photograph(photos, nano, tmp_path):
    network_runs = []
    nano.register_forward_hook(lambda *_: network_runs.append(1))
    moving = drawn(photos / "a.png", nano, dpi=30, queries="path:0.1,0.1;0.9,0.9")
    (file,) = moving.save(tmp_path)
    assert file.suffix == ".gif"
    with Image.open(file) as image:
        assert (image.n_frames, image.info["duration"]) == (26, 80)
    assert len(network_runs) <= 1  # the photograph stands still
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a.png").write_bytes((photos / "a.png").read_bytes())
    again = drawn(tmp_path / "copy" / "a.png", nano, dpi=30, queries="path:0.1,0.1;0.9,0.9")
    assert again.overlays.about == moving.overlays.about  # not of times and folders
    tokens = [panel.queries[0].samples.query for _, (panel,), _ in moving.overlays.frames()]
    assert (tokens[0], tokens[-1]) == ((0, 0), (3, 5))
    assert tokens == sorted(tokens)
    for index, figure, _, _ in moving.overlays.figures():
        if index in (0, 13):
            query = str(moving.overlays.view.queries[index])
            alone = placed_as(atmviz.overlay(photos / "a.png", nano, queries=query, **SMALL), figure)
            assert panels(figure)[0].tolist() == panels(alone)[0].tolist()
        if index == 13:
            break


def test_memory_does_not_grow_with_the_frames(nano, tmp_path):
    def peak(count):
        path = tmp_path / f"{count}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (720, 480))
        for number in range(count):
            writer.write(np.full((480, 720, 3), 10 * number, np.uint8))
        writer.release()
        tracemalloc.start()
        drawn(path, nano, dpi=40, size=32).save(tmp_path / f"{count}.gif")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # what is kept once
    assert peak(9) - peak(3) < 6 * 480 * 720  # bytes: a third of the frames


def test_a_clip_keeps_its_rate_and_says_so(clip, nano):
    said = []

    class Heard(Events):
        message = staticmethod(said.append)

    assert drawn(clip, nano, fps=3, events=Heard()).overlays.rate == 10
    assert said == [f"got fps 3 for {clip}: a clip keeps its own rate"]


def test_a_moving_picture_says_what_it_shows_and_replaces_only_its_own(clip, nano, tmp_path):
    said = []

    class Heard(Events):
        message = staticmethod(said.append)

    file, _ = drawn(clip, nano, dpi=30).save(tmp_path / "out.mp4", command="atmviz overlay clip.mp4")
    about = read_about(file)
    assert about["command"] == "atmviz overlay clip.mp4"
    assert (about["shows"]["layers"], about["shows"]["moving"]) == (["3_18"], {"every": 1, "frames_per_second": 10.0})
    drawn(clip, nano, dpi=30).save(file, events=Heard())
    assert said == []
    drawn(clip, nano, dpi=30, every=2).save(file, events=Heard())
    assert said == [f"replaced {file}, which showed something else"]
    with pytest.raises(SettingsError, match=r"out\.csv belongs to .*out\.mp4, which shows something else: choose"):
        drawn(clip, nano, dpi=30).save(tmp_path / "out.gif")
    drawn(clip, nano, dpi=30, every=2).save(tmp_path / "out.gif")
    before = clip.read_bytes()
    with pytest.raises(SettingsError, match=r"clip\.mp4 exists and is no figure of atmviz"):
        drawn(clip, nano).save(clip)
    assert clip.read_bytes() == before
    (tmp_path / "other.csv").write_text("mine")
    with pytest.raises(SettingsError, match=r"other\.csv exists and belongs to no figure of atmviz"):
        drawn(clip, nano).save(tmp_path / "other.mp4")
    assert (tmp_path / "other.csv").read_text() == "mine"


def test_a_clip_in_an_mp4_keeps_its_pixels(tmp_path, nano):
    path = tmp_path / "large.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, (1280, 720))
    writer.write(np.zeros((720, 1280, 3), np.uint8))
    writer.release()
    moving = drawn(path, nano, size=32)
    moving.save(tmp_path / "out.mp4")
    ((_, figure, _, _),) = moving.overlays.figures()
    share = figure.axes[0].get_position()
    assert moving.numbers["size_px"][0] * share.width == pytest.approx(1280, abs=2)
    assert moving.numbers["size_px"][1] * share.height == pytest.approx(720, abs=2)


@pytest.mark.parametrize(
    ("source", "settings", "says"),
    [
        (
            "clip",
            {"queries": "path:0.1,0.1;0.9,0.9"},
            "and a path of queries, expected a clip alone, or a path",
        ),
        ("two", {}, "and 2 files, expected a clip alone"),
        ("folder", {"queries": "path:0.1,0.1;0.9,0.9"}, "got a path of queries and 4 images, expected one photograph"),
        ("clip", {"queries": ["path:0.1,0.1;0.9,0.9", "center"]}, "got 2 query texts, expected a path alone"),
        ("clip", {"montage": True}, "got a montage for a moving picture"),
        ("clip", {"fps": 0}, "got fps: 0, expected 0.1 or more"),
        ("clip", {"every": 0}, "got every: 0, expected 1 or more"),
    ],
)
def test_what_cannot_move_is_refused(clip, folder, nano, source, settings, says):
    sources = {"clip": clip, "two": [clip, clip], "folder": folder}
    with pytest.raises(SettingsError, match=says):
        drawn(sources[source], nano, **settings)


def test_a_gif_of_more_frames_per_second_than_viewers_show_is_refused(folder, nano, tmp_path):
    with pytest.raises(SettingsError, match=r"got 60 frames per second, expected at most 50 of a GIF: show every 2\."):
        drawn(folder, nano, fps=60).save(tmp_path / "a.gif")
