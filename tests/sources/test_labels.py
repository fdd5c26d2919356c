"""Labels of image files: class folders, ADE20K's masks, COCO's instances; read late, turned with the image."""

import json

import numpy as np
import pytest
from PIL import Image

from atmviz.errors import DatasetError
from atmviz.sources import Truth, bundled_photos, open_source, read_labeled

SIZE = (40, 60)  # height, width


def write(path, orientation=1, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8) if pixels is None else pixels).save(path, quality=100, exif=exif)


def marked():
    """A white rectangle, and its mask."""
    mask = np.zeros(SIZE, np.uint8)
    mask[5:15, 20:50] = 1
    return np.repeat(255 * mask[..., None], 3, 2), mask


def is_where_the_image_is_white(image, mask):
    return ((image[..., 0] > 128) == mask).mean() > 0.99


def test_photographs_have_no_labels():
    assert bundled_photos().truth(0) is None


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_ade20ks_masks_lie_on_the_image_as_it_is_read(tmp_path, orientation):
    image, mask = marked()
    write(tmp_path / "images/validation/a.jpg", orientation, image)
    (tmp_path / "annotations/validation").mkdir(parents=True)
    Image.fromarray(np.where(mask, 13, 0).astype(np.uint8)).save(tmp_path / "annotations/validation/a.png")
    image, truth = read_labeled(open_source("ade20k", data_dir=tmp_path), 0)
    assert set(np.unique(truth.segments)) == {12, 255}
    assert is_where_the_image_is_white(image, truth.segments == 12)
    as_stored = open_source("ade20k", data_dir=tmp_path, upright=False).truth(0)
    assert np.array_equal(as_stored.segments == 12, mask == 1)


def test_recording_needs_no_annotations(tmp_path):
    write(tmp_path / "images/validation/a.jpg")
    write(tmp_path / "val2017/1.jpg")
    for name in ("ade20k", "coco"):
        source = open_source(name, data_dir=tmp_path)
        assert source.read(0).shape == (*SIZE, 3)
        with pytest.raises(DatasetError):
            source.require_truth()
        with pytest.raises(DatasetError):
            source.truth(0)


def coco(folder, annotations, names=("1.jpg", "2.jpg"), orientation=1):
    for name in names:
        write(folder / "val2017" / name, orientation, marked()[0])
    records = [{"id": k, "file_name": name, "height": 40, "width": 60} for k, name in enumerate(names, 1)]
    usual = {"image_id": 1, "category_id": 7, "iscrowd": 0, "area": 300}
    content = {
        "images": records,
        "annotations": [{"id": k, **usual, **one} for k, one in enumerate(annotations)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(content))
    return open_source("coco", data_dir=folder)


def box(left, top, right, bottom, **more):
    polygon = [left, top, right, top, right, bottom, left, bottom]
    return {"bbox": [left, top, right - left, bottom - top], "segmentation": [polygon], **more}


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_cocos_objects_lie_on_the_image_as_it_is_read(tmp_path, orientation):
    source = coco(tmp_path, [box(20, 5, 50, 15)], orientation=orientation)
    image, truth = read_labeled(source, 0)
    assert is_where_the_image_is_white(image, truth.instances == 1)
    (thing,) = truth.objects
    rows, columns = np.nonzero(truth.instances)
    assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert thing.label == 1, "categories are numbered in the order of their ids"
    assert source.truth(1).objects == ()


def test_of_cocos_objects_crowds_and_hidden_ones_are_left_out_and_small_ones_lie_on_top(tmp_path):
    small, large = box(10, 10, 20, 20, category_id=3), box(0, 0, 60, 40)
    crowd = box(0, 0, 60, 40, iscrowd=1)
    hidden = box(10, 10, 20, 20)
    truth = coco(tmp_path, [small, crowd, large, hidden]).truth(0)
    assert len(truth.objects) == 2
    assert {thing.box for thing in truth.objects} == {(10, 10, 20, 20), (0, 0, 60, 40)}
    assert truth.objects[truth.instances[15, 15] - 1].box == (10, 10, 20, 20)
    assert truth.objects[truth.instances[30, 30] - 1].box == (0, 0, 60, 40)


def test_an_image_that_cocos_file_does_not_list_is_not_known(tmp_path):
    source = coco(tmp_path, [box(1, 1, 9, 9)])
    write(tmp_path / "val2017/3.jpg")
    source = open_source("coco", data_dir=tmp_path)
    assert [source.truth(index) is None for index in range(3)] == [False, False, True]


def imagenet(folder, classes=1000):
    for k in range(classes):
        path = folder / f"imagenet/val/n{k:04}/{k}.JPEG"
        path.parent.mkdir(parents=True)
        path.touch()
    return open_source("imagenet", data_dir=folder)


def test_imagenets_labels_are_its_folders_in_order_and_a_sample_keeps_them(tmp_path):
    source = imagenet(tmp_path)
    assert source.truth(137) == Truth(label=137)
    sample = source.sample(20, 0)
    assert [sample.truth(i).label for i in range(20)] == [int(sample.name(i)[1:5]) for i in range(20)]


def test_labels_of_an_incomplete_imagenet_are_refused_and_of_a_flat_one_unknown(tmp_path):
    source = imagenet(tmp_path / "part", 3)
    with pytest.raises(DatasetError, match=r"got 3 classes in .*, expected ImageNet's 1000"):
        source.truth(0)
    write(tmp_path / "flat/val/a.JPEG")
    flat = open_source("imagenet", data_dir=tmp_path / "flat")
    assert flat.truth(0) is None
    with pytest.raises(DatasetError, match="expected one folder per class"):
        flat.require_truth()
