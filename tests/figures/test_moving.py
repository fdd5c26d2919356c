"""Files of moving pictures: frames, times and what they say of themselves."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from atmviz.errors import AtmvizError
from atmviz.figures.moving import moving_file, pixels_of
from atmviz.figures.saving import moving_about, read_about
from atmviz.figures.style import COLORS, Look
from atmviz.sources import bundled_photos
from atmviz.sources.clips import open_clip
from atmviz.sources.listing import is_atmviz_figure

ABOUT = {"figure": "overlay", "layers": ["3_18"], "note": "é" * 400}


def frames(count, height=50, width=70):
    pixels = np.full((count, height, width, 3), 255, np.uint8)
    for number in range(count):
        pixels[number, 10:40, 5 * number : 5 * number + 20] = 0, 0, 200
    return pixels


def write(path, rate, pictures, about=b""):
    with moving_file(path, rate, about or moving_about(ABOUT, "atmviz overlay")) as file:
        for pixels in pictures:
            file.write(pixels)
    return path


def read_gif(path):
    with Image.open(path) as image:
        shown = []
        for number in range(image.n_frames):
            image.seek(number)
            shown.append((np.asarray(image.convert("RGB")), image.info["duration"]))
    return shown


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", os.fsdecode(b"\xff.mp4")])
def test_a_file_has_the_frames_in_order_at_their_rate(tmp_path, name):
    opened = open_clip(write(tmp_path / name, 25, frames(6)))
    assert (len(opened), opened.note) == (6, "")
    assert opened.rate == pytest.approx(25)
    for number, pixels in enumerate(frames(6)):
        assert np.abs(opened.read(number).astype(int) - pixels).mean() < 8  # its neighbors differ by 16


def test_a_frame_of_odd_sides_gets_a_white_line_in_an_mp4(tmp_path):
    pixels = open_clip(write(tmp_path / "a.mp4", 25, np.zeros((2, 51, 71, 3), np.uint8))).read(0)
    assert pixels.shape == (52, 72, 3)
    assert pixels[:48, :68].max() < 16  # nothing is cut off
    assert pixels[-1, 4:-4].min() > 128


def test_times_of_a_gif_add_up_though_they_are_hundredths(tmp_path):
    durations = [duration for _, duration in read_gif(write(tmp_path / "a.gif", 30000 / 1001, frames(10, width=90)))]
    assert set(durations) == {30, 40}
    assert sum(durations) == 330  # of 333.7 ms


def test_a_gif_is_exact_where_colors_are_few_and_frames_are_still(tmp_path):
    pictures = np.concatenate([frames(3), frames(3)[2:], frames(1)])
    shown = read_gif(write(tmp_path / "a.gif", 10, pictures))
    assert [pixels.tolist() for pixels, _ in shown] == pictures.tolist()
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0


def test_small_marks_keep_their_colors_in_a_gif_of_a_photograph(tmp_path):
    pixels = bundled_photos().read(0)
    for number, color in enumerate(COLORS.values()):
        rgb = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
        pixels[20:26, 40 * number : 40 * number + 6] = rgb
    ((shown, _),) = read_gif(write(tmp_path / "a.gif", 10, [pixels]))
    marks = [shown[22, 40 * n + 2].astype(int) - pixels[22, 40 * n + 2] for n in range(len(COLORS))]
    assert np.abs(marks).max() <= 24


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_file_says_what_it_shows(tmp_path, name):
    path = write(tmp_path / name, 10, frames(2))
    said = read_about(path)
    assert (said["shows"], said["command"]) == (ABOUT, "atmviz overlay")
    assert said["software"].startswith("atmviz ")


def test_other_files_are_not_taken_for_those_of_atmviz(tmp_path):
    for name in ("a.mp4", "a.gif", "b.mp4", "c.mp4"):
        write(tmp_path / name, 10, frames(2), about=b"Software\0other 1\0{}")
    (tmp_path / "b.mp4").write_bytes(b"")
    (tmp_path / "c.mp4").write_bytes(b"\0\0\0\x00uuid" * 3)
    (tmp_path / "d.gif").write_bytes(b"GIF89a")
    assert {read_about(path) for path in tmp_path.iterdir()} == {None}
    assert not is_atmviz_figure(tmp_path / "a.gif")


def test_a_gif_of_atmviz_is_known_as_a_figure(tmp_path):
    assert is_atmviz_figure(write(tmp_path / "a.gif", 10, frames(2)))


def test_frames_larger_than_the_codec_takes_are_refused(tmp_path, capfd):
    with pytest.raises(AtmvizError, match="got frames of 8192x32 px, expected 8191 px at most: lower the dpi"):
        write(tmp_path / "a.mp4", 25, np.zeros((1, 32, 8192, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


def test_a_file_with_fewer_frames_than_were_written_is_an_error(tmp_path):
    def lost():
        yield from frames(2)
        yield frames(1)[0]
        (tmp_path / "a.mp4").unlink()  # what the codec writes from here on is nowhere

    with pytest.raises(AtmvizError, match=r"cannot write a\.mp4 \(3 frames\): make room on the disk"):
        write(tmp_path / "a.mp4", 25, lost())


def test_the_pixels_of_a_figure_are_those_of_its_png(tmp_path):
    figure = Figure(figsize=(1.237, 0.871))
    figure.add_axes((0.1, 0.1, 0.8, 0.8)).plot([0, 1], [1, 0])
    look = Look.of()
    with look.applied():
        figure.savefig(tmp_path / "a.png", dpi=133)
    assert pixels_of(figure, look, 133).tolist() == np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).tolist()


def test_paper_has_one_color_in_all_frames_of_a_gif(tmp_path):
    """Parts that change are drawn over the first frame, each in colors of its own."""
    draw = np.random.default_rng(0)
    with moving_file(tmp_path / "a.gif", 10, b"") as writer:
        for _ in range(3):
            frame = np.full((60, 80, 3), 255, np.uint8)
            frame[10:50, 10:60] = draw.integers(230, 256, (40, 50, 3))  # close to white
            frame[20:30, 20:30] = 255
            writer.write(frame)
    with Image.open(tmp_path / "a.gif") as image:
        for number in range(3):
            image.seek(number)
            pixels = np.array(image.convert("RGB"))
            assert (pixels[:10] == 255).all()
            assert (pixels[20:30, 20:30] == 255).all()
