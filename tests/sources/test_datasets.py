"""The declarations of datasets, and how images of each are fitted to the network."""

import pytest

from atmviz.paper import FIGURES
from atmviz.sources import DATASETS, PUBLIC_DATASETS, class_names, datasets_for, preprocessing_for


@pytest.mark.parametrize("name", DATASETS)
def test_class_names_are_as_many_as_the_classes(name):
    for task in DATASETS[name].tasks:
        names = class_names(name, task)
        has_background = (name, task) == ("shapes", "segment")
        assert len(names) in (0, DATASETS[name].num_classes + has_background)
        assert len(set(names)) == len(names)


def test_each_public_dataset_says_where_it_is_and_how_much_of_it_there_is():
    assert PUBLIC_DATASETS == ("ade20k", "coco", "imagenet")
    for name in PUBLIC_DATASETS:
        dataset = DATASETS[name]
        assert set(dataset.images) == set(dataset.folders) == {"train", "val"}
        assert all(f"{count:,}" in dataset.title for count in dataset.images.values())
    assert datasets_for("detect") == ("coco", "shapes")


def test_input_sizes_are_those_of_the_papers_figures():
    drawn = {preset.dataset: preset.size for preset in FIGURES.values()}
    assert {name: DATASETS[name].input_size for name in drawn} == drawn


@pytest.mark.parametrize(
    ("dataset", "size", "expected", "crop_pct"),
    [
        (None, None, (224, 224), 0.875),
        (None, (384, 384), (384, 384), 0.875),
        (None, (385, 100), (385, 100), 1.0),
        ("imagenet", None, (224, 224), 0.875),
        ("ade20k", None, (512, 512), 1.0),
        ("ade20k", (224, 224), (224, 224), 0.875),
        ("coco", None, (600, 800), 1.0),
        ("shapes", None, (128, 128), 1.0),
        ("digits", None, (32, 32), 0.875),
    ],
)
def test_the_size_alone_decides_the_crop_of_files(dataset, size, expected, crop_pct):
    preprocessing = preprocessing_for(dataset, size)
    assert (preprocessing.size, preprocessing.crop_pct, preprocessing.fit) == (expected, crop_pct, "crop")
    assert preprocessing_for(dataset, size, "squash").fit == "squash"
