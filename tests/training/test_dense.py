"""Every head with both necks, from a recipe to an evaluated checkpoint; schedules, fine-tuning, refusals."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from atmviz.architecture import HEAD_TASKS
from atmviz.checkpoints import load_model, read_checkpoint
from atmviz.errors import AtmvizError, CheckpointError, RecipeError
from atmviz.observe import find_sites
from atmviz.training.build import build_network, build_optimizer, build_scheduler, build_task
from atmviz.training.evaluate import HEADLINES, evaluate
from atmviz.training.loop import train
from atmviz.training.recipe import Recipe
from atmviz.training.recipe_files import read_recipe


@pytest.mark.parametrize("neck", ["fpn", "atmfpn"])
@pytest.mark.parametrize("head", HEAD_TASKS)
def test_every_head_learns_and_its_checkpoint_evaluates_to_the_same_numbers(head, neck, tmp_path, small_dense):
    recipe = small_dense(head, neck=neck, epochs=3, train_images=64, lr=3e-3, clip_grad=1.0)
    result = train(recipe, tmp_path, device="cpu")
    first, last = result.history[0], result.history[-1]
    assert last["train_loss"] < 0.9 * first["train_loss"]
    assert result.headline == f"val_{HEADLINES[HEAD_TASKS[head]]}"

    evaluation = evaluate(tmp_path / "last.safetensors", device="cpu", workers=0, limit=6)
    assert evaluation.row["model"] == str(recipe.architecture)
    assert (evaluation.row["dataset"], evaluation.row["size"], evaluation.row["images"]) == ("shapes", 64, 6)
    for name, value in evaluation.metrics.items():
        assert value == pytest.approx(last[f"val_{name}"], nan_ok=True)
        assert evaluation.row[name] == pytest.approx(value, nan_ok=True)
    about = read_checkpoint(tmp_path / "last.safetensors").origin.training_info
    assert about["recipe"]["head"] == head
    with pytest.raises(AtmvizError, match=r"expected (ade20k|coco) or shapes"):
        evaluate(tmp_path / "last.safetensors", device="cpu", dataset="digits")


def test_offsets_set_to_zero_change_what_is_segmented(tmp_path, small_dense):
    train(small_dense("semantic_fpn", neck="atmfpn", epochs=1), tmp_path, device="cpu")
    scores = {
        offsets: evaluate(
            tmp_path / "last.safetensors", device="cpu", workers=0, limit=4, offsets=offsets, confusion=True
        )
        for offsets in ("learned", "zero", "shuffle")
    }
    matrices = [one.confusion for one in scores.values()]
    assert all(matrix.sum() == 4 * 64 * 64 for matrix in matrices)
    assert not np.array_equal(matrices[0], matrices[1])


# Recipes.

PAPER = {
    "ade20k_semantic_fpn": {"updates": 40_000, "batch_size": 32, "lr": 2e-4, "weight_decay": 0.01, "image_size": 512},
    "ade20k_upernet": {"updates": 160_000, "batch_size": 16, "lr": 6e-5, "weight_decay": 0.01, "image_size": 512},
    "coco_1x": {"epochs": 12, "batch_size": 16, "decay_epochs": (8, 11), "image_size": 800, "long_side": 1333},
    "coco_3x": {"epochs": 36, "batch_size": 16, "decay_epochs": (27, 33), "short_side_min": 480, "long_side": 1333},
}


@pytest.mark.parametrize("name", PAPER)
def test_recipes_have_the_values_of_sections_4_2_and_4_3(name):
    recipe = read_recipe(name, {"finetune": "weights.pth"})
    for key, value in PAPER[name].items():
        if key == "updates":
            assert recipe.train_images % recipe.batch_size == 0
            assert recipe.epochs * recipe.train_images // recipe.batch_size == value
        else:
            assert getattr(recipe, key) == value
    assert recipe.optimizer == "adamw"


@pytest.mark.parametrize(
    ("model", "segment", "detect"),
    [("atmnet_xtiny", 0.1, 0.1), ("atmnet_tiny", 0.1, 0.1), ("atmnet_small", 0.2, 0.3), ("atmnet_base", 0.2, 0.5),
     ("atmnet_large", 0.2, 0.6), ("resnet50", 0.0, 0.0)],
)  # fmt: skip
def test_stochastic_depth_follows_task_and_size(model, segment, detect):
    for head, rate in (("upernet", segment), ("mask_rcnn", detect)):
        recipe = Recipe(head=head, model=model)
        assert recipe.drop_path_rate == rate
    recipe = Recipe(head="retinanet", model="atmnet_nano", drop_path=0.3)
    rates = [m.drop_prob for m in build_network(recipe, 10).modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)


def rates_of(recipe, updates):
    """The learning rate of every update."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=recipe.lr)
    scheduler = build_scheduler(optimizer, recipe, updates)
    rates = []
    for update in range(recipe.epochs * updates):
        scheduler.step_update(update) if recipe.lr_steps == "update" else scheduler.step(update // updates)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("warmup", [0, 0.068, 0.5, 1, 1.2, 2, 3.7, 8])
@pytest.mark.parametrize("steps", ["update", "epoch"])
def test_the_rate_falls_to_a_tenth_after_the_named_epochs_whatever_the_warm_up(steps, warmup):
    recipe = Recipe(
        epochs=12, schedule="step", decay_epochs=(8, 11), lr=1e-4, lr_steps=steps, warmup_epochs=warmup, warmup_lr=1e-7
    )
    expected = []
    for update in range(12 * 7):
        done = update / 7 if steps == "update" else update // 7  # epochs
        if done < warmup:
            expected.append(1e-7 + (1e-4 - 1e-7) * done / warmup)
        else:
            expected.append(1e-4 if update < 8 * 7 else 1e-5 if update < 11 * 7 else 1e-6)
    assert rates_of(recipe, 7) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "falls"), [("coco_1x", (58_640, 80_630)), ("coco_3x", (197_910, 241_890))])
def test_the_detectors_rate_falls_where_mmdetections_does(name, falls):
    recipe = read_recipe(name, {"finetune": "weights.pth"})
    rates = rates_of(recipe, 7_330)
    assert tuple(t for t in range(500, len(rates)) if rates[t] < 0.5 * rates[t - 1]) == falls


@pytest.mark.parametrize(("epochs", "falls"), [(6, (400, 550)), (1, (67, 92))])
def test_the_rate_of_a_shortened_run_falls_in_proportion(epochs, falls):
    rates = rates_of(read_recipe("coco_1x", {"finetune": "weights.pth", "epochs": epochs}), 100)
    assert tuple(t for t in range(50, len(rates)) if rates[t] < 0.5 * rates[t - 1]) == falls


def test_the_warm_up_of_500_updates_may_be_part_of_an_epoch():
    recipe = read_recipe("coco_1x", {"finetune": "weights.pth"})
    rates = rates_of(recipe, 117_266 // 16)
    assert rates[:498] == pytest.approx([1e-4 * (0.001 + 0.999 * t / 500) for t in range(498)], rel=0.01)  # mmcv's
    assert rates[500] == 1e-4


@pytest.mark.parametrize("power", [0.9, 1.0])
def test_poly_is_the_share_of_updates_left_to_its_power(power):
    recipe = Recipe(epochs=4, schedule="poly", poly_power=power, lr=2e-4, min_lr=0.0)
    assert rates_of(recipe, 10) == pytest.approx([2e-4 * (1 - t / 40) ** power for t in range(40)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neck": "atmfpn"}, r"got neck, not supported for classifiers: set head"),
        ({"head": "upernet", "mixup": 0.8, "cutmix": 1.0}, "got mixup, cutmix, not supported for upernet"),
        ({"head": "upernet", "short_side_min": 64}, "got short_side_min, not supported for upernet"),
        ({"head": "retinanet", "photometric": 0.5}, "got photometric, not supported for retinanet"),
        ({"head": "retinanet", "compile": True}, "got compile, not supported for detectors"),
        ({"head": "retinanet", "short_side_min": 256}, "got shorter sides of 256 to 128 px"),
        ({"head": "retinanet", "image_size": 800, "long_side": 640}, "longer ones up to 640"),
        ({"head": "upernet", "scale_min": 2.0}, "got scales from 2 to 1"),
        ({"schedule": "step"}, r"got schedule step with decay_epochs \[\], expected decay_epochs for step only"),
        ({"decay_epochs": "8,9"}, r"got schedule cosine with decay_epochs \[8, 9\]"),
        ({"schedule": "step", "decay_epochs": [9, 8]}, r"got decay_epochs \[9, 8\] of 10 epochs, 0 of them warm-up"),
        ({"schedule": "step", "decay_epochs": [8, 12]}, "expected rising ones between warm-up and end"),
        ({"schedule": "step", "decay_epochs": [2, 8], "warmup_epochs": 2.5}, "epochs, 2.5 of them warm-up: expected"),
        ({"decay_epochs": "8;9"}, "got decay_epochs: '8;9', expected finite numbers, e.g. 8,11"),
        ({"decay_epochs": [math.inf]}, r"got decay_epochs: \[inf\], expected finite numbers, e.g. 8,11"),
        ({"head": "upanet"}, "got head: 'upanet', expected semantic_fpn, upernet, retinanet, mask_rcnn or cascade"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recipe().override(settings)


# Weight decay.


def spared(recipe, classes):
    """All names of what is trained, and those without weight decay."""
    with torch.device("meta"):
        task = build_task(build_network(recipe, classes), recipe)
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    groups = build_optimizer(task, recipe).param_groups
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert {group["weight_decay"] for group in groups} <= {0.0, recipe.weight_decay}
    return set(names.values()), {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}


def test_weight_decay_spares_norms_biases_and_every_peg(small_dense):
    recipe = small_dense("semantic_fpn", neck="atmfpn", weight_decay=0.01, finetune=None)
    names, without = spared(recipe, 11)
    assert any(".peg." in name and "neck" in name for name in names)
    with torch.device("meta"):
        task = build_task(build_network(recipe, 11), recipe)
    for name, parameter in task.named_parameters():
        assert (name in without) == (parameter.ndim <= 1 or ".peg." in name), name


def test_upernets_recipe_spares_what_the_released_segmentation_code_calls_norm():
    """Its names: norm1 and norm2 of every block, norm_0 to norm_3; the offset layers' norm is `offset_layer.0`."""
    names, without = spared(read_recipe("ade20k_upernet", {"model": "atmnet_xtiny", "finetune": None}), 150)
    blocks = [
        f"stages.{i}.blocks.{j}.norm{k}" for i, depth in enumerate((2, 2, 4, 2)) for j in range(depth) for k in (1, 2)
    ]
    norms = [*blocks, *(f"out_norms.{i}" for i in range(4))]
    assert without == {f"network.backbone.model.{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    assert (len(without), len(names)) == (48, 277)


def test_swins_tables_of_positions_are_spared_with_its_norms():
    model = "swin_tiny_patch4_window7_224"
    names, without = spared(read_recipe("coco_1x", {"model": model, "finetune": None}), 80)
    expected = {name for name in names if "norm" in name or "relative_position_bias_table" in name}
    assert without == expected
    assert sum("table" in name for name in without) == 12


def test_semantic_fpns_recipe_spares_nothing_as_pvts():
    names, without = spared(read_recipe("ade20k_semantic_fpn", {"model": "atmnet_xtiny", "finetune": None}), 150)
    assert (len(without), len(names)) == (0, 273)


def test_a_backbone_without_offsets_trains_too(tmp_path, small_dense):
    recipe = small_dense("semantic_fpn", model="resnet18", finetune=None, epochs=1, train_images=8)
    result = train(recipe, tmp_path, device="cpu")
    assert math.isfinite(result.history[0]["train_loss"])
    network = load_model(tmp_path / "last.safetensors", device="cpu")
    assert network.origin.model == "semantic_fpn(resnet18)"
    with pytest.raises(CheckpointError, match="no ATM layers"):
        find_sites(network)


@pytest.mark.parametrize("head", ["upernet", "mask_rcnn"])
def test_two_processes_count_every_image_once(head, tmp_path, small_dense):
    train(small_dense(head, epochs=1, train_images=16), tmp_path, device="cpu")
    file = tmp_path / "last.safetensors"
    command = ["eval", str(file), "--json", "--limit", "7", "-b", "2", "--device", "cpu", "-j", "0"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launcher = [*launcher, "--rdzv-endpoint", "localhost:0", "-m", "atmviz_cli", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    two = subprocess.run(launcher, env=environment, capture_output=True, text=True, timeout=250)
    assert two.returncode == 0, two.stderr
    one = evaluate(file, device="cpu", workers=0, limit=7)
    (shared,) = json.loads(two.stdout)
    assert shared["images"] == 7
    for name, value in one.metrics.items():
        assert (shared[name] is None) if math.isnan(value) else shared[name] == pytest.approx(value, abs=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("head", sorted(HEAD_TASKS))
def test_a_gpu_trains_and_judges_as_the_cpu_does(head, tmp_path, small_dense):
    recipe = small_dense(head, neck="atmfpn", precision="bf16")
    result = train(recipe, tmp_path, device="cuda")
    assert math.isfinite(result.history[-1]["train_loss"])
    evaluated = [
        evaluate(tmp_path / "last.safetensors", device=device, workers=0, limit=6).metrics for device in ("cuda", "cpu")
    ]
    for name, value in evaluated[0].items():
        assert value == pytest.approx(evaluated[1][name], abs=1, nan_ok=True), name


def test_predictions_are_handed_over_as_arrays(tmp_path, small_dense):
    for head in ("semantic_fpn", "mask_rcnn", "retinanet"):
        train(small_dense(head, epochs=1, train_images=8), tmp_path / head, device="cpu")
        predictions = []
        evaluate(
            tmp_path / head / "last.safetensors", device="cpu", workers=0, limit=2, on_prediction=predictions.append
        )
        assert [one.name for one in predictions] == ["shapes/val/000000", "shapes/val/000001"]
        for one in predictions:
            assert one.image.shape == (64, 64, 3)
            assert one.image.dtype == np.uint8
            if head == "semantic_fpn":
                assert one.truth.shape == one.predicted.shape == (64, 64)
            else:
                assert ("masks" in one.truth) == ("masks" in one.predicted) == (head == "mask_rcnn")
                assert one.predicted["boxes"].shape == (len(one.predicted["scores"]), 4)


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("semantic_fpn", {"crop_pct": 0.9}, "crop_pct is not supported for segmenters"),
        ("mask_rcnn", {"confusion": True}, "confusion is not supported for detectors"),
        ("mask_rcnn", {"multi_scale": True}, "multi_scale is not supported for detectors"),
    ],
)
def test_options_that_a_task_does_not_have_are_named(head, options, message):
    with pytest.raises(AtmvizError, match=message):
        evaluate(f"{head}(atmnet_nano)", device="cpu", dataset="shapes", **options)
