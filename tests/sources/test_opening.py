"""Opening datasets in their published folders, and drawn ones, by their names."""

import pytest

from atmviz.sources.opening import find_dataset, open_source, require_source

TREES = {
    "ade20k": ("ADEChallengeData2016", "images/validation", "images/training", ["ADE_1.jpg", "ADE_2.jpg"]),
    "coco": ("coco", "val2017", "train2017", ["000001.jpg", "000002.jpg"]),
    "imagenet": ("imagenet", "val", "train", ["n01/ILSVRC_2.JPEG", "n02/ILSVRC_1.JPEG"]),
}


@pytest.mark.parametrize("above", [False, True], ids=["root given", "one above given"])
@pytest.mark.parametrize("split", ["val", "train"])
@pytest.mark.parametrize("name", TREES)
def test_datasets_are_found_in_their_published_layout(name, split, above, tmp_path, touch):
    top, val, train, files = TREES[name]
    folders = {"val": val, "train": train}
    touch(tmp_path / top / folders[split], *files, "notes.txt", "._hidden.jpg")
    images = find_dataset(name, tmp_path if above else tmp_path / top, split)
    assert images.title == name
    assert images.names == tuple(files)
    assert images.sampling == {}
    assert [images.path(i) for i in range(2)] == [tmp_path / top / folders[split] / file for file in files]


def test_imagenet_validation_may_be_flat(tmp_path, touch):
    touch(tmp_path / "imagenet" / "val", "b.JPEG", "a.JPEG")
    assert find_dataset("imagenet", tmp_path).names == ("a.JPEG", "b.JPEG")


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("split", ["val", "train"])
def test_missing_dataset_is_an_error_that_shows_the_tree(name, split, tmp_path, refusal):
    top, *_ = TREES[name]
    message = refusal(find_dataset, name, tmp_path, split)
    assert str(tmp_path) in message
    assert f"expected {top}/" in message
    assert "$ATMVIZ_DATA" in message


def test_split_that_is_not_there_is_an_error(tmp_path, touch, refusal):
    touch(tmp_path / "val2017", "1.jpg")
    assert "no coco train images" in refusal(find_dataset, "coco", tmp_path, "train")


def test_data_folder_comes_from_the_environment(tmp_path, monkeypatch, touch, refusal):
    touch(tmp_path / "there" / "coco" / "val2017", "1.jpg")
    touch(tmp_path / "here" / "data" / "coco" / "val2017", "2.jpg")
    monkeypatch.chdir(tmp_path / "here")
    assert find_dataset("coco").names == ("2.jpg",)
    monkeypatch.setenv("ATMVIZ_DATA", str(tmp_path / "there"))
    assert find_dataset("coco").names == ("1.jpg",)
    assert find_dataset("coco", tmp_path / "here" / "data").names == ("2.jpg",)
    monkeypatch.setenv("ATMVIZ_DATA", str(tmp_path / "gone"))
    assert str(tmp_path / "gone") in refusal(find_dataset, "coco")


def test_one_door_opens_paths_datasets_and_the_bundled_photographs(tmp_path, monkeypatch, touch, refusal):
    touch(tmp_path, "data/coco/val2017/1.jpg", "coco/2.jpg", "3.jpg")
    monkeypatch.chdir(tmp_path)
    assert len(open_source()) > 1
    assert open_source("coco").name(0) == "1.jpg"
    assert open_source("./coco").name(0) == "2.jpg"
    assert open_source("3.jpg").title == open_source(["3.jpg"]).title == "3"
    assert len(open_source(["3.jpg", "coco"], limit=1)) == 1
    assert "no image, folder or match for 'nothing'" in refusal(open_source, "nothing")


@pytest.mark.parametrize("split", ["test", ""])
def test_unknown_splits_are_refused(split, tmp_path, refusal):
    for name in ("coco", "shapes", "digits"):
        assert "train" in refusal(open_source, name, data_dir=tmp_path, split=split)


@pytest.mark.parametrize(
    "paths", [["3.jpg"], ["folder"], ["folder/*.jpg"], ["**/*.jpg"], ["figure.png", "3.jpg"], None]
)
def test_what_opens_passes_the_check_before_opening(paths, tmp_path, monkeypatch, touch):
    touch(tmp_path, "3.jpg", "folder/1.jpg", "data/coco/val2017/1.jpg")
    (tmp_path / "figure.png").write_bytes(b"\x89PNG Software\0atmviz 1")
    monkeypatch.chdir(tmp_path)
    open_source(paths)
    require_source(paths)
    require_source("coco")
    require_source("shapes")


@pytest.mark.parametrize("paths", [[""], ["none.jpg"], ["none/*.jpg"], ["empty"], ["notes/*"], ["3.jpg", "none"]])
def test_what_does_not_open_fails_the_check_with_the_same_words(paths, tmp_path, monkeypatch, touch, refusal):
    touch(tmp_path, "3.jpg", "notes/a.txt", "empty/.hidden.jpg", "data/ade20k/images/validation/a.txt")
    monkeypatch.chdir(tmp_path)
    assert refusal(require_source, paths) == refusal(open_source, paths)
    for name in ("ade20k", "coco"):
        assert refusal(require_source, name) == refusal(open_source, name)


def test_the_check_lists_no_folder_beyond_its_first_image(tmp_path, monkeypatch, touch):
    touch(tmp_path, *(f"{k}.jpg" for k in range(9)))
    seen = []
    monkeypatch.setattr("atmviz.sources.listing.why_left_out", lambda name, named: seen.append(name))
    require_source([tmp_path])
    assert len(seen) == 1
