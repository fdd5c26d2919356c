"""What each dataset is: folders, counts, classes, input size, download page; stated here alone. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from atmviz.architecture import Task
from atmviz.errors import SettingsError, nearest
from atmviz.geometry import Fit, Preprocessing
from atmviz.sources.source import Split

CLASSIFIER_SIZE_PX = 384  # the largest input of the paper's classifiers
SHAPE_CLASSES = ("disc", "ring", "box", "triangle", "star", "cross", "bar", "arc", "wave", "chain")


@dataclass(frozen=True)
class SourceFile:
    """A file to download: its address, MD5 and size in bytes where they are known."""

    url: str
    md5: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset that is known by name.

    Attributes:
        title: One line for people.
        tasks: The tasks it has labels for.
        images: Number of images by split.
        input_size: (height, width) px of the network's input in the paper's figures; of drawn images, the demonstration
            model's.
        objects: Number of objects by split, where they are annotated.
        num_classes: Number of classes.
        folders: Folder of the images by split; empty where images are not files.
        roots: Folders, relative to the one that was named, in which the split folders may lie.
        layout: The folders in one line.
        page: Page with the terms of use.
        files: Files to download.
        tree: The folders that the files unpack to, with counts.
        is_drawn: Whether images are drawn at the input size, so that nothing is resized or cropped.
    """

    title: str
    tasks: tuple[Task, ...]
    images: Mapping[Split, int]
    input_size: tuple[int, int]
    num_classes: int
    objects: Mapping[Split, int] = field(default_factory=dict)
    folders: Mapping[Split, str] = field(default_factory=dict)
    roots: tuple[str, ...] = ("",)
    layout: str = ""
    page: str = ""
    files: tuple[SourceFile, ...] = ()
    tree: str = ""
    is_drawn: bool = False


_COCO = "http://images.cocodataset.org"
DATASETS: dict[str, Dataset] = {
    "ade20k": Dataset(
        title="ADE20K scene parsing (SceneParse150): 20,210 + 2,000 images, 150 classes",
        tasks=("segment",),
        images={"train": 20_210, "val": 2_000},
        input_size=(512, 512),
        num_classes=150,
        folders={"val": "images/validation", "train": "images/training"},
        roots=("", "ADEChallengeData2016", "ade/ADEChallengeData2016", "ade20k/ADEChallengeData2016"),
        layout="ADEChallengeData2016/images/{validation,training}/*.jpg",
        page="http://sceneparsing.csail.mit.edu",
        files=(
            SourceFile(
                "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                "7328b3957e407ddae1d3cbf487f149ef",
            ),
        ),
        tree="""\
ADEChallengeData2016/
  images/training/ADE_train_00000001.jpg ...      20,210
  images/validation/ADE_val_00000001.jpg ...       2,000
  annotations/training/ADE_train_00000001.png ... 20,210  (0: other, 1 to 150: the classes)
  annotations/validation/ADE_val_00000001.png ...  2,000""",
    ),
    "coco": Dataset(
        title="COCO 2017 instances: 118,287 + 5,000 images, 80 classes",
        tasks=("detect",),
        images={"train": 118_287, "val": 5_000},
        input_size=(600, 800),
        num_classes=80,
        objects={"train": 860_001, "val": 36_781},
        folders={"val": "val2017", "train": "train2017"},
        roots=("", "coco", "images", "coco/images"),
        layout="coco/{val2017,train2017}/*.jpg",
        page="https://cocodataset.org/#termsofuse",
        files=(
            SourceFile(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798),
            SourceFile(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330),
            SourceFile(
                f"{_COCO}/annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541
            ),
        ),
        tree="""\
coco/
  train2017/000000000009.jpg ...         118,287
  val2017/000000000139.jpg ...             5,000
  annotations/instances_train2017.json   118,287 images, 860,001 objects
  annotations/instances_val2017.json       5,000 images,  36,781 objects""",
    ),
    "imagenet": Dataset(
        title="ImageNet-1K (ILSVRC 2012): 1,281,167 + 50,000 images, 1,000 classes",
        tasks=("classify",),
        images={"train": 1_281_167, "val": 50_000},
        input_size=(224, 224),
        num_classes=1_000,
        folders={"val": "val", "train": "train"},
        roots=("", "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        layout="imagenet/{val,train}/<class>/*.JPEG (val may be flat)",
        page="https://image-net.org/download.php (behind a login)",
        files=(
            SourceFile("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e"),
            SourceFile("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622"),
        ),
        tree="""\
imagenet/
  train/n01440764/n01440764_10026.JPEG ...    1,281,167 in 1,000 folders
  val/n01440764/ILSVRC2012_val_00000293.JPEG ... 50,000 in 1,000 folders (flat is enough to record offsets)""",
    ),
    "shapes": Dataset(
        title="Shapes: synthetic scenes whose objects' scale and shape are known, 10 classes; no files",
        tasks=("classify", "segment", "detect"),
        images={"train": 1_000_000, "val": 10_000},
        input_size=(128, 128),
        num_classes=len(SHAPE_CLASSES),
        is_drawn=True,
    ),
    "digits": Dataset(
        title="Digits: scikit-learn's 1,797 handwritten digits of 8x8 px, 10 classes; no files",
        tasks=("classify",),
        images={"train": 1_437, "val": 360},
        input_size=(32, 32),
        num_classes=10,
    ),
}
READER_PACKAGES = {"hfds": "datasets", "torch": "torchvision"}
"""The packages behind timm's readers, by the prefix of a dataset's name."""
_STREAMING_READERS = ("wds", "tfds", "hfids")
PUBLIC_DATASETS = tuple(name for name, dataset in DATASETS.items() if dataset.folders)


def dataset_info(name: str) -> Dataset:
    """Return the declaration of a public dataset; raise SettingsError for an unknown name."""
    if name not in PUBLIC_DATASETS:
        raise SettingsError(
            f"no public dataset {name!r}: expected {', '.join(PUBLIC_DATASETS)} (shapes and digits need no files)"
        )
    return DATASETS[name]


def datasets_for(task: Task) -> tuple[str, ...]:
    """Return the names of the datasets with labels for a task, sorted."""
    return tuple(sorted(name for name, dataset in DATASETS.items() if task in dataset.tasks))


def require_dataset(name: str, task: Task | None = None) -> None:
    """Raise SettingsError if a dataset is unknown or has no labels for a task; without a task, for none of them."""
    if task in ("segment", "detect"):
        if name not in datasets_for(task):
            raise SettingsError(f"no dataset {name!r} to {task}: expected {' or '.join(datasets_for(task))}")
        return
    kind, _, rest = name.partition("/")
    if kind in _STREAMING_READERS:
        raise SettingsError(f"{name} only streams, expected a dataset with an index: folders, tar files, hfds/, torch/")
    known = ["shapes", "digits", "imagenet", *([] if task else ["ade20k", "coco"]), "folder"]
    if name not in known and not (rest and kind in READER_PACKAGES):
        raise SettingsError(
            f"no dataset {name!r}: expected {', '.join(known)} or a timm reader (hfds/NAME, torch/NAME)"
            f"{nearest(name, known)}"
        )


def class_names(name: str, task: Task) -> tuple[str, ...]:
    """Return the names of a dataset's classes in a task, by label; empty where only its files name them."""
    if name == "shapes":
        return ("background", *SHAPE_CLASSES) if task == "segment" else SHAPE_CLASSES
    if name == "digits":
        return tuple(str(digit) for digit in range(10))
    if name == "ade20k":  # from objectInfo150.txt, the first of each line's synonyms
        text = resources.files("atmviz.sources").joinpath("ade20k_classes.txt").read_text("utf-8")
        return tuple(text.split("\n")[:-1])
    return ()


def preprocessing_for(
    dataset: str | None = None, size: tuple[int, int] | None = None, fit: Fit = "crop"
) -> Preprocessing:
    """Return how images of a dataset are fitted to the network.

    The size alone decides the crop, so that a folder is cropped alike however it is named: up to 384 px, the sizes of
    classifiers, the crop is cut from a larger resized image (the released transform); larger sizes are covered exactly.

    Args:
        dataset: A name in `DATASETS`, or None for image files.
        size: (height, width) px; by default the dataset's input size, 224 x 224 px for files.
        fit: See `Preprocessing`.
    """
    known = DATASETS[dataset] if dataset else None
    size = size or (known.input_size if known else Preprocessing.size)
    covers = max(size) > CLASSIFIER_SIZE_PX or (known is not None and known.is_drawn)
    return Preprocessing(size=size, fit=fit, crop_pct=1.0 if covers else Preprocessing.crop_pct)
