"""COCO's instance files: read, and every field checked that is read later. Torch-free.

An annotation is a dict: category_id, bbox [left, top, width, height] in px, area in px^2, iscrowd, and segmentation
(polygons or run lengths) or, of drawn scenes, mask [H, W].
"""

import json
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from atmviz.errors import DatasetError, shorten, summarize
from atmviz.files import foreign_content
from atmviz.sources.decoding import read_file

Annotation = dict[str, Any]
_REQUIRED: dict[str, dict[str, Any]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": int, "category_id": int, "bbox": list, "segmentation": (list, dict)},
    "categories": {"id": int, "name": str},
}


@dataclass(frozen=True)
class Instances:
    """The content of an instances file.

    Attributes:
        records: The images, in the order of their ids.
        annotations: By image id.
        category_ids: In ascending order; the index of a category is its label.
        classes: Names, by label.
    """

    records: tuple[dict[str, Any], ...]
    annotations: dict[int, list[Annotation]]
    category_ids: tuple[int, ...]
    classes: tuple[str, ...]


def read_instances(file: Path) -> Instances:
    """Read an instances file; raise DatasetError for another kind of file, or damaged or inconsistent annotations."""
    content = _checked_content(file)
    records, categories = (sorted(content[part], key=itemgetter("id")) for part in ("images", "categories"))
    annotations: dict[int, list[Annotation]] = {record["id"]: [] for record in records}
    for annotation in content["annotations"]:
        annotation.pop("mask", None)  # no field of COCO: only drawn scenes carry it
        annotations[annotation["image_id"]].append(annotation)
    ids, names = (tuple(category[key] for category in categories) for key in ("id", "name"))
    return Instances(tuple(records), annotations, ids, names)


def _checked_content(file: Path) -> dict[str, Any]:
    """Return the content of a file, each field that is read later checked."""
    data = read_file(file, "annotations", max_bytes=4 * 2**30)
    if what := foreign_content(data[:512]):
        raise DatasetError(f"cannot read annotations {file} ({what})")
    try:
        content = json.loads(data)  # of any encoding of Unicode, with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file} is no whole JSON file ({summarize(error)}): unpack it again") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _REQUIRED):
        raise DatasetError(
            f"{file} has no lists {', '.join(_REQUIRED)}: expected COCO's instances_{{train,val}}2017.json"
        )
    for kind, mark in (("panoptic", "segments_info"), ("captions", "caption"), ("keypoints", "keypoints")):
        if any(isinstance(first, dict) and mark in first for first in content["annotations"][:1]):
            raise DatasetError(f"{file} holds {kind}, expected boxes: take COCO's instances_{{train,val}}2017.json")
    for part, fields in _REQUIRED.items():
        _require_fields(file, part, content[part], fields)
    images, categories = (_ids(file, part, content[part]) for part in ("images", "categories"))
    for annotation in content["annotations"]:
        if annotation["image_id"] not in images or annotation["category_id"] not in categories:
            raise DatasetError(
                f"{file}: annotation {annotation.get('id')} is of image {annotation['image_id']} and category "
                f"{annotation['category_id']}, expected ids among its {len(images)} images and {len(categories)} "
                "categories: correct it"
            )
        if problem := _problem_of(annotation):
            raise DatasetError(f"{file}: annotation {annotation.get('id')} {problem}: correct it")
    return content


def _require_fields(file: Path, part: str, items: list[Any], fields: dict[str, Any]) -> None:
    for index, item in enumerate(items):
        for name, kind in fields.items():
            if not isinstance(item, dict) or not isinstance(item.get(name), kind) or item[name] is True:
                raise DatasetError(f"{file}: {part}[{index}] has no usable {name!r}: correct it, or unpack it again")


def _ids(file: Path, part: str, items: list[dict[str, Any]]) -> set[int]:
    """Return the ids of images or categories; raise DatasetError where two have the same."""
    counts = Counter(item["id"] for item in items)
    if len(counts) < len(items):
        twice = counts.most_common(1)[0][0]
        raise DatasetError(f"{file} has two {part} of id {twice}, expected one each: correct it")
    return set(counts)


def _problem_of(annotation: Annotation) -> str:
    """Return what is wrong with box, area, crowd flag or mask; "" where nothing is."""
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
    elif any(not isinstance(part, list) or len(part) % 2 or not all(map(_is_length, part)) for part in segmentation):
        return "has a mask that is no list of polygons in px, expected [[x1, y1, x2, y2, x3, y3, ...], ...]"
    elif not any(len(polygon) >= 6 for polygon in segmentation):
        return "has no polygon of three points or more, expected a mask for each object"
    return ""


def _is_length(value: Any, most: float = 1e6) -> bool:
    """Return whether it is a number of px that images can have; NaN compares as false."""
    return type(value) in (int, float) and abs(value) < most


def _short(value: Any) -> str:
    return "a huge number" if isinstance(value, int) and abs(value) >= 10**20 else shorten(str(value), 60)


def _are_run_lengths(mask: dict[str, Any]) -> bool:
    """Return whether the runs cover the mask exactly: the backend would write past its end."""
    size: Any = mask.get("size")
    counts: Any = mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n < 10**5 for n in size):
        return False
    if isinstance(counts, str):
        counts = _decompressed(counts)
    whole = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    return whole and sum(counts) == size[0] * size[1]


def _decompressed(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: five bits a character, differences to the run before the last."""
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
