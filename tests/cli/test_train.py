"""`atmviz train` and `atmviz ablate`: options, messages, exit codes; the loop itself: tests/training."""

import json
import shlex
import signal
from types import SimpleNamespace

import pytest
import yaml

from atmviz.checkpoints import load_model
from atmviz.training import ablation, loop
from atmviz.training.recipe import Recipe
from atmviz.training.recipe_files import read_recipe

SHORT = (
    *("--recipe", "digits", "--epochs", "1", "--warmup-epochs", "0", "--train-images", "32", "--val-images", "16"),
    *("--batch-size", "16", "--device", "cpu"),
)
ROW = {
    "epoch": 1,
    "updates": 2,
    "lr": 0.1,
    "train_loss": 2.0,
    "train_top1": 12.5,
    "val_loss": 2.1,
    "val_top1": 25.0,
    "val_top5": 75.0,
}


@pytest.fixture
def trained(monkeypatch):
    """What `train` was called with, instead of training; `outcome` is what it came to."""
    calls = SimpleNamespace(outcome=None)

    def train(recipe, out, *, device, events):
        calls.recipe, calls.out, calls.device, calls.events = recipe, out, device, events
        return calls.outcome or loop.TrainResult(out, [ROW], best=25.0)

    monkeypatch.setattr(loop, "train", train)
    return calls


def test_a_run_trains_says_how_it_goes_and_leaves_weights_that_load(succeed, folder):
    result = succeed("train", *SHORT, "--json")
    out = folder / "runs/digits-atmnet_nano-0"
    found = json.loads(result.stdout)
    assert found["out"] == "runs/digits-atmnet_nano-0"
    assert found["best"] == found["epochs"][0]
    assert "training atmnet_nano on digits into runs/digits-atmnet_nano-0" in result.stderr
    assert "epoch   1: loss" in result.stderr
    assert "mean |offset| by stage" in result.stderr
    assert f"top-1 {found['best']['val_top1']:.2f} %" in result.stderr
    assert load_model(out / "best.safetensors", device="cpu").num_classes == 10
    again = succeed("train", *SHORT)
    assert "is finished: nothing left to train" in again.stderr
    assert again.stdout == ""


@pytest.mark.parametrize(
    ("dataset", "named"), [("folder", "my data"), ("imagenet", None), ("digits", None), ("torch/CIFAR10", "my data")]
)
def test_the_command_that_is_printed_next_works_from_any_folder(succeed, trained, folder, dataset, named):
    options = ("--data-dir", named) if named else ()
    for split in ("train", "val"):
        (folder / (named or "data") / split).mkdir(parents=True)
    said = succeed("train", "--recipe", "digits", "--dataset", dataset, *options, "--out", "my $run").stderr
    words = shlex.split(said.partition("evaluate with: ")[2].splitlines()[0])
    data = ["--dataset", dataset] if "/" in dataset else []  # which eval does not take from a checkpoint
    data += ["--data-dir", str(folder / (named or "data"))] if dataset != "digits" else []
    assert words == ["atmviz", "eval", str(folder / "my $run" / "best.safetensors"), *data]


def test_the_folder_of_a_run_lies_below_runs_whatever_the_recipe_says(succeed, trained, folder):
    (folder / "..\x1b.yaml").write_text(yaml.safe_dump({"dataset": "digits"}))
    succeed("train", "--recipe", folder / "..\x1b.yaml")
    assert (trained.out.parent.as_posix(), trained.out.name[-10:].isalnum()) == ("runs", True)


def test_without_arguments_the_demonstration_model_is_trained(succeed, trained, folder):
    succeed("train")
    assert trained.recipe == read_recipe("shapes")
    assert (str(trained.out), trained.device) == ("runs/shapes-atmnet_nano-0", "auto")


def test_every_setting_is_an_option_and_overrides_the_recipe(succeed, trained):
    options = [
        "--lr",
        "0.5",
        "--no-compile",
        "--lr-steps",
        "epoch",
        "--model",
        "atmnet_tiny",
        "--drop-path",
        "0.25",
        "--seed",
        "3",
    ]
    succeed("train", "--recipe", "digits", *options, "--out", "here")
    expected = {"lr": 0.5, "compile": False, "lr_steps": "epoch", "model": "atmnet_tiny", "drop_path": 0.25, "seed": 3}
    assert trained.recipe == read_recipe("digits", expected)
    help_text = succeed("train", "--help").stdout
    assert [name for name in Recipe.__dataclass_fields__ if f"--{name.replace('_', '-')}" not in help_text] == []


def test_the_recipe_is_printed_whole_and_nothing_trained(succeed, folder):
    text = succeed("train", "--recipe", "imagenet1k", "--model", "atmnet_large", "--print-recipe").stdout
    assert Recipe().override(yaml.safe_load(text)) == read_recipe("imagenet1k", {"model": "atmnet_large"})
    assert list(folder.iterdir()) == []


def test_a_recipe_that_leaves_a_setting_open_is_printed_too(succeed):
    text = succeed("train", "--recipe", "coco_1x", "--epochs", "1", "--print-recipe")
    assert "finetune: required" in text.stdout
    assert "# SET THIS: Checkpoint" in text.stdout
    assert "the recipe's schedule of 12 epochs is shortened to 1: warmup_epochs 0.068 becomes 0.006" in text.stderr


def test_warnings_of_sick_offsets_are_shown(succeed, trained):
    succeed("train")
    health = [SimpleNamespace(layer="1_1", mean_abs=0.5, warning="60% of the samples of 1_1 lie outside")]
    from atmviz_cli.training import epoch_line

    line = epoch_line(ROW, health)
    assert (
        line
        == "epoch   1: loss 2.000, validation loss 2.100, top-1 25.00 %, top-5 75.00 %; mean |offset| by stage 0.50"
    )


def test_the_offsets_of_a_stage_are_those_of_the_backbone_alone():
    from atmviz_cli.training import epoch_line

    means = {"1_1": 0.5, "2_1": 1.0, "2_3": 2.0, "fpn_c2": 90.0, "fpn_c3": 90.0, "fpn_p3": 90.0, "fpn_p6": 90.0}
    health = [SimpleNamespace(layer=layer, mean_abs=mean) for layer, mean in means.items()]
    assert epoch_line(ROW, health).endswith("; mean |offset| by stage 0.50 1.50")
    assert "offset" not in epoch_line(ROW, health[3:])  # of a backbone without offsets, with a neck that has some


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_run_says_how_to_resume(run, trained, name, code):
    trained.outcome = loop.TrainResult("here", stopped=signal.Signals[name])
    result = run("train")
    assert result.exit_code == code
    assert f"stopped by {name} and saved: run the same command to resume" in result.stderr


def without(option):
    """SHORT without an option and its value."""
    at = SHORT.index(option)
    return SHORT[:at] + SHORT[at + 2 :]


@pytest.mark.parametrize(
    ("code", "says", "options"),
    [
        (2, "no recipe 'shape': expected one of", ["--recipe", "shape"]),
        (2, "did you mean shapes?", ["--recipe", "shape"]),
        (2, "leaves finetune to you: set it", ["--recipe", "imagenet1k_384"]),
        (1, "got batch_size 4096 for 32 images", [*without("--batch-size"), "--batch-size", "4096"]),
        (1, "got precision fp16 on a CPU", [*SHORT, "--precision", "fp16"]),
        (1, "no train folder in data", ["--recipe", "imagenet1k", "--device", "cpu", "--precision", "fp32"]),
        (1, "no checkpoint file none.pth", [*SHORT, "--finetune", "none.pth"]),
        (2, "no dataset 'digit': expected shapes", ["--dataset", "digit", "--device", "gpu"]),
        (2, "got device 'gpu'", [*without("--device"), "--device", "gpu"]),
        (2, "got model 'atmnet_tinny'", [*SHORT, "--model", "atmnet_tinny"]),
        (2, "got optimizer 'adamww'", [*SHORT, "--optimizer", "adamww"]),
        (2, "got auto_augment 'rnd-m9'", [*SHORT, "--auto-augment", "rnd-m9"]),
        (1, "no recipe 'shape.yaml'", ["--recipe", "shape.yaml"]),
        (2, "got --lr fast, expected a number", ["--lr", "fast"]),
        (2, "no option --epoch; did you mean --epochs?", ["--epoch", "3"]),
    ],
)
def test_wrong_settings_are_one_error_and_leave_no_folder(refuse, code, says, options):
    refuse(code, says, "train", *options)


def test_an_unknown_key_of_a_recipe_file_names_the_nearest(run, folder):
    folder.joinpath("mine.yaml").write_text("weight_dcay: 0.1\n")
    result = run("train", "--recipe", "mine.yaml")
    assert result.exit_code == 1
    assert "no recipe setting 'weight_dcay'" in result.stderr
    assert "did you mean weight_decay?" in result.stderr


def test_a_changed_recipe_lists_the_differences(succeed, run):
    succeed("train", *SHORT, "--out", "here")
    result = run("train", *SHORT, "--out", "here", "--lr", "0.5")
    assert result.exit_code == 1
    assert "here holds a run of another recipe (lr: 0.5 here, 0.001 there)" in result.stderr


def test_ablations_are_printed_beside_the_papers_numbers(succeed, monkeypatch):
    def ablate(recipe, out, seeds, **options):
        return [ablation.AblationResult(one, [60.0 + seed for seed in seeds]) for one in ablation.ABLATIONS], None

    monkeypatch.setattr(ablation, "ablate", ablate)
    text = succeed("ablate", "--seeds", "2").stdout
    assert "zero offsets, no PEG" in text
    assert "60.50 ± 0.71" in text
    assert "79.3" in text
    found = json.loads(succeed("ablate", "--json").stdout)
    assert [one["paper_top1"] for one in found] == [79.3, 82.0, 82.0, None, 79.9]
    assert found[0]["mean"] == 61.0
