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
    monkeypatch.setattr(cache, "VERSION", "another")
    assert cached(folder)[1]


@pytest.mark.parametrize("name", [b"\xff\xfe", "写".encode() * 80, b"a:b*c"])
def test_folders_of_any_name_are_cached_within_the_cache(name, folder, cached, tmp_path):
    folder = folder.rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    recording, made = cached(folder)
    assert (made, cached(folder)[1]) == (True, False)
    assert recording.path.parent == tmp_path / "cache" / "recordings"


def test_precisions_are_recorded_apart_and_the_usual_batch_is_found_by_its_number(folder, cached):
    assert cached(folder)[1]
    for size, precision, made in ((None, "fp32", False), (8, "bf16", True), (8, "bf16", False), (4, "fp32", True)):
        assert cached(folder, settings=RecordingSettings((64, 96), batch_size=size, precision=precision))[1] == made


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


def test_a_cached_recording_that_is_used_counts_as_used_now(folder, cached):
    recording, _ = cached(folder)
    os.utime(recording.path, (1, 1))
    assert cache.cache_entries()[1][0].used == 1
    cached(folder)
    assert cache.cache_entries()[1][0].used > 1e9


@pytest.fixture
def littered(folder, cached, tmp_path):
    """A cache with a recording, a kernel, and what is none of its entries; gives the paths of the latter."""
    recording, _ = cached(folder)
    kernels = tmp_path / "cache" / f"kernels-{os.geteuid()}"
    kernels.mkdir()
    (kernels / "0123456789abcdef.so").write_bytes(bytes(1000))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "c").mkdir(parents=True)
    (elsewhere / "c" / "0").write_bytes(b"mine")
    (recording.path / "linked").symlink_to(elsewhere)
    recordings = recording.path.parent
    (recordings / f"link-{'0' * 20}").symlink_to(elsewhere)
    (recordings / "notes").mkdir()
    (recordings / f"file-{'0' * 20}").write_text("no folder")
    (kernels / "fedcba9876543210.so").symlink_to(elsewhere / "c" / "0")
    (kernels / "mine.so").touch()
    (tmp_path / "cache" / "other").touch()
    entries = [recording.path, kernels / "0123456789abcdef.so"]
    foreign = [
        path for path in (tmp_path / "cache").rglob("*") if path not in entries and recording.path not in path.parents
    ]
    return entries, [*foreign, elsewhere / "c" / "0"]


def test_the_cache_s_entries_are_recordings_and_kernels_and_nothing_else(littered):
    entries, foreign = littered
    base, found = cache.cache_entries()
    assert base.name == "cache"
    assert {(entry.kind, entry.path) for entry in found} == set(zip(("recording", "kernel"), entries, strict=True))
    sizes = {entry.kind: entry.bytes for entry in found}
    inside = [os.path.join(top, name) for top, folders, names in os.walk(entries[0]) for name in (*folders, *names)]
    taken = sum(os.lstat(path).st_size for path in inside if os.path.islink(path) or not os.path.isdir(path))
    assert sizes == {"recording": taken, "kernel": 1000}
    assert all(map(cache.remove_entry, found))
    assert not any(path.exists() for path in entries)
    assert all(os.path.lexists(path) for path in foreign)
    assert cache.cache_entries()[1] == []


def test_an_entry_that_became_a_link_is_not_removed(littered, tmp_path):
    recording = next(entry for entry in cache.cache_entries()[1] if entry.kind == "recording")
    moved = recording.path.rename(tmp_path / "moved")
    recording.path.symlink_to(moved)
    assert not cache.remove_entry(recording)
    assert moved.is_dir()


def test_files_of_other_users_and_linked_folders_are_no_entries(littered, tmp_path, monkeypatch):
    recordings = tmp_path / "cache" / "recordings"
    recordings.rename(tmp_path / "linked")
    recordings.symlink_to(tmp_path / "linked")
    assert [entry.kind for entry in cache.cache_entries()[1]] == ["kernel"]
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.cache_entries()[1] == []
