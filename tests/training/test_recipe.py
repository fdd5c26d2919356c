"""Recipes: what is refused and how, what differs; their files: test_recipe_files.py."""

from dataclasses import fields

import pytest

from atmviz.errors import RecipeError, SettingsError
from atmviz.training.recipe import Recipe
from atmviz.training.recipe_files import read_recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lrr": 1e-3}, r"no recipe setting 'lrr'.*did you mean lr\?"),
        ({"warmup_epoch": 3}, r"did you mean warmup_epochs\?"),
        ({"lr": "fast"}, "got lr: 'fast', expected a finite number"),
        ({"epochs": 1.5}, "got epochs: 1.5, expected a whole number"),
        ({"epochs": True}, "got epochs: True, expected a whole number"),
        ({"compile": "yes"}, "expected true or false"),
        ({"train_images": "all"}, "expected a whole number"),
        ({"precision": "fp8"}, "got precision: 'fp8', expected fp32, bf16 or fp16"),
        ({"epochs": 0}, "got epochs: 0, expected 1 or more"),
        ({"hflip": 1.5}, "got hflip: 1.5, expected 0 or more, at most 1"),
        ({"lr": float("nan")}, "got lr: nan"),
        ({"model": "atmnet_tny"}, r"got model 'atmnet_tny'.*did you mean atmnet_tiny\?"),
        ({"batch_size": 10, "accumulate": 3}, "got batch_size 10 in 3 passes"),
        ({"warmup_epochs": 10, "epochs": 10}, "expected fewer than epochs"),
        ({"mixup": 0.8, "batch_size": 3}, "expected an even number"),
        ({"pixel_weight": 1.0, "dataset": "digits"}, "expected shapes without augmentation"),
        ({"pixel_weight": 1.0, "hflip": 0.5}, "expected shapes without augmentation"),
        ({"pixel_weight": 1.0, "image_size": 100}, "got pixel_weight with image_size 100: expected a multiple of 32"),
        ({"offset_mode": "zero", "num_samples": 3}, "expected 1"),
        ({"offset_mode": "zero", "channels_per_offset": 1}, "leave it out"),
        (
            {"channels_per_offset": 5},
            r"got channels_per_offset 5 for atmnet_nano, expected a divisor of its \(24, 48, 64, 96\) channels",
        ),
        ({"fusion": "pixel"}, "expected image, token or paper"),
        ({"head": "upernet", "batch_size": 1}, "expected batch_size twice accumulate or more"),
        ({"head": "upernet", "batch_size": 4, "accumulate": 4}, "expected batch_size twice accumulate or more"),
        ({"head": "mask_rcnn", "model": "resnet18", "peg": False}, "got peg for resnet18, which has no ATM"),
        ({"head": "mask_rcnn", "photometric": 0.5}, "start from a recipe to detect, or leave it out"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(values, message):
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe().override(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"dataset": "digit"},
            r"no dataset 'digit': expected shapes, .* \(hfds/NAME, torch/NAME\); did you mean digits\?",
        ),
        ({"dataset": "coco"}, "no dataset 'coco': expected shapes"),
        ({"dataset": "wds/a"}, "wds/a only streams"),
        ({"dataset": "torch/"}, "no dataset 'torch/'"),
        ({"dataset": "coco", "head": "upernet"}, "no dataset 'coco' to segment: expected ade20k or shapes"),
    ],
)
def test_a_dataset_that_the_task_does_not_have_is_named_at_once(values, message):
    with pytest.raises(SettingsError, match=message):
        Recipe().override(values)
    assert Recipe(dataset="hfds/someone/photographs").dataset == "hfds/someone/photographs"


def test_differences_name_what_changes_the_result_and_nothing_else():
    recipe = read_recipe("digits")
    other = recipe.override({"lr": 0.1, "workers": 9, "save_updates": 7, "data_dir": "elsewhere"})
    assert recipe.differences(other) == ["lr: 0.001 here, 0.1 there"]


def test_every_setting_explains_itself():
    assert all(setting.metadata["help"] and setting.metadata["panel"] for setting in fields(Recipe))
