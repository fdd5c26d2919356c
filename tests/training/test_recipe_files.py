"""Recipe files: those of the package carry the paper's values; odd ones are refused in one line."""

import re
from pathlib import Path

import pytest

from atmviz.errors import RecipeError, SettingsError
from atmviz.events import Events
from atmviz.training.recipe import Recipe
from atmviz.training.recipe_files import default_folder, default_recipe, read_recipe, recipe_names

TABLE_9 = {
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "batch_size": 1024,
    "warmup_epochs": 5,
    "epochs": 300,
    "auto_augment": "rand-m9-mstd0.5-inc1",
    "label_smoothing": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "random_erasing": 0.25,
}
RELEASED_CODE = {
    "repeated_augmentation": 3,
    "ema_decay": 0.99996,
    "warmup_lr": 1e-6,
    "min_lr": 1e-5,
    "cooldown_epochs": 0,
    "color_jitter": 0.4,
    "erase_mode": "pixel",
    "clip_grad": 0.0,
}


def test_the_package_has_the_documented_recipes():
    expected = ["ablation", "ade20k_semantic_fpn", "ade20k_upernet", "coco_1x", "coco_3x", "digits", "imagenet1k"]
    assert recipe_names() == [*expected, "imagenet1k_384", "shapes", "shapes_detect", "shapes_segment"]


@pytest.mark.parametrize(("key", "value"), [*TABLE_9.items(), *RELEASED_CODE.items()])
def test_imagenet1k_has_the_values_of_table_9_and_of_the_released_code(key, value):
    assert getattr(read_recipe("imagenet1k"), key) == value


def test_the_learning_rate_of_table_9_comes_from_the_batch_size():
    recipe = read_recipe("imagenet1k")
    assert recipe.scaled_lr == 1e-3
    assert recipe.override({"batch_size": 512}).scaled_lr == 5e-4
    assert read_recipe("digits", {"batch_size": 32}).scaled_lr == read_recipe("digits").lr


@pytest.mark.parametrize(
    ("model", "rate"),
    [("xtiny", 0.1), ("tiny", 0.1), ("small", 0.2), ("base", 0.3), ("large", 0.3), ("nano", 0.0)],
)
def test_stochastic_depth_follows_the_variant(model, rate):
    recipe = read_recipe("imagenet1k", {"model": f"atmnet_{model}"})
    assert recipe.drop_path_rate == rate
    assert recipe.override({"drop_path": 0.5}).drop_path_rate == 0.5


def test_fine_tuning_at_384_takes_30_epochs_at_5e_6_and_a_checkpoint():
    with pytest.raises(RecipeError, match="leaves finetune to you: set it"):
        read_recipe("imagenet1k_384")
    recipe = read_recipe("imagenet1k_384", {"finetune": "L.pth"})
    assert (recipe.image_size, recipe.epochs, recipe.scaled_lr) == (384, 30, 5e-6)


@pytest.mark.parametrize("name", ["ablation", "digits", "imagenet1k", "shapes"])
def test_a_printed_recipe_reads_back_the_same(tmp_path, name):
    recipe = read_recipe(name)
    file = tmp_path / "mine.yaml"
    file.write_text(recipe.to_yaml())
    assert read_recipe(file) == recipe


def test_a_file_of_ones_own_needs_only_what_differs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("dataset: digits\nlr: 1e-3\nweight_decay: 0\n")  # YAML reads 1e-3 as text
    assert read_recipe(file) == Recipe(dataset="digits", lr=1e-3, weight_decay=0.0)


def test_overrides_win_over_the_file_and_keep_their_type():
    recipe = read_recipe("digits", {"lr": 1, "epochs": 7, "compile": True, "data_dir": None})
    assert (recipe.lr, recipe.epochs, recipe.compile, recipe.data_dir) == (1.0, 7, True, None)
    assert isinstance(recipe.lr, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"- 1\n- 2\n", "holds a list, expected `key: value` lines"),
        (b"lr: [1\n", "is no YAML"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(file)
    assert "\n" not in str(caught.value)


def test_a_file_may_use_the_former_names_of_settings(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text("framework: retinanet\nshare: 4\n")
    recipe = read_recipe(file)
    assert (recipe.head, recipe.channels_per_offset) == ("retinanet", 4)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(SettingsError, match=r"no recipe 'imagenet'.*did you mean imagenet1k\?"):
        read_recipe("imagenet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3\nepochs: 5", "epochs occurs twice"),
        ("dataset: 2020-13-45", "is no YAML"),
        ("epochs: !!int abc", "is no YAML"),
        ("epochs: " + "[" * 3000, "is no YAML"),
        ("lr: " + "9" * 400, "expected a finite number"),
        ("lr: .inf", "expected a finite number"),
        ("lr: 1001", "expected 0 or more, at most 1000"),
        ("finetune: ''", "got finetune: ''"),
        ("\ufeffepochs: 0", "got epochs: 0"),
        ("".join(f"k{n}: 1\n" for n in range(60000)), "more than 64 kB"),
        ("".join(f"k{n}: 1\n" for n in range(6000)), "no recipe setting 'k0'"),
        ("a: &a [1]\nb: *a", "an alias"),
        ("a: &a {lr: 1}\n<<: *a", "an alias"),
        ("lr: *b", "an alias"),
        ("a: &a [*a]", "an alias"),
        ("epochs: 0x" + "f" * 60000, "a number of too many digits"),
        ("epochs: 1" + ":59" * 9000, "a number of too many digits"),
        ("epochs: " + "9" * 3000, "got epochs: 9999"),
        ("epochs: " + "9" * 60000, "is no YAML"),
        ("1: required", "leaves 1 to you"),
        ("? [a]\n: 1", "is no YAML"),
        ("k" * 60000 + ": 1", "is no YAML"),
        ("? " + "k" * 900 + "\n: 1", "no recipe setting 'kkkk"),
        ("model: " + "a" * 60000, "got model: 'aaaa"),
        ("epochs: [" + "1," * 20000 + "]", "got epochs: .1, 1"),
        ("epochs: " + "{a: " * 200 + "1" + "}" * 200, "got epochs: "),
        ("!!python/object/apply:os.system [id]", "is no YAML"),
        ("epochs: !" + "a" * 60000 + " 1", "is no YAML"),
        ("false", "holds a bool"),
        ("[]", "holds a list"),
    ],
)
def test_odd_yaml_is_one_short_line(tmp_path, text, message):
    tmp_path.joinpath("odd.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(tmp_path / "odd.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("task", "head", "name"),
    [
        (None, None, "shapes"),
        (None, "upernet", "shapes_segment"),
        (None, "mask_rcnn", "shapes_detect"),
        ("detect", None, "shapes_detect"),
    ],
)
def test_task_or_head_choose_the_default_recipe(task, head, name):
    assert default_recipe(task, head) == name


def test_a_run_folder_is_named_for_recipe_head_neck_model_and_seed():
    recipe = read_recipe("shapes_detect", {"neck": "atmfpn", "head": "retinanet", "seed": 3})
    expected = Path("runs/shapes_detect-retinanet-atmfpn-atmnet_nano-3")
    assert default_folder("shapes_detect", recipe) == expected
    assert default_folder("elsewhere/shapes_detect.yaml", recipe) == expected
    assert default_folder("retinanet", recipe).name == "retinanet-atmfpn-atmnet_nano-3"


def test_an_override_wins_over_a_former_name_in_the_file(tmp_path):
    (tmp_path / "old.yaml").write_text("framework: required\n")
    assert read_recipe(tmp_path / "old.yaml", {"head": "upernet"}).head == "upernet"


class Lines(Events):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_every_recipe_takes_few_epochs(name, epochs):
    lines, usual = Lines(), read_recipe(name, {"finetune": "weights.pth"})
    recipe = read_recipe(name, {"finetune": "weights.pth", "epochs": epochs}, events=lines)
    assert recipe.epochs == epochs
    fits = epochs >= usual.epochs or max(usual.warmup_epochs, *usual.decay_epochs, 0) < epochs
    assert bool(lines.said) == (not fits)
    assert (recipe.warmup_epochs == usual.warmup_epochs) or not fits
    for had, has in zip(usual.decay_epochs, recipe.decay_epochs, strict=True):
        assert has / epochs == pytest.approx(had / usual.epochs, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "schedule", "said"),
    [
        (
            *("coco_1x", {"epochs": 6}, {"warmup_epochs": 0.034, "decay_epochs": (4, 5.5)}),
            " is shortened to 6: warmup_epochs 0.068 becomes 0.034, decay_epochs 8,11 becomes 4,5.5",
        ),
        (
            *("shapes", {"epochs": 1}, {"warmup_epochs": 0.067}),
            "the recipe's schedule of 15 epochs is shortened to 1: warmup_epochs 1",
        ),
        # a rate that changes once an epoch would stay at warmup_lr
        ("imagenet1k", {"epochs": 1}, {"warmup_epochs": 0}, "warmup_epochs 5 becomes 0"),
        ("imagenet1k", {"epochs": 100}, {"warmup_epochs": 5}, ""),  # it fits, and stays as it was
        ("coco_1x", {"epochs": 24}, {"decay_epochs": (8, 11)}, ""),
        ("shapes", {"epochs": 1, "warmup_epochs": 0.5}, {"warmup_epochs": 0.5}, ""),
    ],
)
def test_a_schedule_that_does_not_fit_shrinks_and_says_so(name, changes, schedule, said):
    lines = Lines()
    recipe = read_recipe(name, {"finetune": "weights.pth", **changes}, events=lines)
    assert {key: getattr(recipe, key) for key in schedule} == schedule
    assert [said in line for line in lines.said] == ([True] if said else [])


def test_a_cooldown_shrinks_with_the_epochs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 20\ncooldown_epochs: 10\n")
    assert read_recipe(file, {"epochs": 2}).cooldown_epochs == 1
    assert read_recipe(file, {"epochs": 12}).cooldown_epochs == 10


def test_settings_that_contradict_the_epochs_are_refused_as_before():
    with pytest.raises(RecipeError, match="got 3 warm-up epochs of 1: expected fewer"):
        read_recipe("digits", {"epochs": 1, "warmup_epochs": 3})
    with pytest.raises(RecipeError, match="got epochs: 0, expected 1 or more"):
        read_recipe("digits", {"epochs": 0})


def test_a_recipe_with_a_setting_left_to_the_user_is_printed_with_a_mark(tmp_path):
    text = read_recipe("imagenet1k_384", is_complete=False).to_yaml()
    (line,) = (line for line in text.splitlines() if "required" in line)
    assert re.fullmatch("finetune: required +# SET THIS: Checkpoint to start from.*", line)
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match="leaves finetune to you: set it"):
        read_recipe(file)
    assert "SET THIS" not in read_recipe("shapes_detect").to_yaml()
