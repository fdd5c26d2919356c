"""Recordings kept for the next figure: found again, made again where anything that decides them has changed."""

import os
import shutil

import pytest

from atmviz.errors import RecordingFormatError
from atmviz.recording import cache
from atmviz.recording.cache import RecordingRequest, cached_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import open_recording
from atmviz.recording.writer import RecordingWriter
from atmviz.sources.files import ImageFiles, find_images


@pytest.fixture
def folder(folder, tmp_path, monkeypatch):
    """Three images, the second of which is unreadable; and an empty cache."""
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    for name in ("000.png", "070.png", "071.png"):
        shutil.copy(folder / name, tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def cached(record):
    """`cached(folder)` is the cached recording of a folder's images, and whether it was recorded now."""

    def cached(folder, **changes):
        made = []
        images = find_images([folder])
        settings = {"weights": None, "settings": RecordingSettings(size=(64, 96), batch_size=8)}
        request = RecordingRequest(images, "atmnet_nano", **settings | changes)

        def make(path):
            made.append(path)
            return record(images, path).recording

        return cached_recording(request, make), bool(made)

    return cached


def test_a_recording_is_made_once_though_an_image_stays_unreadable(folder, cached):
    first, made = cached(folder)
    assert (made, first.skipped) == (True, ["070.png"])
    again, made = cached(folder)
    assert (made, again.skipped, again.path) == (False, ["070.png"], first.path)


def test_an_image_that_can_be_read_again_is_tried_again(folder, cached, monkeypatch):
    """With the same size and times, as after a permission or a network share came back."""
    cached(folder)
    path = ImageFiles.path
    monkeypatch.setattr(
        ImageFiles,
        "content",
        lambda images, index: path(images, index).with_name(images.names[index].replace("070", "000")).read_bytes(),
    )
    again, made = cached(folder)
    assert (made, again.skipped, len(again)) == (True, [], 3)
    assert not cached(folder)[1]


def test_an_image_replaced_with_its_size_and_time_is_noticed(folder, cached):
    cached(folder)
    before = (folder / "000.png").stat()
    content = (folder / "000.png").read_bytes()
    (folder / "000.png").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(folder / "000.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached(folder)[1]


def test_another_atmviz_reads_images_itself(folder, cached, monkeypatch):
    cached(folder)
    monkeypatch.setattr(cache, "version", lambda name: "another")
    assert cached(folder)[1]


@pytest.mark.parametrize("name", [b"\xff\xfe", "写".encode() * 80, b"a:b*c"])
def test_folders_of_any_name_are_cached_within_the_cache(name, folder, cached, tmp_path):
    folder = folder.rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    recording, made = cached(folder)
    assert (made, cached(folder)[1]) == (True, False)
    assert recording.path.parent == tmp_path / "cache" / "recordings"


def test_a_damaged_one_is_said_to_be_a_cached_one(folder, cached):
    recording, _ = cached(folder)
    (recording.path / "zarr.json").write_text("{}")
    with pytest.raises(RecordingFormatError, match=r"a cached recording\)$"):
        cached(folder)


def test_a_figure_is_never_drawn_of_a_part(folder, cached, monkeypatch):
    recording, _ = cached(folder)
    (recording.path / "done" / "c" / "0").unlink()  # as while another process writes it again
    monkeypatch.setattr(RecordingWriter, "write_chunk", lambda *_: None)
    with pytest.raises(RecordingFormatError, match="another process"):
        cached(folder)
    assert not open_recording(recording.path).complete
