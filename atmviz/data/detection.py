"""Images with boxes, classes and masks of objects: COCO and shapes, both with COCO's annotations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from atmviz.data.fitting import normalize_image
from atmviz.errors import DatasetError
from atmviz.sources.coco import CocoInstances, box_within, coco_masks, is_learned, run_lengths, size_of
from atmviz.sources.coco_json import Annotation, Instances
from atmviz.sources.datasets import class_names, require_dataset
from atmviz.sources.files import ImageFiles
from atmviz.sources.opening import open_source
from atmviz.sources.source import Source, Split, read_labeled

_MAX_MASK_BYTES = 2**31  # of one image's objects, as they are learned from


class DetectionImages(Dataset):
    """Images [3, H, W], normalized, each with its target and its annotations.

    A target has boxes [N, 4] in px (x1, y1, x2, y2), labels [N] from 0 on and masks [N, H, W], uint8; crowds and boxes
    of no area are left to the annotations, which evaluation reads.

    Args:
        hflip: Probability of a horizontal flip in training; None for evaluation, which needs annotations and no target.

    Attributes:
        source: The images.
        classes: Names, by label.
        category_ids: The numbers of the classes in annotations, by label.
        notes: Lines for people on what was left out, and where annotations are.
    """

    notes: Sequence[str] = ()

    def __init__(
        self, source: Source, classes: Sequence[str], category_ids: Sequence[int], hflip: float | None
    ) -> None:
        self.source, self.classes, self.category_ids, self.hflip = source, tuple(classes), tuple(category_ids), hflip
        self._labels = {category: label for label, category in enumerate(category_ids)}

    def annotated(self, index: int) -> tuple[np.ndarray, list[Annotation]]:
        """Return an image [H, W, 3], as it lies in its file, and its annotations."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, annotations = self.annotated(index)
        x = normalize_image(image)
        if self.hflip is None:
            return {"image": x, "annotations": annotations, "image_id": index}
        target = self.target(annotations, image.shape[:2])
        if self.hflip and torch.rand(1).item() < self.hflip:
            x, target = x.flip(-1), _flipped(target, x.shape[-1])
        return {"image": x, "target": target}

    def target(self, annotations: Sequence[Annotation], size: tuple[int, int]) -> dict[str, Tensor]:
        """Return what a detector learns from annotations of an image of `size` (height, width) px."""
        kept = [annotation for annotation in annotations if is_learned(annotation, size)]
        if len(kept) * size[0] * size[1] > _MAX_MASK_BYTES:
            raise DatasetError(
                f"an image of {size[0]} x {size[1]} px has {len(kept)} objects, whose masks take over "
                f"{_MAX_MASK_BYTES / 2**30:.0f} GiB: expected fewer, or smaller images"
            )
        boxes = [box_within(annotation, size) for annotation in kept]
        masks = [
            annotation["mask"] if "mask" in annotation else coco_masks().decode(run_lengths(annotation, size))
            for annotation in kept
        ]
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([self._labels[annotation["category_id"]] for annotation in kept], dtype=torch.int64),
            "masks": torch.from_numpy(np.stack(masks).astype(np.uint8)) if masks else torch.zeros(0, *size).byte(),
        }


def open_detection(
    name: str, split: Split, size: int, *, data_dir: str | Path | None = None, hflip: float | None = None, seed: int = 0
) -> DetectionImages:
    """Open a dataset for training (with a probability of flips) or evaluation.

    Args:
        name: "coco" or "shapes".
        split: "train" or "val".
        size: Side of the scenes of shapes, px; COCO's images keep their size, a detector resizes them.
        data_dir: Folder of the dataset, see `open_source`.
        hflip: Probability of a horizontal flip in training, which leaves out images without objects; None for
            evaluation.
        seed: Seed of the scenes of shapes.

    Raises:
        AtmvizError: the COCO backend is not installed.
        SettingsError: no such dataset.
        DatasetError: annotations that are damaged or of another kind.
    """
    coco_masks()
    require_dataset(name, "detect")
    images = open_source(name, data_dir=data_dir, split=split, size=size, seed=seed, upright=False)
    if isinstance(images, ImageFiles):
        return CocoDetection(images, hflip)
    classes = class_names(name, "detect")
    return SceneDetection(images, classes, range(len(classes)), hflip)


class SceneDetection(DetectionImages):
    """Drawn scenes; annotations follow from what is known of their objects."""

    def annotated(self, index: int) -> tuple[np.ndarray, list[Annotation]]:
        """Return a scene's image [H, W, 3] and its annotations with their masks [H, W], bool."""
        image, truth = read_labeled(self.source, index)
        annotations = []
        for number, thing in enumerate(truth.objects, 1):
            left, top, right, bottom = thing.box
            mask: np.ndarray = truth.instances == number  # type: ignore[assignment]
            box = [left, top, right - left, bottom - top]
            annotations.append({"category_id": thing.label, "bbox": box, "area": int(mask.sum()), "mask": mask})
        return image, annotations


class CocoDetection(DetectionImages):
    """The images that an instances file lists, in the order of image ids, with its annotations.

    Args:
        images: The image files, whose labels are `CocoInstances`.
        hflip: As in `DetectionImages`; training leaves out images on which nothing can be learned, as mmdetection does.

    Raises:
        DatasetError: no instances file (panoptic, captions, keypoints, results), damaged, with annotations of unknown
            images or categories, or images without a file; when read, an image or a mask of another size than the
            JSON says.
    """

    def __init__(self, images: ImageFiles, hflip: float | None) -> None:
        assert isinstance(images.labels, CocoInstances)
        self.images, self.instances = images, images.labels
        content = self.instances.content
        self.records = [record for record in content.records if hflip is None or _has_objects(record, content)]
        self.instances.require_files(images, self.records)
        listed = replace(images, names=tuple(record["file_name"] for record in self.records))
        super().__init__(listed, content.classes, content.category_ids, hflip)
        self.notes = [*filter(None, [images.note, self.instances.file[1]])]

    def annotated(self, index: int) -> tuple[np.ndarray, list[Annotation]]:
        return self.instances.read(self.images, self.records[index])


def _has_objects(record: dict[str, Any], content: Instances) -> bool:
    """Return whether a detector learns something from an image."""
    return any(is_learned(annotation, size_of(record)) for annotation in content.annotations[record["id"]])


def _flipped(target: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    return {**target, "boxes": torch.stack([width - x2, y1, width - x1, y2], 1), "masks": target["masks"].flip(-1)}
