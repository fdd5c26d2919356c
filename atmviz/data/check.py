"""Public datasets: where their files are, what they must hold, and whether a folder holds it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atmviz.data.images import ImageSet, find_dataset, load_image
from atmviz.data.listing import list_images
from atmviz.errors import DatasetError, join_limited


@dataclass(frozen=True)
class SourceFile:
    """A file to download: its address, MD5 and size in bytes where they are known."""

    url: str
    md5: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """A public dataset: title, page with its terms, files and the tree they unpack to."""

    title: str
    page: str
    files: tuple[SourceFile, ...]
    tree: str


_COCO = "http://images.cocodataset.org"
DATASETS = {
    "ade20k": DatasetInfo(
        "ADE20K scene parsing (SceneParse150): 20,210 + 2,000 images, 150 classes",
        "http://sceneparsing.csail.mit.edu",
        (
            SourceFile(
                "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                "7328b3957e407ddae1d3cbf487f149ef",
            ),
        ),
        """\
ADEChallengeData2016/
  images/training/ADE_train_00000001.jpg ...      20,210
  images/validation/ADE_val_00000001.jpg ...       2,000
  annotations/training/ADE_train_00000001.png ... 20,210  (0: other, 1 to 150: the classes)
  annotations/validation/ADE_val_00000001.png ...  2,000""",
    ),
    "coco": DatasetInfo(
        "COCO 2017 instances: 118,287 + 5,000 images, 80 classes",
        "https://cocodataset.org/#termsofuse",
        (
            SourceFile(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798),
            SourceFile(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330),
            SourceFile(
                f"{_COCO}/annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541
            ),
        ),
        """\
coco/
  train2017/000000000009.jpg ...         118,287
  val2017/000000000139.jpg ...             5,000
  annotations/instances_train2017.json   118,287 images, 860,001 objects
  annotations/instances_val2017.json       5,000 images,  36,781 objects""",
    ),
    "imagenet": DatasetInfo(
        "ImageNet-1K (ILSVRC 2012): 1,281,167 + 50,000 images, 1,000 classes",
        "https://image-net.org/download.php (behind a login)",
        (
            SourceFile("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e"),
            SourceFile("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),
        ),
        """\
imagenet/
  train/n01440764/n01440764_10026.JPEG ...    1,281,167 in 1,000 folders
  val/n01440764/ILSVRC2012_val_00000293.JPEG ... 50,000 in 1,000 folders (flat is enough to record offsets)""",
    ),
}
_IMAGES = {
    "ade20k": {"train": 20_210, "val": 2_000},
    "coco": {"train": 118_287, "val": 5_000},
    "imagenet": {"train": 1_281_167, "val": 50_000},
}
_COCO_OBJECTS = {"train": 860_001, "val": 36_781}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        what: E.g. "val images".
        found, expected: Counts, or words.
        ok: Whether it is as it must be.
        problem: What is wrong and what to do; empty where nothing is.
        note: What was left out of the count; empty where nothing was.
    """

    what: str
    found: str
    expected: str
    ok: bool
    problem: str = ""
    note: str = ""


def dataset_info(name: str) -> DatasetInfo:
    """What is known of a public dataset; raises DatasetError for an unknown name."""
    if name not in DATASETS:
        raise DatasetError(
            f"no public dataset {name!r}: expected {', '.join(DATASETS)} (shapes and digits need no files)"
        )
    return DATASETS[name]


def check_dataset(
    name: str,
    data_dir: Path | None = None,
    *,
    splits: Sequence[str] = ("train", "val"),
    read: bool = False,
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Look for every part of a public dataset: files, counts, and that images and annotations fit.

    Args:
        name: "ade20k", "coco" or "imagenet".
        data_dir: As in `find_dataset`.
        splits: Which.
        read: Also open every image (and mask), which takes minutes to hours.
        on_images: Called with (images read, images in all) of each split.

    Raises:
        DatasetError: no such dataset.
    """
    dataset_info(name)
    return [finding for split in splits for finding in _check_split(name, split, data_dir, read, on_images)]


def _check_split(
    name: str, split: str, data_dir: Path | None, read: bool, on_images: Callable[[int, int], None]
) -> list[Finding]:
    expected = _IMAGES[name][split]
    try:
        images = find_dataset(name, data_dir, split)
    except DatasetError as error:
        return [_count(f"{split} images", 0, expected, str(error))]
    count = _count(f"{split} images", len(images), expected, f"in {images.root}: unpack the archive again")
    found = [replace(count, note=images.note)]
    try:
        found += _CHECKS[name](images, split)
        if read:
            found.append(_read_all(name, images, split, on_images))
    except DatasetError as error:
        found.append(Finding(f"{split} annotations", "damaged", "whole", False, str(error)))
    return found


def _count(what: str, found: int, expected: int, problem: str) -> Finding:
    return Finding(what, f"{found:,}", f"{expected:,}", found == expected, "" if found == expected else problem)


def _check_ade20k(images: ImageSet, split: str) -> list[Finding]:
    from atmviz.data.segmentation import find_masks

    masks, _ = find_masks(images.root)
    found = list_images(masks).names if masks.is_dir() else ()
    there = {Path(name).with_suffix("") for name in found if name.endswith(".png")}
    own = {Path(name).with_suffix("") for name in images.names}
    problem = f"in {masks}: unpack the archive again"
    if lacking := sorted(own - there):
        named = join_limited(map(str, lacking), 3)
        problem = f"{len(lacking)} images have no mask in {masks} ({named}): unpack the archive again"
    count = _count(f"{split} masks", len(there), _IMAGES["ade20k"][split], problem)
    return [replace(count, ok=count.ok and not lacking, problem=problem if lacking else count.problem)]


def _check_coco(images: ImageSet, split: str) -> list[Finding]:
    from atmviz.data.detection import CocoInstances

    found = CocoInstances(images)
    objects = sum(map(len, found.annotations.values()))
    problem = f"in {found.annotation_file}: unpack annotations_trainval2017.zip again"
    return [
        _count(f"{split} images in the JSON", len(found), _IMAGES["coco"][split], problem),
        _count(f"{split} objects", objects, _COCO_OBJECTS[split], problem),
        _count(f"{split} classes", len(found.classes), 80, problem),
    ]


def _check_imagenet(images: ImageSet, split: str) -> list[Finding]:
    folders = {Path(name).parts[0] for name in images.names if len(Path(name).parts) == 2}
    problem = f"in {images.root}: sort the images into one folder per class"
    return [_count(f"{split} classes", len(folders), 1_000, problem)]


_CHECKS = {"ade20k": _check_ade20k, "coco": _check_coco, "imagenet": _check_imagenet}


def _read_all(name: str, images: ImageSet, split: str, on_images: Callable[[int, int], None]) -> Finding:
    """Every image opened, with its mask or annotations."""
    read: Callable[[int], Any] = lambda index: load_image(images.path(index))  # noqa: E731
    if name == "ade20k":
        from atmviz.data.segmentation import ADE20K

        read = ADE20K(images).__getitem__
    elif name == "coco":
        from atmviz.data.detection import CocoInstances

        read = CocoInstances(images).__getitem__
    problems = []
    for index in range(len(images)):
        try:
            read(index)
        except DatasetError as error:
            problems.append(str(error))
        on_images(index + 1, len(images))
    good = len(images) - len(problems)
    return Finding(f"{split} files read", f"{good:,}", f"{len(images):,}", not problems, join_limited(problems, 3))
