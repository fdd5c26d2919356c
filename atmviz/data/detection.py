"""Images with boxes, classes and masks of objects: COCO and shapes.

Objects travel as COCO's annotations, one dict each: category_id, bbox [left, top, width, height] in px, area in px^2,
iscrowd, segmentation (polygons or run lengths) or, drawn and not stored, mask [H, W].
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from atmviz.data.classification import Split
from atmviz.data.images import DATASET_LAYOUTS, ImageSet, find_dataset, load_image, read_file
from atmviz.data.segmentation import normalize
from atmviz.data.shapes import SHAPE_CLASSES, Shapes
from atmviz.errors import AtmvizError, DatasetError, join_limited, shorten, summarize
from atmviz.files import foreign_content

Annotation = dict[str, Any]
_MAX_MASK_BYTES = 2**31  # of one image's objects, as they are learned from


class DetectionImages(Dataset):
    """Images [3, H, W], normalised, each with its target and its annotations.

    A target has boxes [N, 4] in px (x1, y1, x2, y2), labels [N] from 0 on and masks [N, H, W], uint8; crowds and boxes
    of no area are left to the annotations, which evaluation reads.

    Args:
        source: Gives (image [H, W, 3], annotations).
        classes: Names, by label.
        category_ids: What annotations call them.
        hflip: Probability of a horizontal flip.
        with_target: Whether masks are drawn for training.

    Attributes:
        notes: Lines for people on what was left out, and where annotations were found.
    """

    def __init__(
        self, source: Any, classes: Sequence[str], category_ids: Sequence[int], hflip: float, with_target: bool
    ) -> None:
        self.source, self.classes, self.category_ids = source, tuple(classes), tuple(category_ids)
        self.hflip, self.with_target = hflip, with_target
        self.notes: list[str] = getattr(source, "notes", [])
        self._labels = {category: label for label, category in enumerate(category_ids)}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, annotations = self.source[index]
        x = normalize(image)
        if not self.with_target:
            return {"image": x, "annotations": annotations, "image_id": index}
        target = self.target(annotations, image.shape[:2])
        if self.hflip and torch.rand(1).item() < self.hflip:
            x, target = x.flip(-1), _flipped(target, x.shape[-1])
        return {"image": x, "target": target}

    def target(self, annotations: Sequence[Annotation], size: tuple[int, int]) -> dict[str, Tensor]:
        """What a detector learns from annotations of an image of `size` (height, width) px."""
        kept = [one for one in annotations if _is_learned(one, size)]
        if len(kept) * size[0] * size[1] > _MAX_MASK_BYTES:
            raise DatasetError(
                f"an image of {size[0]} x {size[1]} px has {len(kept)} objects, whose masks take over "
                f"{_MAX_MASK_BYTES / 2**30:.0f} GiB: expected fewer, or smaller images"
            )
        boxes = [_box_within(one, size) for one in kept]
        masks = [one["mask"] if "mask" in one else coco_masks().decode(run_lengths(one, size)) for one in kept]
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([self._labels[one["category_id"]] for one in kept], dtype=torch.int64),
            "masks": torch.from_numpy(np.stack(masks).astype(np.uint8)) if masks else torch.zeros(0, *size).byte(),
        }

    def path(self, index: int) -> str:
        """A name of the image for people."""
        if isinstance(self.source, ShapesInstances):
            return f"{index:05d}"
        return Path(self.source.records[index]["file_name"]).with_suffix("").as_posix()


def open_detection(
    name: str,
    split: Split,
    size: int,
    *,
    data_dir: str | Path | None = None,
    hflip: float = 0.0,
    with_target: bool = False,
    seed: int = 0,
) -> DetectionImages:
    """A dataset for training (`with_target`) or evaluation.

    Args:
        name: "coco" or "shapes".
        split: "train" or "val".
        size: Of the scenes of shapes, px; COCO's images keep theirs, a detector resizes them.
        data_dir: Folder of the dataset, see `find_dataset`.
        hflip: Probability of a horizontal flip.
        with_target: Give targets, and leave images without objects out, in place of annotations.
        seed: Of the scenes of shapes.

    Raises:
        AtmvizError: the COCO backend is not installed.
        DatasetError: no such dataset, or annotations that are damaged or of another kind.
    """
    coco_masks()
    if name == "shapes":
        scenes = ShapesInstances(Shapes(size, split=split, seed=seed))
        return DetectionImages(scenes, SHAPE_CLASSES, range(len(SHAPE_CLASSES)), hflip, with_target)
    if name == "coco":
        images = find_dataset(name, Path(data_dir) if data_dir else None, split)
        source = CocoInstances(images, only_with_objects=with_target)
        return DetectionImages(source, source.classes, source.category_ids, hflip, with_target)
    raise DatasetError(f"no dataset {name!r} to detect in: expected coco or shapes")


class ShapesInstances(Dataset):
    """Scenes as images and annotations."""

    def __init__(self, scenes: Shapes) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[np.ndarray, list[Annotation]]:
        scene = self.scenes[index]
        annotations = [
            {"category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum()), "mask": mask}
            for label, (x1, y1, x2, y2), mask in zip(
                scene.labels.tolist(), scene.boxes.tolist(), scene.instance_masks, strict=True
            )
        ]
        return scene.image, annotations


def find_instances(folder: Path) -> tuple[Path, str]:
    """The instances file of a folder of images, `annotations/instances_val2017.json` beside `val2017`.

    Of a folder that is a link, the place beside the link goes before the one beside its target; a line for people says
    where the latter is taken.
    """
    for root in (folder, folder.resolve()):
        for base in (root.parent, root.parent.parent):
            file = base / "annotations" / f"instances_{root.name}.json"
            if os.path.isfile(file):
                beside = f"{folder} is a link: taking the annotations {file} beside its target"
                return file, "" if base in folder.parents else beside
    raise DatasetError(
        f"no annotations of {folder}: expected {folder.parent}/annotations/instances_{folder.name}.json; "
        f"unpack annotations_trainval2017.zip ({DATASET_LAYOUTS['coco'].tree})"
    )


class CocoInstances(Dataset):
    """COCO's images and annotations, in the order of image ids.

    Args:
        images: The image files; their instances JSON is found by `find_instances`.
        only_with_objects: Leave out images on which nothing can be learned, as mmdetection does in training.

    Raises:
        DatasetError: no instances file (panoptic, captions, keypoints, results), damaged, with annotations of unknown
            images or categories, or images without a file; when read, an image or a mask of another size than the
            JSON says.
    """

    def __init__(self, images: ImageSet, only_with_objects: bool = False) -> None:
        file, beside = find_instances(images.root)
        self.images, self.annotation_file = images, file
        self.notes = [note for note in (images.note, beside) if note]
        content = _read_instances(file)
        categories = sorted(content["categories"], key=lambda one: one["id"])
        self.category_ids = tuple(one["id"] for one in categories)
        self.classes = tuple(one["name"] for one in categories)
        self.records = sorted(content["images"], key=lambda one: one["id"])
        self.annotations: dict[int, list[Annotation]] = {one["id"]: [] for one in self.records}
        for one in content["annotations"]:
            one.pop("mask", None)  # of ours where drawn, of nobody's here
            self.annotations[one["image_id"]].append(one)
        if only_with_objects:
            self.records = [
                image
                for image in self.records
                if any(_is_learned(one, (image["height"], image["width"])) for one in self.annotations[image["id"]])
            ]
        files = set(images.names)
        if lacking := [one["file_name"] for one in self.records if one["file_name"] not in files]:
            raise DatasetError(
                f"{len(lacking)} of the {len(self.records)} images in {file} are not in {images.root} "
                f"({join_limited(lacking, 3)}): unpack the images again, or take the annotations of this split"
            )
        if not self.records:
            raise DatasetError(f"{file} has no image with objects: expected instances to learn from")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, list[Annotation]]:
        record = self.records[index]
        image = load_image(self.images.root / record["file_name"], upright=False)
        size = record["height"], record["width"]
        if image.shape[:2] != size:
            raise DatasetError(
                f"image {record['file_name']} is {image.shape[0]} x {image.shape[1]} px, {self.annotation_file} says "
                f"{size[0]} x {size[1]}: take images and annotations of one release"
            )
        annotations = self.annotations[record["id"]]
        for one in annotations:
            segmentation = one["segmentation"]
            if isinstance(segmentation, dict) and tuple(segmentation["size"]) != size:
                raise DatasetError(
                    f"annotation {one.get('id')} of {record['file_name']} has a mask of {segmentation['size']} px, "
                    f"its image {list(size)}: correct {self.annotation_file}"
                )
        return image, annotations


def run_lengths(annotation: Annotation, size: tuple[int, int]) -> dict[str, Any]:
    """An annotation's mask as compressed run lengths, for an image of `size` (height, width) px.

    Polygons of under three points, which have no area, are left out.
    """
    masks = coco_masks()
    if "mask" in annotation:
        return masks.encode(np.asfortranarray(annotation["mask"], dtype=np.uint8))
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if sum(map(_perimeter, polygons)) > 4 * (size[0] + 1) * (size[1] + 1):  # the backend walks along all of it
            raise DatasetError(
                f"annotation {annotation.get('id')} has polygons longer than the edges of all pixels of its image of "
                f"{size[0]} x {size[1]} px: correct it"
            )
        return masks.merge(masks.frPyObjects(polygons, *size))
    if isinstance(segmentation["counts"], list):
        return masks.frPyObjects(segmentation, *size)
    return segmentation


def _perimeter(polygon: Sequence[float]) -> float:
    """Of a closed polygon, as the backend walks it: the longer of the steps across and down, px."""
    points = np.asarray(polygon).reshape(-1, 2)
    return np.abs(points - np.roll(points, 1, axis=0)).max(1).sum()


def coco_masks() -> Any:
    """The COCO backend's functions for masks.

    Raises:
        AtmvizError: it is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise AtmvizError(
            "got a detector's data or evaluation, which faster-coco-eval reads, which is not installed: "
            "pip install 'atmviz[coco]'"
        ) from None
    return mask


def _box_within(annotation: Annotation, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) as far as it lies on an image of `size` (height, width) px."""
    left, top, width, height = annotation["bbox"]
    return max(left, 0), max(top, 0), min(left + width, size[1]), min(top + height, size[0])


def _is_learned(annotation: Annotation, size: tuple[int, int]) -> bool:
    """No crowd, and a pixel or more on the image, as mmdetection has it."""
    x1, y1, x2, y2 = _box_within(annotation, size)
    return not annotation.get("iscrowd") and x2 - x1 >= 1 and y2 - y1 >= 1


def _flipped(target: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    return {
        **target,
        "boxes": torch.stack([width - x2, y1, width - x1, y2], 1),
        "masks": target["masks"].flip(-1),
    }


def _read_instances(file: Path) -> dict[str, Any]:
    """The JSON, with every field that is read later checked."""
    data = read_file(file, "annotations", max_bytes=4 * 2**30)
    if what := foreign_content(data[:512]):
        raise DatasetError(f"cannot read annotations {file} ({what})")
    try:
        content = json.loads(data)  # of any encoding of Unicode, with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file} is no whole JSON file ({summarize(error)}): unpack it again") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise DatasetError(f"{file} has no lists {', '.join(parts)}: expected COCO's instances_{{train,val}}2017.json")
    for kind, mark in (("panoptic", "segments_info"), ("captions", "caption"), ("keypoints", "keypoints")):
        if any(isinstance(one, dict) and mark in one for one in content["annotations"][:1]):
            raise DatasetError(f"{file} holds {kind}, expected boxes: take COCO's instances_{{train,val}}2017.json")
    required: dict[str, dict[str, Any]] = {
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "annotations": {"image_id": int, "category_id": int, "bbox": list, "segmentation": (list, dict)},
        "categories": {"id": int, "name": str},
    }
    for part, fields in required.items():
        for place, one in enumerate(content[part]):
            for name, kind in fields.items():
                if not isinstance(one, dict) or not isinstance(one.get(name), kind) or one[name] is True:
                    raise DatasetError(
                        f"{file}: {part}[{place}] has no usable {name!r}, which every COCO instance file has: "
                        "correct it, or unpack it again"
                    )
    images, categories = ({one["id"] for one in content[part]} for part in ("images", "categories"))
    for part, ids in (("images", images), ("categories", categories)):
        if len(ids) < len(content[part]):
            twice = Counter(one["id"] for one in content[part]).most_common(1)[0][0]
            raise DatasetError(f"{file} has two {part} of id {twice}, expected one each: correct it")
    for one in content["annotations"]:
        if one["image_id"] not in images or one["category_id"] not in categories:
            raise DatasetError(
                f"{file}: annotation {one.get('id')} is of image {one['image_id']} and category {one['category_id']}, "
                f"expected ids among its {len(images)} images and {len(categories)} categories: correct it"
            )
        problem = _problem_of(one)
        if problem:
            raise DatasetError(f"{file}: annotation {one.get('id')} {problem}: correct it")
    return content


def _problem_of(annotation: Annotation) -> str:
    box, crowd = annotation["bbox"], annotation.get("iscrowd", 0)
    area: Any = annotation.get("area")
    if len(box) != 4 or not all(map(_is_length, box)) or min(box[2:]) < 0:
        return f"has bbox {_short(box)}, expected [left, top, width, height] in px"
    if not _is_length(area, most=1e12) or area < 0:
        return f"has area {_short(area)}, expected px^2"
    if crowd not in (0, 1):
        return f"has iscrowd {_short(crowd)}, expected 0 or 1"
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict):
        if not _are_run_lengths(segmentation):
            return "has a mask of run lengths that do not add up, expected size [height, width] and counts for it"
    elif any(not isinstance(one, list) or len(one) % 2 or not all(map(_is_length, one)) for one in segmentation):
        return "has a mask that is no list of polygons in px, expected [[x1, y1, x2, y2, x3, y3, ...], ...]"
    elif not any(len(polygon) >= 6 for polygon in segmentation):
        return "has no polygon of three points or more, expected a mask for each object"
    return ""


def _is_length(value: Any, most: float = 1e6) -> bool:
    """A number of px that images can have; NaN compares as false."""
    return type(value) in (int, float) and abs(value) < most


def _short(value: Any) -> str:
    return "a huge number" if isinstance(value, int) and abs(value) >= 10**20 else shorten(str(value), 60)


def _are_run_lengths(mask: dict[str, Any]) -> bool:
    """Whether the runs cover the mask exactly: the backend would write past its end."""
    size: Any = mask.get("size")
    counts: Any = mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n < 10**5 for n in size):
        return False
    if isinstance(counts, str):
        counts = _decompressed(counts)
    whole = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    return whole and sum(counts) == size[0] * size[1]


def _decompressed(text: str) -> list[int]:
    """COCO's compressed run lengths: five bits to a character, differences to the run before the last."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts if not shift else [-1]
