"""Clips: frames in order, upright, at their rate; and files that are none."""

import os
import socket
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from atmviz.errors import DatasetError
from atmviz.sources.clips import open_clip

SIZE = 96, 64  # width and height


def frame(number):
    """A red bar, which grows, on black: below a green line."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:, : 8 * (number + 1), 0] = 255
    pixels[:8] = 0, 255, 0
    return pixels


def write(path, frames=8, fps=25, code="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, SIZE)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(frame(number)[:, :, ::-1])
    writer.release()
    return path


@pytest.fixture
def clip(tmp_path):
    return write(tmp_path / "clip.mp4")


def bar(pixels):
    """The number of the frame that these pixels are."""
    return round((pixels[40, :, 0] > 128).sum() / 8) - 1


@pytest.mark.parametrize(("name", "code"), [("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("a.mkv", "MJPG"), ("a.avi", "MJPG")])
@pytest.mark.parametrize("fps", [25, 30000 / 1001])
def test_frames_and_rate_are_those_of_the_file(tmp_path, name, code, fps):
    opened = open_clip(write(tmp_path / name, fps=fps, code=code))
    assert len(opened) == 8
    assert opened.rate == pytest.approx(fps, rel=1e-4)
    assert opened.note == ""
    pixels = [opened.read(index) for index in range(8)]
    assert [bar(each) for each in pixels] == list(range(8))
    assert [np.abs(each.astype(int) - frame(k)).mean() < 8 for k, each in enumerate(pixels)] == [True] * 8  # RGB


def test_frames_are_read_in_any_order(clip):
    opened = open_clip(clip)
    assert [bar(opened.read(index)) for index in (6, 0, 3, 3, 7)] == [6, 0, 3, 3, 7]


def test_a_sample_is_the_first_frames(clip):
    opened = open_clip(clip)
    assert (len(opened.sample(3, 0)), opened.sample(3, 0).sampling) == (3, {"limit": 3, "of": 8})
    assert opened.sample(9, 0) is opened


def test_a_clip_taken_sideways_is_turned_upright(clip):
    content = bytearray(clip.read_bytes())
    matrix = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[matrix : matrix + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    clip.write_bytes(content)
    pixels = open_clip(clip).read(3)
    upright = np.rot90(frame(3), -1)  # a quarter clockwise
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 8


def test_a_variable_rate_is_said_and_its_mean_taken(tmp_path):
    first, *others = (Image.fromarray(frame(number)) for number in range(5))
    first.save(tmp_path / "v.gif", save_all=True, append_images=others, duration=[40, 40, 200, 40, 40])
    opened = open_clip(tmp_path / "v.gif")
    assert opened.rate == pytest.approx(4 / 0.32)
    assert opened.note == "v.gif: its frames are not evenly spaced: they are shown at their mean rate, 12.5/s"


def test_sound_is_said_to_be_left_out(clip):
    content = clip.read_bytes()
    at = content.index(b"moov")
    handler = struct.pack(">I", 24) + b"hdlr" + bytes(8) + b"soun" + bytes(4)
    size = struct.pack(">I", int.from_bytes(content[at - 4 : at], "big") + len(handler))
    clip.write_bytes(content[: at - 4] + size + content[at:] + handler)  # moov is the last box
    opened = open_clip(clip)
    assert opened.note == "clip.mp4: its sound is left out"
    assert len(opened) == 8


@pytest.mark.parametrize(("longer", "note"), [(9 / 8, ""), (3, "c.mkv: only 8 frames of 24 can be read")])
def test_sound_that_is_longer_than_a_matroska_is_no_damage(tmp_path, longer, note):
    path = write(tmp_path / "c.mkv")
    before, element, after = path.read_bytes().partition(b"\x44\x89\x88")  # the length, ms
    length = struct.pack(">d", struct.unpack(">d", after[:8])[0] * longer)
    path.write_bytes(before + element + length + after[8:])
    opened = open_clip(path)
    assert (len(opened), opened.note.partition(": it is")[0]) == (8, note)


def test_a_clip_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = write(tmp_path / "cut.avi", frames=40, code="MJPG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    opened = open_clip(path)
    assert 20 < len(opened) < 40
    assert f"only {len(opened)} frames of 40 can be read: it is cut off or damaged" in opened.note
    assert bar(opened.read(5)) == 5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"no clip", "no clip of a known kind"),
        (b"\0\0\0\x18ftypmp42" + bytes(100), "cut off or damaged, or its codec is unknown"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_line(tmp_path, capfd, content, says):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"cannot read clip .*a\.mp4 \(.*{says}.*\): convert it to MP4") as caught:
        open_clip(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nor do OpenCV and FFmpeg say more


def test_a_clip_of_an_unknown_codec_or_without_frames_is_refused(clip, capfd):
    content = clip.read_bytes()
    clip.write_bytes(content.replace(b"mp4v", b"zzzz").replace(b"esds", b"zzzz"))
    with pytest.raises(DatasetError, match="cannot read clip"):
        open_clip(clip)
    write(clip, frames=0)
    with pytest.raises(DatasetError, match="cannot read clip"):
        open_clip(clip)
    assert capfd.readouterr() == ("", "")


def test_no_file_a_folder_and_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, says in (
        ("none.mp4", "No such file"),
        ("", "directory|no regular file"),
        ("pipe.mp4", "no regular"),
    ):
        with pytest.raises(DatasetError, match=says):
            open_clip(tmp_path / name)


@pytest.mark.parametrize("start", [b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n", b"ffconcat version 1.0\nfile "])
@pytest.mark.parametrize("head", [b"", b"\0\0\0\x08free"])
def test_a_playlist_in_place_of_a_clip_reaches_neither_other_files_nor_a_server(tmp_path, clip, start, head):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for target in (f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4", f"file://{clip}", clip.name):
            (tmp_path / "list.mp4").write_bytes(head + start + target.encode() + b"\n")
            with pytest.raises(DatasetError, match="cannot read clip"):
                open_clip(tmp_path / "list.mp4")
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()


def test_the_formats_of_other_files_are_refused_by_ffmpeg_itself(tmp_path, clip, monkeypatch):
    """Not only by their first bytes."""
    if cv2.__version__.startswith("4."):
        pytest.skip("OpenCV 4.11 does not pass on what FFmpeg may open: the first bytes decide")
    monkeypatch.setattr("atmviz.sources.clips.is_video", lambda head: True)
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    with pytest.raises(DatasetError, match="cannot read clip"):
        open_clip(tmp_path / "list.mp4")
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ


@pytest.mark.parametrize("name", ["写真.mp4", os.fsdecode(b"\xff.mp4"), "http:--a.mp4", "%03d.mp4", "a b,c;d|e.mp4"])
def test_a_clip_of_any_name_is_read(clip, name):
    assert len(open_clip(clip.rename(clip.with_name(name)))) == 8


def test_a_clip_with_frames_smaller_than_a_token_is_refused(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "s.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (32, 16))
    writer.write(np.zeros((16, 32, 3), np.uint8))
    writer.release()
    with pytest.raises(DatasetError, match="32x16 px, expected 32 px a side or more"):
        open_clip(tmp_path / "s.mp4").read(0)
