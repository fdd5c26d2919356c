"""Labelled images for classification: class folders and timm's other readers, digits, shapes."""

import importlib.util
import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import auto_augment, create_dataset, create_transform
from torch import Tensor
from torch.utils.data import Dataset

from atmviz.data.images import (
    DATASET_LAYOUTS,
    MAX_IMAGE_BYTES,
    ImageSet,
    data_folder,
    decode_image,
    read_file,
    require_readable,
    unreadable,
)
from atmviz.data.listing import HIDDEN, UNREADABLE, is_hidden_folder, list_images, why_left_out
from atmviz.data.shapes import SHAPE_CLASSES, Shapes
from atmviz.errors import DatasetError, RecipeError, join_limited, shorten, summarize
from atmviz.geometry import Preprocessing

Split = Literal["train", "val"]
MEAN, STD = Preprocessing.mean, Preprocessing.std
IMAGENET_CLASSES = 1000
_READER_PACKAGES = {"hfds": "datasets", "torch": "torchvision"}
# timm's policies, and the ranges of the numbers that each takes
_POLICIES: dict[str, dict[str, tuple[float, float]]] = {
    "none": {},
    **{name: {"mstd": (0, 1000)} for name in ("original", "originalr", "v0", "v0r", "3a")},
    "rand": {"m": (0, 30), "mmax": (1, 30), "mstd": (0, 1000), "n": (1, 10), "p": (0, 1), "inc": (0, 1)},
    "augmix": {"m": (0, 30), "mstd": (0, 1000), "w": (1, 10), "d": (0, 10), "a": (0.1, 100), "b": (0, 1)},
}
_POLICY_SETTING = re.compile(r"([a-z]+)([0-9]{1,6}(\.[0-9]{1,6})?)")
_POLICY_REALS = ("mstd", "p", "a")
_RAND_SETS = ("tweights", "t3a", "t3aw")
_STREAMING_READERS = ("wds", "tfds", "hfids")


@dataclass(frozen=True)
class Augmentation:
    """How training images vary, in timm's terms; the defaults change nothing."""

    crop_scale_min: float = 1.0
    hflip: float = 0.0
    color_jitter: float = 0.0
    auto_augment: str = "none"
    random_erasing: float = 0.0
    erase_mode: str = "pixel"


class LabelledImages(Dataset):
    """Images [3, size, size], normalised, with their class; shapes bring the label of every pixel along.

    Attributes:
        classes: Their names, by label.
        notes: Lines for people: what was left out, in which order classes are numbered where there are two.
    """

    def __init__(self, source: Any, classes: Sequence[str], transform: Callable[[Image.Image], Tensor]) -> None:
        self.source, self.classes, self.transform = source, tuple(classes), transform
        self._labels = range(len(self.classes))  # new ones, by the source's
        self._order = "as text, as torchvision does" if isinstance(source, ClassImages) else ""

    @property
    def notes(self) -> list[str]:
        order = f"classes are numbered {self._order}: {join_limited(self.classes, 5)}"
        is_unusual = self._order and list(self.classes) != sorted(self.classes, key=_natural)
        return [*filter(None, [getattr(self.source, "note", "")]), *([order] if is_unusual else [])]

    def number_as(self, classes: Sequence[str]) -> None:
        """Number the classes in the order in which a checkpoint names them, if those are the same ones."""
        if self.classes != tuple(classes) and sorted(self.classes) == sorted(classes):
            self._labels = [classes.index(self.classes[label]) for label in self._labels]  # type: ignore[assignment]
            self.classes, self._order = tuple(classes), "as the checkpoint names them"

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.source[index]
        if isinstance(self.source, Shapes):
            return {
                "image": self.transform(Image.fromarray(item.image)),
                "label": item.label,
                "mask": torch.from_numpy(item.semantic_mask),
            }
        image, label = item
        return {"image": self.transform(image), "label": self._labels[label]}


def open_labelled(
    name: str,
    split: Split,
    size: int,
    *,
    data_dir: str | Path | None = None,
    crop_pct: float = 0.875,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> LabelledImages:
    """A dataset for training (with an augmentation) or evaluation (the released transform: resize, centre crop).

    Args:
        name: "shapes", "digits", "imagenet", "folder" (any folder of class folders) or a timm reader ("hfds/...").
        split: "train" or "val" ("validation" and "test" folders are found too).
        size: Side of the input, px.
        data_dir: Folder that holds the splits; `$ATMVIZ_DATA`, else `./data`, without it.
        seed: Of the scenes of shapes.

    Raises:
        DatasetError: no such dataset or split, an empty class, or (when read) an unreadable image.
    """
    transform = eval_transform(size, crop_pct) if augmentation is None else train_transform(size, augmentation)
    if name == "shapes":
        return LabelledImages(Shapes(size, split=split, seed=seed), SHAPE_CLASSES, transform)
    if name == "digits":
        return LabelledImages(Digits(split), [str(digit) for digit in range(10)], transform)
    if name in ("imagenet", "folder"):
        source = ClassImages(find_split(name, data_dir, split))
        if name == "imagenet" and len(source.classes) != IMAGENET_CLASSES:
            raise DatasetError(
                f"got {len(source.classes)} classes in {source.place}, expected ImageNet's {IMAGENET_CLASSES}: "
                "complete it; a network of these classes alone takes them as --dataset folder"
            )
        return LabelledImages(source, source.classes, transform)
    kind = name.split("/")[0]
    if kind in _STREAMING_READERS:
        raise DatasetError(f"{name} only streams, expected a dataset with an index: folders, tar files, hfds/, torch/")
    package = _READER_PACKAGES.get(kind)
    if package is None or name.endswith("/"):
        raise DatasetError(
            f"no dataset {name!r}: expected shapes, digits, imagenet, folder or a timm reader (hfds/NAME, torch/NAME)"
        )
    if importlib.util.find_spec(package) is None:
        raise DatasetError(f"got {name}, which {package} reads, which is not installed: pip install {package}")
    return _open_reader(name, data_dir, split, transform)


def require_same_classes(train: LabelledImages, val: LabelledImages) -> None:
    """Raises DatasetError if the two splits do not have the same classes, two or more."""
    if train.classes == val.classes:
        if len(train.classes) < 2:
            raise DatasetError(f"got the one class {train.classes[0]!r}, expected two or more to tell apart: add some")
        return
    only_train, only_val = sorted({*train.classes} - {*val.classes}), sorted({*val.classes} - {*train.classes})
    if sorted(train.classes) == sorted(val.classes):  # COCO numbers them by its ids
        first = next((a, b) for a, b in zip(train.classes, val.classes, strict=True) if a != b)
        raise DatasetError(
            f"train and val number the same classes in another order, from {first[0]!r} and {first[1]!r} on: "
            "give them the same ids"
        )
    raise DatasetError(
        f"train has {len(train.classes)} classes and val {len(val.classes)}, expected the same; "
        f"only in train: {join_limited(only_train, 5) or 'none'}; only in val: {join_limited(only_val, 5) or 'none'}"
    )


def eval_transform(size: int, crop_pct: float) -> Callable[[Image.Image], Tensor]:
    """The released evaluation: short side to size / crop_pct (bicubic), centre crop, ImageNet's mean and deviation."""
    return create_transform(size, interpolation="bicubic", crop_pct=crop_pct, crop_mode="center", mean=MEAN, std=STD)


def train_transform(size: int, augmentation: Augmentation) -> Callable[[Image.Image], Tensor]:
    """timm's training transform; without any augmentation a plain resize and centre crop."""
    a = augmentation
    if a == Augmentation():
        return eval_transform(size, 1.0)
    _require_policy(a.auto_augment)
    transform = create_transform(
        size,
        is_training=True,
        scale=(a.crop_scale_min, 1.0),
        hflip=a.hflip,
        color_jitter=a.color_jitter,
        auto_augment=None if a.auto_augment == "none" else a.auto_augment,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        re_prob=a.random_erasing,
        re_mode=a.erase_mode,
        re_count=1,
    )
    for operation in _augment_operations(transform):
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize
    return transform


def _require_policy(text: str) -> None:
    """Raises RecipeError for a policy that timm has not, and for settings that it ignores, fails at or drowns in."""
    name, *settings = text.split("-")
    known = _POLICIES.get(name, {})
    wrong = [one for one in settings if not (_is_setting(one, known) or (name == "rand" and one in _RAND_SETS))]
    if name not in _POLICIES:
        fault = f"none of {', '.join(_POLICIES)}"
    elif wrong:
        ranges = [f"{key} {low:g} to {high:g}" for key, (low, high) in known.items()]
        fault = f"{shorten(wrong[0], 20)!r} is none of its settings: {', '.join(ranges) or 'none'}"
    else:
        return
    raise RecipeError(
        f"got auto_augment {shorten(text)!r} ({fault}), expected timm's name for a policy, "
        "as rand-m9-mstd0.5-inc1, or none"
    )


def _is_setting(text: str, known: dict[str, tuple[float, float]]) -> bool:
    """Whether it is a known key and a number in its range."""
    found = _POLICY_SETTING.fullmatch(text)
    if not found or found[1] not in known or (found[3] and found[1] not in _POLICY_REALS):
        return False
    low, high = known[found[1]]
    return low <= float(found[2]) <= high


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """The image with the highest `bits` bits of each value; black for 0 bits, which Pillow refuses from 13 on.

    timm's policies ask for 0 bits at their largest magnitude, and the released networks were trained on black images
    there.
    """
    return image.point([0] * 256 * len(image.getbands())) if bits < 1 else ImageOps.posterize(image, min(bits, 8))


def _augment_operations(transform: Any) -> Iterator[auto_augment.AugmentOp]:
    """The single operations of timm's RandAugment, AutoAugment or AugMix within a training transform."""
    for part in transform.transforms:
        yield from getattr(part, "ops", ())
        for policy in getattr(part, "policy", ()):
            yield from policy


class Digits(Dataset):
    """scikit-learn's 1,797 handwritten digits of 8x8 px: every fifth one is for validation."""

    def __init__(self, split: Split) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        chosen = (np.arange(len(found.images)) % 5 == 0) == (split == "val")
        self.images = (found.images[chosen] * (255 / 16)).round().astype(np.uint8)
        self.labels = found.target[chosen].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]).convert("RGB"), self.labels[index]


class ClassImages(Dataset):
    """The images of class folders, with their labels; classes are numbered in the order of their names as text.

    Pixels lie as in the file, whatever EXIF says, as torchvision's ImageFolder leaves them.

    Args:
        place: A folder of class folders, or a tar file of them.

    Raises:
        DatasetError: images outside a class folder, folders within them, a class without images or permission.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        if place.is_dir():
            found = list_images(place)
            self.images = ImageSet(str(place), place, found.names, left_out=found.left_out)
        else:
            self.images = TarImages.open(place)
        if UNREADABLE in self.images.left_out:
            raise DatasetError(f"cannot read all of {place} ({self.images.note}): allow it, or take it out")
        folders = [os.path.dirname(name) for name in self.images.names]
        if "" in folders:
            raise DatasetError(
                f"images lie in {place} itself, expected one folder per class in it: sort them into folders"
            )
        if deeper := sorted({one for one in folders if "/" in one}):
            raise DatasetError(
                f"images lie deeper than {place}/<class>/, in {len(deeper)} folders ({join_limited(deeper, 5)}): "
                "expected one folder per class, none within another"
            )
        self.classes = sorted(set(folders))
        if empty := sorted(self._folders() - set(folders)):
            raise DatasetError(
                f"no images in {len(empty)} class folders of {place} ({join_limited(empty, 5)}): fill or remove them"
            )
        if not folders:
            raise DatasetError(f"no images in {place}: expected {place}/<class>/*.jpg; {self.images.note}".rstrip("; "))
        numbers = {name: label for label, name in enumerate(self.classes)}
        self.labels = [numbers[one] for one in folders]

    def _folders(self) -> set[str]:
        """Class folders, whatever they hold."""
        if not self.place.is_dir():
            return set()
        return {one.name for one in self.place.iterdir() if one.is_dir() and not is_hidden_folder(one.name)}

    @property
    def note(self) -> str:
        return self.images.note

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = decode_image(self.images.read(index), self.images.path(index), upright=False)
        return Image.fromarray(pixels), self.labels[index]


@dataclass(frozen=True)
class TarImages(ImageSet):
    """Images of class folders within a tar file, or within tar files in it, one per class, as ImageNet is published.

    Attributes:
        places: Where each image's content is in the file: first byte, and number of bytes.
    """

    places: tuple[tuple[int, int], ...] = ()

    @classmethod
    def open(cls, file: Path) -> "TarImages":
        """Its images, by the rule for folders, without the folders that all of them lie in.

        Raises:
            DatasetError: it is no tar file (a compressed one is none), or damaged.
        """
        places: dict[str, tuple[int, int]] = {}
        left_out: dict[str, list[str]] = defaultdict(list)

        def search(tar: tarfile.TarFile, prefix: str, start: int) -> None:
            for one in tar:
                name = os.path.normpath(prefix + one.name).lstrip("/")
                *folders, last = name.split("/")
                if not one.isreg() or one.issparse():
                    continue
                if last.endswith(".tar") and not prefix:
                    with tarfile.open(fileobj=tar.extractfile(one), mode="r:") as inner:
                        search(inner, f"{name.removesuffix('.tar')}/", one.offset_data)
                elif reason := HIDDEN if any(map(is_hidden_folder, folders)) else why_left_out(last):
                    left_out[reason].append(name)
                else:
                    places[name] = (start + one.offset_data, one.size)

        try:
            with tarfile.open(file, "r:") as tar:
                search(tar, "", 0)
        except (OSError, ValueError, OverflowError, tarfile.TarError) as error:
            raise DatasetError(f"cannot read {file} ({summarize(error)}): pack it again as plain tar") from None
        names = sorted(places)
        above = os.path.commonpath([os.path.dirname(os.path.dirname(name)) for name in names]) if names else ""
        shown = tuple(os.path.relpath(name, above or ".") for name in names)
        return cls(str(file), file, shown, left_out=left_out, places=tuple(places[name] for name in names))

    def read(self, index: int) -> bytes:
        first, length = self.places[index]
        if length > MAX_IMAGE_BYTES:
            raise unreadable("image", self.path(index), f"{length:,} bytes, larger than {MAX_IMAGE_BYTES:,}")
        with open(self.root, "rb") as file:
            file.seek(first)
            return file.read(length)


class ReaderImages(Dataset):
    """What a timm reader finds; an image that cannot be read is an error, where timm would take the next one."""

    def __init__(self, dataset: Any) -> None:
        self.reader = dataset.reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        try:
            file, label = self.reader[index][:2]
            with file:
                data = file.read()
        except Exception as error:  # each reader has its own
            raise DatasetError(f"cannot read image {index} ({summarize(error)}): load the dataset again") from None
        name = self.reader.filename(index, absolute=True) or str(index)
        return Image.fromarray(decode_image(data, name, upright=False)), label


def find_split(name: str, data_dir: str | Path | None, split: Split) -> Path:
    """Where a split lies: a folder of class folders, or a tar file of them."""
    base = data_folder(data_dir)
    names = ("train", "training") if split == "train" else ("val", "validation", "valid", "test")
    roots = DATASET_LAYOUTS[name].roots if name in DATASET_LAYOUTS else ("",)
    for place in (base / root / one for root in roots for one in names):
        if os.path.isdir(place):
            return place
        if os.path.isfile(tar := place.with_suffix(".tar")):
            return tar
    if os.path.isdir(base):
        require_readable(base)
    raise DatasetError(
        f"no {split} folder in {base}: expected {base}/{{train,val}}/<class>/*.jpg; name the folder with --data-dir"
    )


def _open_reader(name: str, data_dir: str | Path | None, split: Split, transform: Any) -> LabelledImages:
    root = str(data_dir) if data_dir else None
    try:
        dataset = create_dataset(name, root=root, split="train" if split == "train" else "validation")
    except Exception as error:  # each reader has its own
        raise DatasetError(
            f"cannot open {name} {root or ''} ({summarize(error)}): check the name and the folder"
        ) from None
    if hasattr(dataset, "loader"):  # torchvision's, which opens whatever Pillow knows
        dataset.loader = _open_image
    source = ReaderImages(dataset) if hasattr(dataset, "reader") else dataset
    names = getattr(dataset, "classes", None) or _reader_classes(getattr(dataset, "reader", None))
    if not names:
        raise DatasetError(f"{name} does not name its classes, expected a dataset whose labels have names")
    return LabelledImages(source, names, transform)


def _open_image(path: str) -> Image.Image:
    return Image.fromarray(decode_image(read_file(Path(path)), path, upright=False))


def _natural(name: str) -> list[Any]:
    """Sorts numbers within names by their value, of however many digits."""
    parts = [part.lstrip("0") if k % 2 else part for k, part in enumerate(re.split("([0-9]+)", name))]
    return [(len(part) if k % 2 else -1, part) for k, part in enumerate(parts)]


def _reader_classes(reader: Any) -> list[str]:
    names = getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None)
    if names:
        return [str(name) for name in sorted(names, key=names.get)]
    features = getattr(getattr(reader, "dataset", None), "features", {})
    return list(getattr(features.get(getattr(reader, "label_key", "label")), "names", None) or [])
