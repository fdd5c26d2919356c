"""Datasets that are whole, and each way in which they are not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atmviz.errors import SettingsError
from atmviz.events import Events
from atmviz.sources.check import check_dataset
from atmviz.sources.datasets import DATASETS, PUBLIC_DATASETS, dataset_info


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Datasets of two images and three objects a split."""
    for name in PUBLIC_DATASETS:
        small = replace(DATASETS[name], images={"train": 2, "val": 2}, objects={"train": 3, "val": 3})
        monkeypatch.setitem(DATASETS, name, small)


def write(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8) if array is None else array).save(path)
    return path


@pytest.fixture
def ade20k(tmp_path):
    for split in ("training", "validation"):
        for number in (1, 2):
            write(tmp_path / f"ADEChallengeData2016/images/{split}/{number}.jpg")
            write(tmp_path / f"ADEChallengeData2016/annotations/{split}/{number}.png", np.ones((40, 50), np.uint8))
    return tmp_path


@pytest.fixture
def coco(tmp_path):
    categories = [{"id": k, "name": str(k)} for k in range(1, 81)]
    mask = {"segmentation": [[1, 1, 9, 1, 9, 9]], "bbox": [1, 1, 8, 8], "area": 32, "category_id": 1, "image_id": 1}
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 50} for k in (1, 2)]
    for split in ("train2017", "val2017"):
        for image in images:
            write(tmp_path / split / image["file_name"])
        file = tmp_path / f"annotations/instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        annotations = [{"id": k, **mask} for k in (1, 2, 3)]
        file.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return tmp_path


def problems(*args, **options):
    return {result.what: result.problem for result in check_dataset(*args, **options) if not result.ok}


@pytest.mark.parametrize("read", [False, True])
def test_whole_datasets_have_no_problem(ade20k, coco, read):
    for name in ("ade20k", "coco"):
        found = check_dataset(name, ade20k, read=read)
        assert all(result.ok and not result.problem for result in found)
        assert len(found) == {"ade20k": 4, "coco": 8}[name] + 2 * read


def test_images_and_masks_that_lack_are_counted(ade20k):
    (ade20k / "ADEChallengeData2016/annotations/validation/2.png").unlink()
    (ade20k / "ADEChallengeData2016/images/training/1.jpg").unlink()
    found = problems("ade20k", ade20k)
    assert set(found) == {"train images", "val masks"}
    folder = ade20k / "ADEChallengeData2016/annotations/validation"
    assert found["val masks"] == f"no mask in {folder} for 2: unpack the archive again"
    assert set(problems("ade20k", ade20k, splits=["train"])) == {"train images"}


def test_masks_of_other_images_are_no_whole_dataset(ade20k):
    folder = ade20k / "ADEChallengeData2016/annotations/validation"
    (folder / "2.png").rename(folder / "3.png")
    assert f"no mask in {folder} for 2: " in problems("ade20k", ade20k)["val masks"]


def test_hidden_files_and_folders_are_no_images_or_masks_and_said(ade20k):
    root = ade20k / "ADEChallengeData2016"
    for place in ("images/validation/._1.jpg", "images/validation/@eaDir/1.jpg", "annotations/validation/._1.png"):
        write(root / place)
    found = check_dataset("ade20k", ade20k)
    assert all(result.ok for result in found)
    notes = {result.what: result.note for result in found if result.note}
    assert notes == {"val images": "left out of ade20k: hidden or of a tool: 2 (._1.jpg, @eaDir/)"}


def test_every_file_is_read_on_request(ade20k):
    file = write(ade20k / "ADEChallengeData2016/annotations/validation/2.png", np.full((40, 50), 200, np.uint8))
    assert problems("ade20k", ade20k) == {}
    seen = []

    class Seen(Events):
        def images(self, done, total):
            seen.append((done, total))

    found = problems("ade20k", ade20k, read=True, events=Seen())
    assert list(found) == ["val files read"]
    assert str(file) in found["val files read"]
    assert seen == [(1, 2), (2, 2), (1, 2), (2, 2)]


def test_annotations_that_do_not_fit_are_a_problem(coco):
    file = coco / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    assert list(problems("coco", coco)) == ["val objects"]
    file.write_text("{")
    assert "no whole JSON file" in problems("coco", coco)["val annotations"]
    file.unlink()
    assert "unpack annotations_trainval2017.zip" in problems("coco", coco)["val annotations"]


def test_images_that_the_annotations_do_not_list_are_counted_and_the_others_read(coco):
    write(coco / "val2017/3.jpg")
    assert set(problems("coco", coco, splits=["val"], read=True)) == {"val images"}


def test_imagenet_needs_its_thousand_folders(tmp_path):
    for k in range(2):
        write(tmp_path / f"imagenet/train/class{k}/1.JPEG")
        write(tmp_path / f"imagenet/val/{k}.JPEG")
    found = {result.what: (result.found, result.ok) for result in check_dataset("imagenet", tmp_path)}
    assert found == {
        "train images": ("2", True),
        "train classes": ("2", False),
        "val images": ("2", True),
        "val classes": ("0", False),
    }


def test_an_empty_folder_lacks_everything(tmp_path):
    assert problems("coco", tmp_path) == {
        f"{split} images": f"none in {tmp_path}: expected coco/{{val2017,train2017}}/*.jpg; "
        "choose another data folder, or set $ATMVIZ_DATA to it"
        for split in ("train", "val")
    }


@pytest.mark.parametrize("name", PUBLIC_DATASETS)
def test_info_names_files_and_tree(name):
    found = dataset_info(name)
    assert all(len(file.md5) == 32 for file in found.files)
    assert "val" in found.tree
    with pytest.raises(SettingsError, match="no public dataset 'shapes': expected ade20k, coco, imagenet"):
        dataset_info("shapes")
