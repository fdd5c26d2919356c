"""COCO's layout, written here in every form its masks take, read and refused; shapes as annotations."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from atmviz.data.classification import require_same_classes
from atmviz.data.detection import open_detection
from atmviz.data.keyed import seeded
from atmviz.errors import AtmvizError, DatasetError
from atmviz.sources.coco import coco_masks, run_lengths
from atmviz.sources.datasets import SHAPE_CLASSES
from atmviz.sources.shapes import Shapes

SIZE = (60, 80)  # height, width
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]


def drawn():
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, 20:50] = 1
    return mask


def compressed():
    encoded = coco_masks().encode(np.asfortranarray(drawn()))
    return {
        "size": list(SIZE),
        "counts": encoded["counts"].decode() if isinstance(encoded["counts"], bytes) else encoded["counts"],
    }


def uncompressed():
    """Run lengths down the columns, from 0 on."""
    flat = drawn().flatten(order="F")
    ends = np.flatnonzero(np.diff(np.r_[2, flat, 2]))
    return {"size": list(SIZE), "counts": [0] * int(flat[0]) + np.diff(ends).tolist()}


POLYGON = [[20, 10, 50, 10, 50, 30, 20, 30]]


def annotation(number, **changes):
    usual = {"image_id": 7, "category_id": 13, "bbox": [20, 10, 30, 20], "area": 600, "iscrowd": 0}
    return {"id": number, **usual, "segmentation": POLYGON, **changes}


@pytest.fixture
def coco(tmp_path):
    """Writes images and their JSON, and gives the dataset's folder."""

    def write(annotations, images=((7, "000000000007.jpg"), (3, "000000000003.jpg")), split="val2017", content=()):
        folder = tmp_path / "coco"
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        for number, name in images:
            pixels = np.full((*SIZE, 3), number, np.uint8)
            pixels[:, :40] = 200
            Image.fromarray(pixels).save(folder / split / name, quality=100)
        records = [{"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for i, name in images]
        whole = {"images": records, "annotations": annotations, "categories": CATEGORIES, **dict(content)}
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(whole))
        return tmp_path

    return write


def opened(folder, **options):
    return open_detection("coco", "val", 800, data_dir=folder, **options)


@pytest.mark.parametrize("segmentation", [POLYGON, "uncompressed", "compressed"])
def test_masks_of_every_form_are_the_same(coco, segmentation):
    forms = {"uncompressed": uncompressed, "compressed": compressed}
    segmentation = forms[segmentation]() if isinstance(segmentation, str) else segmentation
    dataset = opened(coco([annotation(1, segmentation=segmentation)]), hflip=0.0)
    target = dataset[0]["target"]
    assert np.array_equal(target["masks"].numpy(), drawn()[None])
    assert target["boxes"].tolist() == [[20, 10, 50, 30]]
    assert target["labels"].tolist() == [1]


def test_categories_are_numbered_in_the_order_of_their_ids(coco):
    dataset = opened(coco([annotation(1, category_id=90)]), hflip=0.0)
    assert dataset.classes == ("person", "stop sign", "toothbrush")
    assert dataset.category_ids == (1, 13, 90)
    assert dataset[0]["target"]["labels"].tolist() == [2]


def test_other_ids_in_validation_are_refused_where_they_change_the_order(coco):
    coco([annotation(1)], split="train2017")
    swapped = [{**one, "id": number} for one, number in zip(CATEGORIES, (1, 90, 13), strict=True)]
    folder = coco([annotation(1)], content={"categories": swapped})
    train, val = (open_detection("coco", split, 800, data_dir=folder) for split in ("train", "val"))
    with pytest.raises(DatasetError, match="same classes in another order, from 'person' and 'toothbrush' on"):
        require_same_classes(train, val)


def test_crowds_and_boxes_of_no_size_are_evaluated_but_not_learned(coco):
    crowd = annotation(2, iscrowd=1, segmentation=uncompressed())
    flat, empty = annotation(3, bbox=[5, 5, 0, 20]), annotation(4, bbox=[5, 5, 0.5, 0.5])
    folder = coco([annotation(1), crowd, flat, empty])
    assert len(opened(folder, hflip=0.0)[0]["target"]["labels"]) == 1
    assert [one["id"] for one in opened(folder)[1]["annotations"]] == [1, 2, 3, 4]


def test_boxes_end_at_the_image(coco):
    dataset = opened(coco([annotation(1, bbox=[-5, 50, 200, 20])]), hflip=0.0)
    assert dataset[0]["target"]["boxes"].tolist() == [[0, 50, 80, 60]]


def test_a_mask_of_anothers_making_is_no_mask_of_ours(coco):
    dataset = opened(coco([annotation(1, mask="yes")]), hflip=0.0)
    assert np.array_equal(dataset[0]["target"]["masks"].numpy(), drawn()[None])


def test_compressed_run_lengths_of_any_mask_are_understood(coco):
    rng = np.random.default_rng(0)
    masks = [rng.random(SIZE) < share for share in (0, 0.01, 0.5, 1)] + [np.arange(80) % 2 * np.ones(SIZE)]
    forms = [coco_masks().encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    texts = [one["counts"].decode() if isinstance(one["counts"], bytes) else one["counts"] for one in forms]
    segmentations = [{"size": list(SIZE), "counts": text} for text in texts]
    dataset = opened(coco([annotation(k, segmentation=one) for k, one in enumerate(segmentations)]), hflip=0.0)
    assert np.array_equal(dataset[0]["target"]["masks"].numpy(), np.stack(masks).astype(np.uint8))


def test_photographs_turned_by_their_exif_stay_as_their_masks_are(coco):
    folder = coco([annotation(1)])
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the size would not tell
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:30] = 255
    Image.fromarray(pixels).save(folder / "coco/val2017/000000000007.jpg", exif=exif)
    image = opened(folder, hflip=0.0)[0]["image"]
    assert image[0, 0, 0] > image[0, -1, 0]


def test_images_without_objects_are_evaluated_but_not_learned(coco):
    outside = annotation(2, image_id=3, bbox=[100, 10, 30, 20])
    folder = coco([annotation(1), outside])
    evaluated, learned = opened(folder), opened(folder, hflip=0.0)
    assert (len(evaluated), len(learned)) == (2, 1)
    assert [evaluated.source.name(i) for i in range(2)] == ["000000000003.jpg", "000000000007.jpg"]
    assert evaluated[0]["annotations"] == [outside]
    assert evaluated.target([], SIZE)["masks"].shape == (0, *SIZE)


def test_a_flip_mirrors_image_boxes_and_masks(coco):
    dataset = opened(coco([annotation(1)]), hflip=1.0)
    with seeded(0):
        item = dataset[0]
    assert item["target"]["boxes"].tolist() == [[30, 10, 60, 30]]
    assert np.array_equal(item["target"]["masks"][0].numpy(), drawn()[:, ::-1])
    assert item["image"][0, 0, -1] > item["image"][0, 0, 0]


def test_polygons_of_two_points_are_left_out(coco):
    dataset = opened(coco([annotation(1, segmentation=[[1, 1, 2, 2], *POLYGON])]), hflip=0.0)
    assert np.array_equal(dataset[0]["target"]["masks"].numpy(), drawn()[None])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": 2}, r"annotation 1 is of image 7 and category 2, expected ids among its 2 images and 3 categ"),
        ({"image_id": 8}, r"annotation 1 is of image 8"),
        ({"bbox": [1, 2, 3]}, r"has bbox \[1, 2, 3\], expected \[left, top, width, height\]"),
        ({"bbox": [1, 2, float("nan"), 4]}, "has bbox"),
        ({"bbox": [1, 2, -3, 4]}, "has bbox"),
        ({"bbox": [True, 2, 3, 4]}, "has bbox"),
        ({"bbox": [10**400, 2, 3, 4]}, "has bbox"),
        ({"area": float("nan")}, r"has area nan, expected px\^2"),
        ({"area": 10**400}, "has area a huge number"),
        ({"iscrowd": None}, "has iscrowd None, expected 0 or 1"),
        ({"iscrowd": "0"}, "has iscrowd 0, expected"),
        ({"image_id": True}, r"annotations\[0\] has no usable 'image_id'"),
        ({"bbox": None}, r"annotations\[0\] has no usable 'bbox'"),
        ({"segmentation": []}, "has no polygon of three points or more"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "no list of polygons"),
        ({"segmentation": [["a"] * 6]}, "no list of polygons in px"),
        ({"segmentation": [[float("nan"), 1, 2, 3, 4, 5]]}, "no list of polygons in px"),
        ({"segmentation": [[1e300, 1, 2, 3, 4, 5]]}, "no list of polygons in px"),
        ({"segmentation": {"size": [60, 80]}}, "run lengths that do not add up"),
        ({"segmentation": {"size": [60, 80], "counts": [4801]}}, "run lengths that do not add up"),
        ({"segmentation": {"size": [60, 80], "counts": [4810, -10]}}, "run lengths that do not add up"),
        ({"segmentation": {"size": [60, 80], "counts": "oooooooooooo0"}}, "run lengths that do not add up"),
        ({"segmentation": {"size": [60, 80], "counts": "\n"}}, "run lengths that do not add up"),
        ({"segmentation": {"size": [61, 80], "counts": [4880]}}, r"has a mask of \[61, 80\] px, its image \[60, 80\]"),
    ],
)
def test_annotations_that_do_not_fit_are_named(coco, changes, message):
    folder = coco([annotation(1, **changes)])
    with pytest.raises(DatasetError, match=message) as caught:
        opened(folder)[1]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": [{"id": 1, "segments_info": []}]}, "holds panoptic, expected boxes"),
        ({"annotations": [{"id": 1, "caption": "a dog"}]}, "holds captions"),
        ({"annotations": [{"id": 1, "keypoints": [0]}]}, "holds keypoints"),
        ({"annotations": None}, "has no lists images, annotations, categories"),
        ({"categories": [*CATEGORIES, {"id": 1, "name": "again"}]}, "has two categories of id 1"),
        ({"categories": [{"id": "1", "name": "x"}]}, r"categories\[0\] has no usable 'id'"),
        ({"images": [{"id": 7}]}, r"images\[0\] has no usable 'file_name'"),
    ],
)
def test_other_files_are_named(coco, content, message):
    with pytest.raises(DatasetError, match=message) as caught:
        opened(coco([], content=content))
    assert "\n" not in str(caught.value)


def test_a_list_of_results_is_no_instances_file(coco):
    folder = coco([])
    (folder / "coco/annotations/instances_val2017.json").write_text("[]")
    with pytest.raises(DatasetError, match="expected COCO's instances_"):
        opened(folder)


def test_a_cut_off_file_is_named(coco):
    file = coco([annotation(1)]) / "coco/annotations/instances_val2017.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(DatasetError, match="no whole JSON file"):
        opened(file.parents[2])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark_are_read(coco, encoding):
    file = coco([annotation(1)]) / "coco/annotations/instances_val2017.json"
    file.write_text(file.read_text(), encoding)
    assert len(opened(file.parents[2])) == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"[" * 10**6, "no whole JSON file"),
        (b"1" * 5000, "no whole JSON file"),
        (b"\xff\xff", "no whole JSON file"),
    ],
)
def test_what_stands_in_for_annotations_is_named(coco, content, what):
    file = coco([]) / "coco/annotations/instances_val2017.json"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=what) as caught:
        opened(file.parents[2])
    assert "\n" not in str(caught.value)


def test_polygons_longer_than_an_image_has_edges_are_no_endless_work(coco):
    zigzag = [[value for k in range(400) for value in (0, (k % 2) * 999_000)]]
    dataset = opened(coco([annotation(1, segmentation=zigzag)]), hflip=0.0)
    with pytest.raises(DatasetError, match="annotation 1 has polygons longer than the edges of all pixels"):
        dataset[0]
    with pytest.raises(DatasetError, match="longer than the edges"):
        run_lengths(opened(coco([annotation(1, segmentation=zigzag)]))[1]["annotations"][0], SIZE)


def test_masks_of_an_image_are_bounded(coco, monkeypatch):
    dataset = opened(coco([annotation(k) for k in range(3)]), hflip=0.0)
    assert len(dataset[0]["target"]["masks"]) == 3
    monkeypatch.setattr("atmviz.data.detection._MAX_MASK_BYTES", 3 * SIZE[0] * SIZE[1] - 1)
    with pytest.raises(DatasetError, match="an image of 60 x 80 px has 3 objects"):
        dataset[0]


def test_of_a_folder_that_is_a_link_the_annotations_beside_it_go_first(coco, tmp_path):
    folder = coco([annotation(1)]) / "coco"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "val2017").symlink_to(folder / "val2017")
    dataset = opened(mine)
    assert dataset.instances.file[0] == folder / "annotations/instances_val2017.json"
    assert "is a link: taking the annotations" in dataset.notes[0]
    (mine / "annotations").mkdir()
    (folder / "annotations/instances_val2017.json").rename(mine / "annotations/instances_val2017.json")
    coco([])
    dataset = opened(mine)
    assert (len(dataset.instances.content.annotations[7]), dataset.notes) == (1, [])


def test_images_that_are_not_there_are_counted(coco):
    folder = coco([annotation(1)])
    (folder / "coco/val2017/000000000003.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of the 2 images in .*json are not in .*val2017 \(000000000003.jpg\)"):
        opened(folder)
    assert len(opened(folder, hflip=0.0)) == 1, "only images with objects are learned from"


def test_an_image_of_another_size_is_named(coco):
    folder = coco([annotation(1)])
    Image.new("RGB", (80, 61)).save(folder / "coco/val2017/000000000007.jpg")
    with pytest.raises(DatasetError, match=r"000000000007.jpg is 61 x 80 px, .* says 60 x 80"):
        opened(folder)[1]


def test_annotations_that_are_not_there_are_asked_for(coco):
    folder = coco([])
    (folder / "coco/annotations/instances_val2017.json").unlink()
    with pytest.raises(DatasetError, match=r"expected .*annotations/instances_val2017.json; unpack"):
        opened(folder)


def test_other_numbers_of_categories_are_taken_as_they_are(coco):
    names = [{"id": k, "name": f"class {k}"} for k in range(1, 92)]
    assert len(opened(coco([annotation(1)], content={"categories": names})).classes) == 91


def test_without_the_backend_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core", None)
    with pytest.raises(AtmvizError, match=r"pip install 'atmviz\[coco\]'") as caught:
        open_detection("shapes", "val", 64)
    assert "\n" not in str(caught.value)


def test_scenes_have_their_boxes_masks_and_classes():
    dataset = open_detection("shapes", "train", 64, hflip=0.0)
    scene = Shapes(64)[4]
    target = dataset[4]["target"]
    assert np.array_equal(target["masks"].numpy(), [scene.instance_map == k + 1 for k in scene.visible])
    assert np.array_equal(target["boxes"].numpy(), scene.boxes)
    assert target["labels"].tolist() == [scene.objects[k].label for k in scene.visible]
    assert dataset.classes == SHAPE_CLASSES
    (one, *_) = open_detection("shapes", "train", 64)[4]["annotations"]
    assert one["area"] == one["mask"].sum()
    assert np.array_equal(coco_masks().decode(run_lengths(one, (64, 64))), one["mask"])
    assert torch.is_tensor(dataset[4]["image"])
