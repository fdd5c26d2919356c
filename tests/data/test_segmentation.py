"""ADE20K's layout read and refused; views against OpenCV, and image and mask moved alike."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.keyed import seeded
from atmviz.data.segmentation import (
    ViewAugmentation,
    open_segmentation,
    random_view,
    recolored,
    whole_views,
)
from atmviz.errors import DatasetError, SettingsError
from atmviz.geometry import Preprocessing
from atmviz.sources.datasets import SHAPE_CLASSES, class_names
from atmviz.sources.opening import find_dataset
from atmviz.sources.shapes import Shapes

MEAN, STD = (torch.tensor(values)[:, None, None] for values in (Preprocessing.mean, Preprocessing.std))


def pixels(image):
    """uint8 [H, W, 3] of a normalized image."""
    return (255 * (image * STD + MEAN)).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def ade20k(tmp_path):
    """Writes an image and its annotation, and gives the dataset's folder."""

    def write(mask, image=None, name="ADE_val_00000001", split="validation"):
        for kind in ("images", "annotations"):
            (tmp_path / "ADEChallengeData2016" / kind / split).mkdir(parents=True, exist_ok=True)
        folder = tmp_path / "ADEChallengeData2016"
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (*np.shape(mask)[:2], 3), np.uint8) if image is None else image
        Image.fromarray(image).save(folder / "images" / split / f"{name}.jpg", quality=100)
        if mask is not None:
            Image.fromarray(np.asarray(mask)).save(folder / "annotations" / split / f"{name}.png")
        return tmp_path

    return write


def labels_1_to(last, shape=(40, 60)):
    return np.resize(np.arange(last + 1), shape).astype(np.uint8)


def test_label_0_counts_nowhere_and_the_others_start_at_0(ade20k):
    mask = labels_1_to(150)
    dataset = open_segmentation("ade20k", "val", 64, data_dir=ade20k(mask))
    labels = dataset[0]["mask"].numpy()
    assert labels.dtype == np.uint8
    assert (labels[mask == 0] == IGNORE_INDEX).all()
    assert (labels[mask > 0] == mask[mask > 0] - 1).all()
    assert len(dataset.classes) == len(set(dataset.classes)) == 150
    assert (dataset.classes[0], dataset.classes[-1]) == ("wall", "flag")
    assert dataset.source.name(0) == "ADE_val_00000001.jpg"


def test_folders_within_a_split_keep_their_images_apart(ade20k):
    for number, name in enumerate(("one/a", "two/a")):
        for kind in ("images", "annotations"):
            (ade20k(labels_1_to(3)) / "ADEChallengeData2016" / kind / "validation" / name).parent.mkdir()
        folder = ade20k(np.full((40, 60), number + 1, np.uint8), name=name)
    dataset = open_segmentation("ade20k", "val", 64, data_dir=folder)
    assert [dataset.source.name(i) for i in range(3)] == ["ADE_val_00000001.jpg", "one/a.jpg", "two/a.jpg"]
    assert [int(dataset[i]["mask"][0, 0]) for i in (1, 2)] == [0, 1]


def test_training_and_validation_have_their_own_folders(ade20k):
    folder = ade20k(labels_1_to(3))
    for number in (1, 2):
        ade20k(labels_1_to(3), name=f"ADE_train_0000000{number}", split="training")
    assert len(open_segmentation("ade20k", "val", 64, data_dir=folder)) == 1
    assert len(open_segmentation("ade20k", "train", 64, data_dir=folder, augmentation=ViewAugmentation())) == 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((40, 60), 151, np.uint8), "labels up to 151, expected 0 to 150: take ADEChallengeData2016"),
        (np.full((40, 60), 300, np.uint16), "has labels up to 300"),
        (np.ones((40, 60), bool), "PNG of 1 pixels; expected one lossless channel of 8 or 16 bits"),
        (np.zeros((40, 61), np.uint8), "mask of ADE_val_00000001.jpg is 40 x 61, its image 40 x 60"),
        (np.zeros((40, 60, 3), np.uint8), "PNG of RGB pixels; expected one lossless channel"),
        (None, r"1 of 1 images have no mask in .*annotations/validation \(ADE_val_00000001.jpg\)"),
    ],
)
def test_masks_that_do_not_fit_are_named(ade20k, mask, message):
    folder = ade20k(mask, image=np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(DatasetError, match=message) as caught:
        open_segmentation("ade20k", "val", 64, data_dir=folder)[0]
    assert "\n" not in str(caught.value)


def test_a_damaged_mask_is_named(ade20k):
    folder = ade20k(labels_1_to(3))
    file = next(folder.rglob("*.png"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"cannot read mask .*png .*replace it"):
        find_dataset("ade20k", folder).truth(0)


def test_masks_of_16_bits_are_read_and_of_links_the_place_beside_them_goes_first(ade20k, tmp_path):
    folder = ade20k(labels_1_to(3).astype(np.uint16), image=np.zeros((40, 60, 3), np.uint8))
    expected = open_segmentation("ade20k", "val", 64, data_dir=folder)[0]["mask"]
    assert expected[expected != IGNORE_INDEX].max() == 2
    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "images/validation").symlink_to(folder / "ADEChallengeData2016/images/validation")
    dataset = open_segmentation("ade20k", "val", 64, data_dir=mine)
    assert torch.equal(dataset[0]["mask"], expected)
    assert "is a link: taking the annotations" in dataset.notes[0]
    (mine / "annotations/validation").mkdir(parents=True)
    Image.fromarray(np.full((40, 60), 9, np.uint8)).save(mine / "annotations/validation/ADE_val_00000001.png")
    dataset = open_segmentation("ade20k", "val", 64, data_dir=mine)
    assert (dataset[0]["mask"] == 8).all()
    assert dataset.notes == []


def test_unknown_datasets_name_the_known_ones():
    with pytest.raises(SettingsError, match="no dataset 'digits' to segment: expected ade20k or shapes"):
        open_segmentation("digits", "val", 64)


# Views.


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((512, 683), 512, (512, 683)),
        ((600, 400), 512, (768, 512)),
        ((100, 1000), 512, (205, 2048)),
        ((60, 180), 40, (40, 120)),
        ((10, 1000), 512, (32, 2048)),
        ((90, 120), 20, (32, 32)),
    ],
)
def test_the_shorter_side_is_as_asked_and_the_longer_at_most_four_times_it(shape, size, expected):
    (view,) = whole_views(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), size, [1.0])["views"]
    assert view.shape == (3, *expected)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.75])
def test_whole_views_are_opencvs_bilinear_ones_and_the_mask_keeps_its_size(scale):
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    mask = labels_1_to(3, (90, 120))
    item = whole_views(image, mask, 64, [1.0, scale])
    size = round(64 * scale)
    expected = cv2.resize(image, (round(size * 4 / 3), size), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(pixels(item["views"][1]), expected)
    assert np.array_equal(item["mask"].numpy(), mask)
    assert np.array_equal(pixels(item["image"]), image)


@pytest.mark.parametrize("factor", [0.5, 1.3, 2.0])
def test_training_views_are_resized_as_mmcv_does_images_and_nearest_masks(factor):
    """mmsegmentation's ratio f asks for int(2048 f) x int(512 f), mmcv's rescaling gives int(side + .5)."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (45, 77, 3), np.uint8), rng.integers(0, 150, (45, 77), np.uint8)
    item = random_view(image, mask, 128, ViewAugmentation(factor, factor))
    ratio = min(int(128 * factor) / 45, int(512 * factor) / 77)
    width, height = int(77 * ratio + 0.5), int(45 * ratio + 0.5)
    views = [
        cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR),
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST),
    ]
    counts = (item["mask"] != IGNORE_INDEX).sum(0).max(), (item["mask"] != IGNORE_INDEX).sum(1).max()
    assert counts == (min(height, 128), min(width, 128))
    shown, labels = pixels(item["image"])[: counts[0], : counts[1]], item["mask"][: counts[0], : counts[1]].numpy()
    places = [
        (top, left)
        for top in range(height - counts[0] + 1)
        for left in range(width - counts[1] + 1)
        if np.array_equal(labels, views[1][top : top + counts[0], left : left + counts[1]])
    ]
    assert len(places) == 1
    ((top, left),) = places
    assert np.array_equal(shown, views[0][top : top + counts[0], left : left + counts[1]])


def marked(height, width):
    """An image whose red value is its mask's label times 10."""
    mask = np.random.default_rng(1).integers(0, 20, (height // 20, width // 20)).repeat(20, 0).repeat(20, 1)
    image = np.stack([10 * mask, np.full_like(mask, 128), np.full_like(mask, 60)], -1).astype(np.uint8)
    return image, mask.astype(np.uint8)


def test_random_views_move_image_and_mask_alike_and_pad_what_is_missing():
    augmentation = ViewAugmentation(scale_min=0.5, scale_max=2.0, hflip=0.5)
    sizes = set()
    for key in range(20):
        with seeded(key):
            item = random_view(*marked(80, 140), 96, augmentation)
        image, mask = item["image"], item["mask"]
        assert image.shape == (3, 96, 96)
        inside = mask != IGNORE_INDEX
        assert torch.all(image[:, ~inside] == 0)
        sizes.add(int(inside.sum()))
        red = torch.from_numpy(pixels(image)[..., 0].astype(int))
        share = (red - 10 * mask.int()).abs()[inside].le(1).float().mean()
        assert share > 0.85, "only the edges between labels are interpolated"
    assert min(sizes) < 96 * 96 == max(sizes)


def test_views_repeat_with_their_key():
    image, mask = marked(80, 140)
    views = []
    for key in (0, 0, 1):
        with seeded(key):
            views.append(random_view(image, mask, 64, ViewAugmentation(0.5, 2.0, 0.5, 0.5))["image"])
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_a_crop_avoids_places_that_one_class_fills():
    mask = np.zeros((64, 256), np.uint8)
    mask[:, 192:] = np.arange(64) // 8 + 1
    shares = []
    for key in range(40):
        with seeded(key):
            labels = random_view(np.zeros((64, 256, 3), np.uint8), mask, 64, ViewAugmentation())["mask"]
        shares.append((labels == 0).float().mean().item() < 0.75)
    assert sum(shares) > 36  # a random place would be such a one in a quarter of the cases


def test_without_augmentation_scenes_pass_unchanged():
    dataset = open_segmentation("shapes", "train", 64, augmentation=ViewAugmentation())
    scene = Shapes(64)[5]
    item = dataset[5]
    assert np.array_equal(pixels(item["image"]), scene.image)
    assert np.array_equal(item["mask"].numpy(), scene.semantic_mask)
    assert dataset.classes == ("background", *SHAPE_CLASSES)


def test_names_are_those_of_the_150_classes():
    assert [class_names("ade20k", "segment")[k] for k in (2, 12, 20, 149)] == ["sky", "person", "car", "flag"]


# Color: mmsegmentation 0.11's distribution, in closed form.


def drawn(color, probability=0.5, draws=4000):
    """What one color becomes, [draws, 3]."""
    image = np.full((1, 1, 3), color, np.uint8)
    values = []
    for key in range(draws):
        with seeded("color", key):
            values.append(recolored(image, probability)[0, 0])
    assert (image == color).all()  # not changed
    return np.array(values).astype(float)


def test_brightness_is_added_and_contrast_multiplied_from_black():
    """(g + b) c, b of U(-32, 32) and c of U(.5, 1.5), each half of the time; values are cut, not rounded."""
    values = drawn((125, 125, 125))[:, 0]
    shift, factor = 0.5 * 32**2 / 3, 1 + 0.5 / 12  # E[b^2], E[c^2]
    deviation = np.sqrt((125**2 + shift) * factor - 125**2)  # 28.8: b always comes first
    assert values.std() == pytest.approx(deviation, rel=0.03)
    assert values.mean() == pytest.approx(125 - 0.4, abs=1.5)
    assert (values == 125).mean() == pytest.approx(0.25, abs=0.03)
    assert (125 - 32) * 0.5 - 1 <= values.min() < 55
    assert 205 < values.max() <= (125 + 32) * 1.5


def unscaled(color, draws=8000):
    """The draws in which neither brightness nor contrast changed, which leave the strongest channel alone."""
    colors = drawn(color, draws=draws)
    colors = colors[np.abs(colors.max(1) - max(color)) <= 1]
    assert len(colors) / draws == pytest.approx(0.25, abs=0.03)
    return colors


def test_hues_turn_by_a_tenth_and_channels_keep_their_order():
    colors = unscaled((200, 100, 100))
    assert (colors.argmax(1) == 0).all()  # red stays the strongest: a tenth of a turn is not a third
    hue = cv2.cvtColor(colors.astype(np.uint8)[None], cv2.COLOR_RGB2HSV)[0, :, 0].astype(int)
    hue = (hue + 90) % 180 - 90  # of 180
    assert -20 <= hue.min() <= -17
    assert 16 <= hue.max() <= 19
    assert (np.abs(hue) > 1).mean() == pytest.approx(0.5 * (1 - 3 / 36), abs=0.04)
    assert hue.std() == pytest.approx(np.sqrt(0.5 * 36**2 / 12), rel=0.05)


def test_saturation_is_hsvs_and_keeps_the_value():
    colors = unscaled((200, 100, 100))
    saturation = 1 - colors.min(1) / colors.max(1)
    assert np.quantile(saturation, [0.01, 0.99]) == pytest.approx([0.26, 0.74], abs=0.02)
    assert saturation.std() == pytest.approx(0.5 * np.sqrt(0.5 / 12), rel=0.08)


def test_colors_stay_where_nothing_is_to_change_and_change_where_all_is():
    assert (drawn((200, 100, 60), probability=0.0, draws=20) == (200, 100, 60)).all()
    assert (drawn((200, 100, 60), probability=1.0, draws=200) == (200, 100, 60)).all(1).mean() < 0.02


def test_flipped_views_are_recolored_like_others():
    image, mask = marked(80, 80)
    with seeded(0):
        plain = random_view(image, mask, 80, ViewAugmentation(photometric=1.0))
    with seeded(0):
        flipped = random_view(
            image[:, ::-1].copy(), mask[:, ::-1].copy(), 80, ViewAugmentation(photometric=1.0, hflip=1.0)
        )
    assert torch.equal(plain["image"], flipped["image"])
    assert torch.equal(plain["mask"], flipped["mask"])
