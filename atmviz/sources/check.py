"""Whether a folder holds every part of a public dataset. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atmviz.errors import DatasetError, join_limited
from atmviz.events import QUIET, Events
from atmviz.sources.ade20k import Ade20kMasks
from atmviz.sources.coco import CocoInstances
from atmviz.sources.datasets import DATASETS, dataset_info
from atmviz.sources.files import ImageFiles
from atmviz.sources.listing import list_images
from atmviz.sources.opening import find_dataset
from atmviz.sources.source import SPLITS, Split, read_labeled


@dataclass(frozen=True)
class CheckResult:
    """The check of one part of a dataset.

    Attributes:
        what: The part, e.g. "val images".
        found, expected: Counts, or the state in words.
        ok: Whether the part is complete and undamaged.
        problem: What is wrong and what to do; empty where nothing is.
        note: What was left out of the count; empty where nothing was.
    """

    what: str
    found: str
    expected: str
    ok: bool
    problem: str = ""
    note: str = ""


def check_dataset(
    name: str,
    data_dir: Path | None = None,
    *,
    splits: Sequence[Split] = SPLITS,
    read: bool = False,
    events: Events = QUIET,
) -> list[CheckResult]:
    """Check every part of a public dataset: files, counts, and whether images and annotations fit.

    Args:
        name: "ade20k", "coco" or "imagenet".
        data_dir: As in `open_source`.
        splits: The splits to check.
        read: Also open every image (and mask), which takes minutes to hours.
        events: Receives (images read, images in all) of each split.

    Raises:
        SettingsError: no such dataset.
    """
    return [result for split in splits for result in _check_split(name, split, data_dir, read, events)]


def _check_split(name: str, split: Split, data_dir: Path | None, read: bool, events: Events) -> list[CheckResult]:
    expected = dataset_info(name).images[split]
    try:
        images = replace(find_dataset(name, data_dir, split), upright=False)
    except DatasetError as error:
        problem = str(error).replace(f"no {name} {split} images", "none")  # the same for both splits
        return [_count(f"{split} images", 0, expected, problem)]
    count = _count(f"{split} images", len(images), expected, f"in {images.root}: unpack the archive again")
    results = [replace(count, note=images.note)]
    try:
        results += _CHECKS[name](images, split)
        if read:
            results.append(_read_all(images, split, events))
    except DatasetError as error:
        results.append(CheckResult(f"{split} annotations", "damaged", "whole", False, str(error)))
    return results


def _count(what: str, found: int, expected: int, problem: str, is_damaged: bool = False) -> CheckResult:
    ok = found == expected and not is_damaged
    return CheckResult(what, f"{found:,}", f"{expected:,}", ok, "" if ok else problem)


def _check_ade20k(images: ImageFiles, split: Split) -> list[CheckResult]:
    assert isinstance(images.labels, Ade20kMasks)
    folder, _ = images.labels.masks
    names = list_images(folder).names if folder.is_dir() else ()
    masks = {Path(name).with_suffix("") for name in names if name.endswith(".png")}
    problem = f"in {folder}: unpack the archive again"
    if missing := sorted({Path(name).with_suffix("") for name in images.names} - masks):
        some = join_limited(map(str, missing), 3)
        problem = f"no mask in {folder} for {some}: unpack the archive again"
    return [_count(f"{split} masks", len(masks), DATASETS["ade20k"].images[split], problem, bool(missing))]


def _check_coco(images: ImageFiles, split: Split) -> list[CheckResult]:
    assert isinstance(images.labels, CocoInstances)
    images.labels.require(images)
    content = images.labels.content
    objects = sum(map(len, content.annotations.values()))
    problem = f"in {images.labels.file[0]}: unpack annotations_trainval2017.zip again"
    coco = DATASETS["coco"]
    return [
        _count(f"{split} images in the JSON", len(content.records), coco.images[split], problem),
        _count(f"{split} objects", objects, coco.objects[split], problem),
        _count(f"{split} classes", len(content.classes), coco.num_classes, problem),
    ]


def _check_imagenet(images: ImageFiles, split: Split) -> list[CheckResult]:
    folders = {Path(name).parts[0] for name in images.names if len(Path(name).parts) == 2}
    problem = f"in {images.root}: sort the images into one folder per class"
    return [_count(f"{split} classes", len(folders), DATASETS["imagenet"].num_classes, problem)]


_CHECKS = {"ade20k": _check_ade20k, "coco": _check_coco, "imagenet": _check_imagenet}


def _read_all(images: ImageFiles, split: Split, events: Events) -> CheckResult:
    """Open every image, with its mask or annotations."""
    labels, problems = images.labels, []
    total = len(labels.content.records if isinstance(labels, CocoInstances) else images)
    for index in range(total):
        try:
            if isinstance(labels, CocoInstances):
                labels.read(images, labels.content.records[index])
            elif isinstance(labels, Ade20kMasks):
                read_labeled(images, index)
            else:
                images.read(index)
        except DatasetError as error:
            problems.append(str(error))
        events.images(index + 1, total)
    return _count(f"{split} files read", total - len(problems), total, join_limited(problems, 3))
