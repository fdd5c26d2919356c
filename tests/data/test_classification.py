"""Labeled images: folders, tar files, digits and shapes; what is refused, and with which words."""

import io
import os
import random
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from atmviz.data.augmentation import Augmentation, eval_transform, posterize, train_transform
from atmviz.data.classification import _natural, open_labeled, require_same_classes
from atmviz.data.fitting import MEAN, STD, normalize_channels
from atmviz.data.keyed import Key, KeyedDataset
from atmviz.data.loader import read_batches
from atmviz.data.readers import ReaderImages
from atmviz.errors import DatasetError, SettingsError
from atmviz.sources.decoding import load_image
from atmviz.sources.digits import Digits
from atmviz.sources.files import bundled_photos
from atmviz.sources.opening import find_split
from atmviz.training.recipe_files import read_recipe, recipe_names


def write_image(path, color=(200, 10, 10), size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folders(tmp_path):
    """train/ and val/ with two classes, told apart by color."""
    for split, count in (("train", 3), ("val", 2)):
        for name, color in (("cat", (250, 0, 0)), ("dog", (0, 0, 250))):
            for k in range(count):
                write_image(tmp_path / split / name / f"{k}.png", color)
    return tmp_path


def test_a_folder_has_its_class_folders_as_classes(folders):
    train = open_labeled("folder", "train", 32, data_dir=folders)
    assert train.classes == ("cat", "dog")
    assert len(train) == 6
    assert [train[i]["label"] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    reddest = [train[i]["image"][0].mean() > train[i]["image"][2].mean() for i in range(6)]
    assert reddest == [True] * 3 + [False] * 3


@pytest.mark.parametrize("name", ["validation", "test"])
def test_the_validation_folder_may_have_other_names(folders, name):
    folders.joinpath("val").rename(folders / name)
    assert find_split("folder", folders, "val") == folders / name


@pytest.mark.parametrize("form", [".", "train", "cat and dog", "tars"])
def test_a_tar_file_serves_as_a_split(folders, form):
    expected = open_labeled("folder", "train", 32, data_dir=folders)
    (folders / "train/cat/._0.png").touch()
    inside = folders / "inside"
    inside.mkdir()
    with tarfile.open(inside / "train.tar", "w") as file:
        for name in ("cat", "dog"):
            if form == "tars":  # as ImageNet is published
                with tarfile.open(folders / f"{name}.tar", "w") as inner:
                    for one in sorted((folders / "train" / name).iterdir()):
                        inner.add(one, arcname=one.name)
                file.add(folders / f"{name}.tar", arcname=f"{name}.tar")
            else:
                file.add(folders / "train" / name, arcname=f"{form}/{name}" if form != "cat and dog" else name)
    dataset = open_labeled("folder", "train", 32, data_dir=inside)
    assert (dataset.classes, len(dataset)) == (("cat", "dog"), 6)
    assert "hidden or of a tool: 1" in dataset.notes[0]
    for index in range(6):
        assert torch.equal(dataset[index]["image"], expected[index]["image"])
        assert dataset[index]["label"] == expected[index]["label"]
    assert [one.name for one in inside.iterdir()] == ["train.tar"]


def test_an_image_of_absurd_size_within_a_tar_file_is_refused(tmp_path):
    header = tarfile.TarInfo("cat/0.png")
    header.size = 2**30 + 1
    with open(tmp_path / "train.tar", "wb") as file:
        file.write(header.tobuf())
        file.truncate(2**30 + 20 * 512)  # a hole
    images = open_labeled("folder", "train", 32, data_dir=tmp_path)
    with pytest.raises(DatasetError, match=r"cannot read image .*cat/0\.png \(1,073,741,825 bytes, larger than"):
        images[0]


def test_what_is_no_plain_tar_file_is_one_line(folders):
    folders.joinpath("inside").mkdir()
    for content in (b"", b"no tar", b"\x1f\x8b\x08"):
        (folders / "inside/train.tar").write_bytes(content)
        with pytest.raises(DatasetError, match=r"cannot read .*train.tar .*|no images in .*train.tar") as caught:
            open_labeled("folder", "train", 32, data_dir=folders / "inside")
        assert "\n" not in str(caught.value)


def numbered(tmp_path):
    """val/0 to val/11, each of a gray of its own."""
    for label in range(12):
        write_image(tmp_path / "val" / str(label) / "a.png", (20 * label,) * 3, (32, 32))
    return open_labeled("folder", "val", 32, data_dir=tmp_path, crop_pct=1.0)


def test_classes_are_numbered_as_torchvision_numbers_them(tmp_path):
    dataset = numbered(tmp_path)
    assert list(dataset.classes) == ImageFolder(tmp_path / "val").classes
    grays = [int(dataset.classes[item["label"]]) for item in (dataset[i] for i in range(12))]
    assert grays == [round((dataset[i]["image"][0].mean().item() * STD[0] + MEAN[0]) * 255 / 20) for i in range(12)]
    assert dataset.notes == ["classes are numbered as text, as torchvision does: 0, 1, 10, 11, 2 and 7 more"]


def test_numbers_of_any_length_within_names_are_sorted_by_value():
    names = ["a", "a0", "a1", "a9", "a010", "a11b2", "a11b10", "a" + "8" * 5000, "a" + "9" * 5000, "b"]
    assert sorted(reversed(names), key=_natural) == names


def test_classes_of_one_order_need_no_word(folders):
    assert open_labeled("folder", "train", 32, data_dir=folders).notes == []


def test_a_checkpoints_names_number_the_classes(tmp_path):
    dataset = numbered(tmp_path)
    dataset.number_as([str(label) for label in range(12)])
    assert sorted(item["label"] for item in (dataset[i] for i in range(12))) == list(range(12))
    for item in (dataset[i] for i in range(12)):
        assert round((item["image"][0].mean().item() * STD[0] + MEAN[0]) * 255 / 20) == item["label"]
    assert dataset.notes == []


def test_every_suffix_counts_and_nothing_hidden_is_a_class(folders):
    Image.new("RGB", (40, 40)).save(folders / "train/cat/9.webp")
    Image.new("RGB", (40, 40)).save(folders / "train/cat/9.jfif", "JPEG")
    for name in (".hidden/0.png", "@eaDir/0.png", "cat/@eaDir/0.png", "cat/._0.png"):
        write_image(folders / "train" / name)
    train = open_labeled("folder", "train", 32, data_dir=folders)
    assert (train.classes, len(train)) == (("cat", "dog"), 8)
    assert "hidden or of a tool: 4 (.hidden/, @eaDir/, cat/._0.png and 1 more)" in train.notes[0]


@pytest.mark.parametrize(
    ("image", "name", "options"),
    [
        (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16, "a.png", {}),
        (np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64), "a.tif", {}),
        (np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8), "a.png", {}),
        (np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "a.jpg", {}),
    ],
)
def test_training_and_recording_read_the_same_pixels(folders, image, name, options):
    path = folders / "train/cat" / name
    Image.fromarray(image).save(path, **options)
    train = open_labeled("folder", "train", 64, data_dir=folders)
    pixels = train.source.read(train.source.names.index(f"cat/{name}"))
    assert np.array_equal(pixels, load_image(path))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{"quality": 90}, {"subsampling": 0}, {"progressive": True}])
def test_photographs_are_evaluated_as_the_released_code_does(folders, mode, options):
    """Pillow's pixels, not turned by EXIF, through the released transform."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(load_image(bundled_photos().path(0))).convert(mode)
    photo.save(folders / "val/cat/0.jpg", exif=exif, **options)
    with Image.open(folders / "val/cat/0.jpg") as opened:
        expected = eval_transform(224, 0.875)(opened.convert("RGB"))
    assert torch.equal(open_labeled("folder", "val", 224, data_dir=folders)[0]["image"], expected)


def test_small_images_are_learned_from(folders):
    write_image(folders / "train/cat/0.png", size=(8, 9))
    assert open_labeled("folder", "train", 32, data_dir=folders)[0]["image"].shape == (3, 32, 32)


def test_a_readers_images_are_read_like_others(folders):
    """`hfds/` gives open files: here one of PostScript."""

    class Reader:
        def __getitem__(self, index):
            return io.BytesIO([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", PNG][index]), 1

        def filename(self, index, absolute):
            return None

    PNG = folders.joinpath("train/cat/0.png").read_bytes()
    source = ReaderImages(SimpleNamespace(reader=Reader()))
    with pytest.raises(DatasetError, match=r"cannot read image 0 .*no image of a known format"):
        source.read(0)
    assert source.read(1)[0, 0].tolist() == [250, 0, 0]


def test_torchvisions_folders_are_opened_by_the_one_reader(folders):
    folders.joinpath("val/cat/0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DatasetError, match="no image of a known format"):
        open_labeled("torch/image_folder", "val", 32, data_dir=folders)[0]


def test_a_class_that_may_not_be_read_is_named(folders, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match=r"cannot read all of .*without permission: 1 \(cat\)"):
        open_labeled("folder", "train", 32, data_dir=folders)


def test_imagenet_is_found_in_its_published_places_and_needs_all_classes(folders, monkeypatch):
    root = folders / "ILSVRC/Data/CLS-LOC"
    root.parent.mkdir(parents=True)
    root.mkdir()
    for split in ("train", "val"):
        folders.joinpath(split).rename(root / split)
    assert find_split("imagenet", folders, "val") == root / "val"
    monkeypatch.setenv("ATMVIZ_DATA", str(folders))
    with pytest.raises(
        DatasetError,
        match=r"got 2 classes .*expected ImageNet's 1000: complete it, or take the folder as a dataset",
    ):
        open_labeled("imagenet", "val", 32)


def test_a_missing_split_shows_the_expected_tree(tmp_path):
    with pytest.raises(DatasetError, match=r"no train folder in .*expected .*\{train,val\}/<class>/"):
        open_labeled("folder", "train", 32, data_dir=tmp_path)


def test_an_empty_class_is_named(folders):
    folders.joinpath("train", "emu").mkdir()
    with pytest.raises(DatasetError, match=r"no images in 1 class folders .*\(emu\)"):
        open_labeled("folder", "train", 32, data_dir=folders)


def test_a_split_without_any_image_or_without_class_folders_is_named(tmp_path):
    tmp_path.joinpath("train/cat").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no images in 1 class folders"):
        open_labeled("folder", "train", 32, data_dir=tmp_path)
    write_image(tmp_path / "val/0.png")
    with pytest.raises(DatasetError, match="expected one folder per class"):
        open_labeled("folder", "val", 32, data_dir=tmp_path)


def test_splits_of_different_classes_are_named(folders):
    write_image(folders / "train/emu/0.png")
    write_image(folders / "val/owl/0.png")
    train, val = (open_labeled("folder", split, 32, data_dir=folders) for split in ("train", "val"))
    with pytest.raises(DatasetError, match="only in train: emu; only in val: owl"):
        require_same_classes(train, val)
    require_same_classes(train, train)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line_with_its_name(folders, workers):
    folders.joinpath("train/cat/1.png").write_bytes(b"no image")
    loader = DataLoader(open_labeled("folder", "train", 32, data_dir=folders), 2, num_workers=workers)
    with pytest.raises(DatasetError, match=r"cannot read image .*cat/1\.png \(.*\): replace it") as caught:
        list(read_batches(loader))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("imagenette", SettingsError, "no dataset 'imagenette': expected shapes, .*; did you mean imagenet"),
        ("hfds/nothing", DatasetError, "pip install datasets"),
    ],
)
def test_an_unknown_dataset_says_what_there_is(name, error, message, tmp_path):
    with pytest.raises(error, match=message):
        open_labeled(name, "train", 32, data_dir=tmp_path)


def test_a_stream_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="wds/x only streams, expected a dataset with an index"):
        open_labeled("wds/x", "train", 32, data_dir=tmp_path)


def test_class_folders_within_class_folders_are_refused(folders):
    folders.joinpath("train/cat/loop").symlink_to("..")
    assert "loop" in open_labeled("folder", "train", 32, data_dir=folders).notes[0]
    write_image(folders / "train/cat/tabby/0.png")
    with pytest.raises(DatasetError, match=r"deeper than .*train/<class>/, in .*cat/tabby.* none within another"):
        open_labeled("folder", "train", 32, data_dir=folders)


def test_an_image_that_is_not_there_is_one_line_with_its_name(folders):
    folders.joinpath("train/cat/1.png").unlink()
    folders.joinpath("train/cat/1.png").symlink_to("nowhere.png")
    images = open_labeled("folder", "train", 32, data_dir=folders)
    with pytest.raises(DatasetError, match=r"cannot read image .*cat/1\.png"):
        [images[i] for i in range(len(images))]


def test_one_class_is_nothing_to_learn(folders):
    only = open_labeled("folder", "train", 32, data_dir=folders)
    only.classes = ("cat",)
    with pytest.raises(DatasetError, match="got the one class 'cat', expected two or more"):
        require_same_classes(only, only)


def test_an_unknown_policy_is_one_line():
    with pytest.raises(SettingsError, match=r"got auto_augment 'nonsense' .* expected a timm policy"):
        open_labeled("digits", "train", 32, augmentation=Augmentation(auto_augment="nonsense"))


@pytest.mark.parametrize(
    "policy",
    [
        *("rand-n100000000", "rand-n0", "rand-n11", "rand-n1.5", "rand-mabc", "rand-m31", "rand-m9-mstdnan"),
        *(
            "rand-p1.1",
            "rand-inc2",
            "rand-m9-",
            "rand-w3",
            "rand-tnothing",
            "rand-mmax0",
            "rand-m1e1",
            "rand-m" + "9" * 5000,
        ),
        *("augmix-w100000000", "augmix-w0", "augmix-d999999999", "augmix-a0", "augmix-a0.0001", "augmix-n2"),
        *("v0-mstdinf", "v0-m9", "3a-x", "3a-t3a", "none-m9", "", "RAND", "rand-m\u0663", "original\n"),
    ],
)
def test_settings_of_a_policy_that_timm_has_not_or_never_ends_are_refused(policy):
    with pytest.raises(SettingsError, match=r"got auto_augment .* expected a timm policy") as caught:
        train_transform(32, Augmentation(hflip=0.5, auto_augment=policy))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_digits_are_real_images_split_four_to_one():
    train, val = Digits("train"), Digits("val")
    assert (len(train), len(val)) == (1437, 360)
    assert np.bincount([val.truth(i).label for i in range(len(val))]).min() > 25
    assert (val.read(0).shape, val.truth(0).label) == ((8, 8, 3), 0)
    assert max(val.read(i).max() for i in range(len(val))) == 255


def test_shapes_bring_their_pixels_labels():
    item = open_labeled("shapes", "val", 64)[0]
    assert item["image"].shape == (3, 64, 64)
    assert item["mask"].shape == (64, 64)
    assert 1 + item["label"] in item["mask"].unique().tolist()


def test_the_evaluation_transform_is_the_released_one():
    photo = Image.fromarray(load_image(bundled_photos().path(0)))
    resized = photo.resize(_covering(photo.size, 256), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    pixels = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float32).transpose(2, 0, 1) / 255
    expected = (pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    assert np.abs(eval_transform(224, 0.875)(photo).numpy() - expected).max() < 1e-4
    assert eval_transform(384, 0.875)(photo).shape == (3, 384, 384)


def _covering(size, side):
    scale = side / min(size)
    return tuple(side if one == min(size) else int(one * scale) for one in size)


def test_the_training_transform_carries_every_setting():
    wanted = Augmentation(0.08, 0.5, 0.4, "rand-m9-mstd0.5-inc1", 0.25, "pixel")
    expected = create_transform(
        224, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic", color_jitter=0.4,
        re_prob=0.25, re_mode="pixel", re_count=1, hflip=0.5, scale=(0.08, 1.0), mean=MEAN, std=STD,
    )  # fmt: skip
    assert repr(train_transform(224, wanted)) == repr(expected)
    assert "magnitude=9" in repr(expected) or "m=9" in repr(expected)


def test_without_augmentation_training_sees_the_whole_image():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    plain = train_transform(48, Augmentation())
    assert torch.equal(plain(image), plain(image))
    expected = (np.asarray(image, np.float32).transpose(2, 0, 1) / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[
        :, None, None
    ]
    assert np.abs(plain(image).numpy() - expected).max() < 1e-5


RECIPES_OF_CLASSIFIERS = [
    name for name in recipe_names() if read_recipe(name, {"finetune": "some.pth"}).task == "classify"
]


@pytest.mark.parametrize("recipe", RECIPES_OF_CLASSIFIERS)
def test_every_augmentation_of_every_recipe_can_be_drawn_thousands_of_times(recipe):
    """Some operations fail at their largest magnitude only: one image in 800 with imagenet1k on Pillow 13."""
    recipe = read_recipe(recipe, {"finetune": "some.pth"})
    names = ("crop_scale_min", "hflip", "color_jitter", "auto_augment", "random_erasing", "erase_mode")
    transform = train_transform(32, Augmentation(**{name: getattr(recipe, name) for name in names}))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8))
    random.seed(0)
    np.random.seed(0)
    for _ in range(5000):
        assert transform(image).isfinite().all()


@pytest.mark.parametrize(
    "policy",
    [
        *("original", "originalr", "v0", "v0r", "3a", "v0-mstd0.5", "rand-m9-mstd0.5-inc1", "rand-m10", "augmix-m10"),
        *("rand-m30-mmax30-mstd1000-n10-p1-inc1", "rand-m30-mmax30-n10", "rand-n10-tweights", "rand-n10-t3aw"),
        *("rand-t3a", "augmix-m30-w10-d10-a0.1-b1", "augmix-m30-w1-d0-a100-mstd0"),
    ],
)
def test_every_policy_of_timm_can_be_drawn(policy):
    transform = train_transform(32, Augmentation(auto_augment=policy))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8))
    random.seed(0)
    np.random.seed(0)
    for _ in range(500):
        transform(image)


def test_posterising_keeps_the_highest_bits_and_is_black_without_any():
    """As older Pillow's ImageOps.posterize gave it, which the released networks were trained with."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for mode in ("L", "RGB"):
        image = Image.fromarray(values).convert(mode)
        for bits in range(9):
            expected = np.asarray(image) & (256 - 2 ** (8 - bits))
            assert (np.asarray(posterize(image, bits)) == expected).all(), bits


def test_images_that_travel_as_bytes_become_the_same_input():
    augmentation = Augmentation(crop_scale_min=0.5, hflip=0.5, auto_augment="rand-m9-mstd0.5-inc1")
    both = (open_labeled("digits", "train", 32, augmentation=augmentation) for _ in range(2))
    usual, as_bytes = (KeyedDataset(dataset, 0) for dataset in both)
    finish = as_bytes.dataset.leave_as_bytes()
    keys = [Key(epoch=1, image=index) for index in range(6)]
    pixels = torch.stack([as_bytes[key]["image"] for key in keys])
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (6, 3, 32, 32))
    assert torch.equal(finish(pixels, 7), torch.stack([usual[key]["image"] for key in keys]))


def test_rectangles_of_bytes_are_erased_by_key_and_at_the_rate():
    dataset = open_labeled("digits", "train", 32, augmentation=Augmentation(random_erasing=0.5))
    finish, pixels = dataset.leave_as_bytes(), torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    plain = normalize_channels(pixels)
    changed = (finish(pixels, 1) != plain).any(1)
    share = changed.flatten(1).float().mean(1)
    assert 0.4 < (share > 0).float().mean() < 0.6
    assert share[share > 0].min() > 0.015  # of the area: 2 % to a third, in whole pixels
    assert share.max() < 0.36
    assert torch.equal(finish(pixels, 1), finish(pixels, 1))
    assert not torch.equal(finish(pixels, 1), finish(pixels, 2))
