"""Finding image files in folders and globs; sampling them."""

import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from atmviz.sources.decoding import load_image
from atmviz.sources.files import ImageFiles, find_images
from atmviz.sources.opening import find_dataset


def test_one_folder_is_searched_through_and_sorted(tmp_path, touch):
    touch(tmp_path, "b.png", "a/z.JPG", "a/b/c.webp", "c.txt", ".hidden.png")
    images = find_images([tmp_path])
    assert images.names == ("a/b/c.webp", "a/z.JPG", "b.png")
    assert images.title == tmp_path.name
    assert images.path(0) == tmp_path / "a" / "b" / "c.webp"


def test_sources_keep_their_order_without_repeats(tmp_path, touch):
    touch(tmp_path, "one.png", "folder/b.png", "folder/a.png", "glob/2.jpg", "glob/1.jpg", "glob/3.txt")
    images = find_images(
        [tmp_path / "one.png", tmp_path / "folder", str(tmp_path / "glob" / "*"), tmp_path / "one.png"]
    )
    assert images.names == ("one.png", "folder/a.png", "folder/b.png", "glob/1.jpg", "glob/2.jpg")
    assert images.folder == tmp_path


def test_single_file_gives_its_name(tmp_path, touch):
    touch(tmp_path, "cat [1].png")
    images = find_images([tmp_path / "cat [1].png"])
    assert (images.title, images.names, images.folder) == ("cat [1]", ("cat [1].png",), tmp_path)


def test_recursive_globs_find_files_at_any_depth(tmp_path, touch):
    touch(tmp_path, "a/1.png", "a/b/2.png", "3.png")
    assert find_images([str(tmp_path / "**" / "*.png")]).names == ("3.png", "a/1.png", "a/b/2.png")


def test_relative_sources_are_found_from_elsewhere_later(tmp_path, monkeypatch, touch):
    touch(tmp_path, "photos/1.png", "photos/2.png")
    monkeypatch.chdir(tmp_path)
    images = find_images(["photos/2.png", "photos/1.png"])
    monkeypatch.chdir("/")
    assert images.path(0).is_file()
    assert images.names == ("2.png", "1.png")


@pytest.mark.parametrize("source", ["gone.png", "gone", "*.png", "empty", "texts", "texts/*"])
def test_sources_without_images_are_errors(source, tmp_path, touch, refusal):
    touch(tmp_path, "texts/1.txt", "texts/2.md")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / source) in refusal(find_images, [str(tmp_path / source)])
    touch(tmp_path, "fine.jpg")
    assert str(tmp_path / source) in refusal(find_images, [tmp_path / "fine.jpg", str(tmp_path / source)])


# Names: what a file is called by, and what the listing leaves out is said.


def test_links_keep_the_names_they_are_called_by(tmp_path, touch):
    """As in a content-addressed store, where two names may have one content."""
    touch(tmp_path, "blobs/1f3a9c")
    (tmp_path / "snap").mkdir()
    for name in ("cat.jpg", "copy.jpg"):
        (tmp_path / "snap" / name).symlink_to("../blobs/1f3a9c")
    for sources in (["snap"], ["snap/*.jpg"], ["snap/cat.jpg", "snap/copy.jpg"], ["**/*.jpg"]):
        images = find_images([tmp_path / one for one in sources])
        assert (images.names, images.folder) == (("cat.jpg", "copy.jpg"), tmp_path / "snap")
    (tmp_path / "link").symlink_to("snap")
    images = find_images([tmp_path / "link"])
    assert (images.title, images.folder) == ("link", tmp_path / "link")
    assert find_images([tmp_path / "link" / ".." / "snap"]).folder == tmp_path / "snap"


def test_a_step_up_leads_from_the_target_of_a_link(tmp_path, touch):
    touch(tmp_path, "far/photos/a.png", "far/b.png", "b.jpg")
    (tmp_path / "link").symlink_to("far/photos")
    assert find_images([tmp_path / "link" / ".."]).names == ("b.png", "photos/a.png")
    assert find_images([tmp_path / "link/../b.png"]).path(0) == tmp_path / "far/b.png"


def test_all_ways_to_name_photographs_leave_out_the_same(tmp_path, monkeypatch, touch):
    touch(tmp_path, "a.jpg", "b/c.jfif", "@eaDir/a.jpg", "b/.thumbs/c.jpg", "b/._c.jpg", "notes.txt")
    monkeypatch.chdir(tmp_path)
    for sources in (["."], ["*"], ["a.jpg", "b", "@eaDir/../b"], ["**"], ["**/*.j*"]):
        images = find_images(sources)
        assert images.names == ("a.jpg", "b/c.jfif"), sources
        assert "hidden or of a tool" in images.note
    assert find_images(["@eaDir"]).names == ("a.jpg",), "named outright"
    assert find_images(["*/.thumbs/*"]).names == ("c.jpg",)
    assert find_images(["."]).sample(1, 0).note == find_images(["."]).note
    assert find_images([".."]).folder == tmp_path.parent


def test_own_figures_are_left_out_however_named(tmp_path, save, refusal):
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", "atmviz 1.2.3")
    for name, info in (("photo.png", None), ("figure.png", mark)):
        Image.new("RGB", (64, 64)).save(tmp_path / name, pnginfo=info)
    for sources in ([tmp_path], [tmp_path / "*.png"], [tmp_path / "figure.png", tmp_path / "photo.png"]):
        images = find_images(sources)
        assert images.names == ("photo.png",)
        assert "figures of atmviz: 1 (" in images.note
    assert "figures of atmviz" in refusal(find_images, [tmp_path / "figure.png"])


def test_what_may_not_be_read_is_said_so(tmp_path, monkeypatch, touch, refusal):
    touch(tmp_path, "a.jpg", "sub/b.jpg", "coco/val2017/1.jpg")
    scan, access = os.scandir, os.access
    barred = {str(tmp_path / "sub"), str(tmp_path / "coco/val2017")}

    def scandir(path):
        if str(path) in barred:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in barred and access(path, mode))
    assert "without permission: 2 (coco/val2017, sub)" in find_images([tmp_path]).note
    for refused in (
        refusal(find_images, [tmp_path / "sub"]),
        refusal(find_images, [tmp_path / "sub" / "gone.jpg"]),
        refusal(find_dataset, "coco", tmp_path),
    ):
        assert "permission" in refused.lower()
    monkeypatch.setattr("builtins.open", lambda path, *_, **__: scandir(tmp_path / "sub"))
    assert refusal(load_image, tmp_path / "a.jpg").count("Permission denied") == 1


def test_photographs_alone_are_taken_from_the_full_ade20k(tmp_path, touch):
    folder = "images/ADE/validation/a/abbey"
    touch(tmp_path, f"{folder}/ADE_val_00000001.jpg", f"{folder}/ADE_val_00000001/instance_000_ADE_val_00000001.png")
    touch(tmp_path, f"{folder}/ADE_val_00000001_seg.png", f"{folder}/ADE_val_00000001_parts_1.png")
    images = find_images([tmp_path])
    assert images.names == (f"{folder}/ADE_val_00000001.jpg",)
    assert "masks of the full ADE20K: 3" in images.note


# Sampling.


def test_samples_are_reproducible_and_keep_the_order_of_the_set(tmp_path):
    images = ImageFiles("all", tmp_path, tuple(f"{i:04}.png" for i in range(1000)))
    sample = images.sample(50, seed=3)
    assert len(sample) == len(set(sample.names)) == 50
    assert list(sample.names) == sorted(sample.names)
    assert set(sample.names) < set(images.names)
    assert sample == images.sample(50, seed=3)
    assert sample.names != images.sample(50, seed=4).names
    assert sample.sampling == {"limit": 50, "seed": 3, "of": 1000}
    assert (sample.title, sample.folder) == ("all", tmp_path)


def test_samples_are_spread_over_the_set(tmp_path):
    images = ImageFiles("all", tmp_path, tuple(f"{i:04}.png" for i in range(1000)))
    drawn = np.array([[int(name[:4]) for name in images.sample(100, seed).names] for seed in range(20)])
    assert len(np.unique(drawn)) > 700
    assert drawn.mean() == pytest.approx(499.5, abs=30)


@pytest.mark.parametrize("limit", [3, 4, 10**9])
def test_limit_of_the_whole_set_returns_it(limit, tmp_path):
    images = ImageFiles("all", tmp_path, ("a.png", "b.png", "c.png"))
    assert images.sample(limit, seed=0) == images


def test_a_link_back_to_its_folder_is_followed_once(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "one.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert find_images([tmp_path]).names == ("one.png",)


def test_no_sources_are_an_error(refusal):
    refusal(find_images, [])
