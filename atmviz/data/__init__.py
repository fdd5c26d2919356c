"""Images: finding them, reading them, fitting them to the network."""

from atmviz.data.images import ImageSet, bundled_photos, find_dataset, find_images, load_image, preprocess

__all__ = ["ImageSet", "bundled_photos", "find_dataset", "find_images", "load_image", "preprocess"]
