"""The one rule of which files are images: suffixes, hidden and tool folders, links, globs."""

import os
import subprocess

import pytest
from PIL import Image

from atmviz.sources.listing import FORMATS, HIDDEN, OTHER, SEEN, describe_left_out, image_suffixes, list_images


def test_suffixes_are_those_of_raster_formats_alone():
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp"} <= image_suffixes()
    assert {".gif", ".ppm", ".pgm", ".jp2", ".apng"} <= image_suffixes()
    assert not {".eps", ".ps", ".pdf", ".svg", ".h5", ".fits", ".wmf", ".psd", ".ico", ".txt"} & image_suffixes()
    assert (".avif" in image_suffixes()) == (".avif" in Image.registered_extensions())


def test_every_format_that_is_read_is_written_and_listed(tmp_path):
    names = []
    for suffix, kind in Image.registered_extensions().items():
        if kind in FORMATS and kind in Image.SAVE and suffix != ".pfm":
            Image.new("RGB", (40, 40)).convert("1" if suffix == ".pbm" else "L").save(tmp_path / f"a{suffix}", kind)
            names.append(f"a{suffix}")
    assert list_images(tmp_path).names == tuple(sorted(names))


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/a.jpg",
        ".thumbnails/a.jpg",
        "@eaDir/a.jpg",
        "sub/@EADIR/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/a.jpg",
        "System Volume Information/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        "#recycle/a.jpg",
        "Thumbnails/a.jpg",
        "._a.jpg",
        ".a.jpg",
    ],
)
def test_hidden_and_tool_files_and_folders_are_left_out_and_named(name, tmp_path, touch):
    touch(tmp_path, "a.jpg", name)
    listing = list_images(tmp_path)
    assert listing.names == ("a.jpg",)
    assert list(listing.left_out) == [HIDDEN]
    assert name.startswith(listing.left_out[HIDDEN][0])


def test_other_files_are_counted(tmp_path, touch):
    touch(tmp_path, "a.JPG", "Thumbs.db", "sub/figure.svg", "noend")
    listing = list_images(tmp_path)
    assert listing.names == ("a.JPG",)
    assert listing.left_out == {OTHER: ["Thumbs.db", "noend", "sub/figure.svg"]}
    assert describe_left_out(listing.left_out) == "files of other kinds: 3 (Thumbs.db, noend, sub/figure.svg)"


def test_folders_are_visited_once_by_their_own_name(tmp_path, touch):
    touch(tmp_path, "z/real/1.jpg", "2.jpg")
    (tmp_path / "a_link").symlink_to("z/real")
    (tmp_path / "z/real/up").symlink_to("../..")
    (tmp_path / "outside").symlink_to(tmp_path.parent / "elsewhere")
    listing = list_images(tmp_path)
    assert listing.names == ("2.jpg", "z/real/1.jpg")
    assert listing.left_out == {SEEN: ["a_link", "z/real/up"], OTHER: ["outside"]}


def test_many_links_to_each_other_are_no_endless_work(tmp_path, touch):
    for level in range(30):
        touch(tmp_path, f"{level}/a.jpg")
        for name in "bc":
            (tmp_path / str(level) / name).symlink_to(f"../{level + 1}")
    assert len(list_images(tmp_path).names) == 30
    assert len(list_images(tmp_path / "0", ["**", "*.jpg"]).names) == 30


GLOBS = ["*", "*.jpg", "a/*", "?/1.*", "**", "**/*.png", "a/**/*.jpg", "**/b/*", "[!a]/*", "*/*/*.jpg", "**/b/**"]


@pytest.mark.parametrize("pattern", GLOBS)
def test_globs_match_what_the_shell_matches(pattern, tmp_path, touch):
    touch(tmp_path, "1.jpg", "2.png", "a/1.jpg", "a/b/1.jpg", "a/b/c/3.png", "x/1.jpg", "x/b/9.jpg")
    script = f"shopt -s globstar nullglob; find {pattern} -type f | sort -u"
    shell = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert list_images(tmp_path, pattern.split("/")).names == tuple(sorted(shell.stdout.split()))


def test_globs_visit_no_folder_that_they_cannot_match_in(tmp_path, monkeypatch, touch):
    touch(tmp_path, "1.jpg", "a/1.jpg", "b/c/1.jpg")
    scan, visited = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: visited.append(path) or scan(path))
    assert list_images(tmp_path, ["a", "*.jpg"]).names == ("a/1.jpg",)
    assert visited == [tmp_path, tmp_path / "a"]


def test_names_of_any_bytes_are_listed(tmp_path):
    names = [b"\xff\xfe.jpg", "\u732b.jpg".encode(), b"new\nline.jpg", b"\x1b[31m.jpg"]
    for name in names:
        open(os.path.join(os.fsencode(tmp_path), name), "w").close()
    assert {os.fsencode(name) for name in list_images(tmp_path).names} == set(names)


def test_pipes_named_as_images_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert list_images(tmp_path).names == ("pipe.png",)
