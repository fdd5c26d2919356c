"""What is built for a run carries the values of its recipe, here those of Table 9."""

import copy
import math

import pytest
import torch
from timm.loss import SoftTargetCrossEntropy

from atmviz.data.keyed import KeyedBatchSampler
from atmviz.training import build
from atmviz.training.recipe_files import read_recipe
from atmviz.training.tasks import ClassificationTask


@pytest.fixture(scope="module")
def table_9():
    recipe = read_recipe("imagenet1k", {"model": "atmnet_small", "data_dir": "nowhere"})
    with torch.device("meta"):
        task = ClassificationTask(build.build_network(recipe, 1000), recipe)
    return recipe, task


def test_the_optimizer_is_adamw_at_1e_3_without_decay_on_norms_biases_and_peg(table_9):
    recipe, task = table_9
    optimizer = build.build_optimizer(task, recipe)
    assert type(optimizer) is torch.optim.AdamW
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decays.values()) == {0.0, 0.05}
    assert decays.keys() == set(names.values())
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3}
    for name, decay in decays.items():
        parameter = task.get_parameter(name)
        assert decay == (0.0 if parameter.dim() == 1 or ".peg." in name else 0.05), name
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_the_learning_rate_is_the_releases_one_epoch_earlier(table_9):
    recipe, task = table_9
    optimizer = build.build_optimizer(task, recipe)
    scheduler = build.build_scheduler(optimizer, recipe, 1251)
    rates = []
    for epoch in range(recipe.epochs + recipe.cooldown_epochs):
        scheduler.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    # timm 0.3.2's cosine; the release starts at 1e-6 and calls step(epoch) after each of its 300 epochs.
    curve = [1e-6 + t * (1e-3 - 1e-6) / 5 for t in range(5)]
    curve += [1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * t / 300)) / 2 for t in range(5, 300)]
    released = [1e-6, *curve[:-1]]
    assert rates == pytest.approx(curve)
    assert rates[:-1] == pytest.approx(released[1:])


def test_mixup_and_cutmix_carry_their_values(table_9):
    recipe, task = table_9
    mixup = build.build_mixup(recipe, 1000)
    assert (mixup.mixup_alpha, mixup.cutmix_alpha, mixup.label_smoothing) == (0.8, 1.0, 0.1)
    assert (mixup.mix_prob, mixup.switch_prob, mixup.mode, mixup.num_classes) == (1.0, 0.5, "batch", 1000)
    assert isinstance(task.criterion, SoftTargetCrossEntropy)
    assert build.build_mixup(read_recipe("digits"), 10) is None


def test_stochastic_depth_rises_to_the_variants_rate(table_9):
    _, task = table_9
    rates = [m.drop_prob for m in task.modules() if type(m).__name__ == "DropPath"]
    assert rates == sorted(rates)
    assert max(rates) == pytest.approx(0.2)


def test_repeated_augmentation_and_the_batch_reach_the_sampler(table_9):
    recipe, _ = table_9
    sampler = KeyedBatchSampler(1_281_167, recipe.batch_size, 0, repeats=recipe.repeated_augmentation)
    assert (sampler.updates, sampler.repeats) == (1251, 3)


def test_a_state_saved_with_the_other_adamw_is_continued_with_the_devices_own(small):
    """A run that a CPU began, or an older version on a GPU, goes on with one fused kernel, and the reverse."""
    recipe = small()
    parts = [build.Parts(recipe, build.open_accelerator(recipe, "cpu")) for _ in range(2)]
    for group in parts[0].optimizer.optimizer.param_groups:
        group["fused"] = True
    for part in parts:
        batch = next(part.batches())
        part.wrapped(batch)["loss"].backward()
        part.optimizer.step()
    states = [copy.deepcopy(part.state_dict()) for part in parts]
    parts[0].load_state_dict(states[1])
    parts[1].load_state_dict(states[0])
    assert {group["fused"] for group in parts[0].optimizer.optimizer.param_groups} == {True}
    assert {group["fused"] for group in parts[1].optimizer.optimizer.param_groups} == {None}


def test_cudnn_adds_in_one_order_on_a_gpu_and_only_while_training():
    assert not torch.backends.cudnn.deterministic
    with build.in_one_order(torch.device("cuda")):
        assert torch.backends.cudnn.deterministic
    with build.in_one_order(torch.device("cpu")):
        assert not torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.deterministic
