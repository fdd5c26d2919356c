"""Images and what is known of them: files, public datasets and drawn scenes behind one protocol."""

from atmviz.sources.datasets import DATASETS, PUBLIC_DATASETS, Dataset, class_names, datasets_for, preprocessing_for
from atmviz.sources.files import ImageFiles, as_image, bundled_photos, find_images
from atmviz.sources.opening import data_folder, find_dataset, open_source
from atmviz.sources.source import Object, Source, Split, Truth, read_labeled

__all__ = [
    "DATASETS",
    "PUBLIC_DATASETS",
    "Dataset",
    "ImageFiles",
    "Object",
    "Source",
    "Split",
    "Truth",
    "as_image",
    "bundled_photos",
    "class_names",
    "data_folder",
    "datasets_for",
    "find_dataset",
    "find_images",
    "open_source",
    "preprocessing_for",
    "read_labeled",
]
