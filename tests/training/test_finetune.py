"""Starting from weights: of the same kind, of a classifier, of another timm backbone; what is refused."""

import re

import pytest
import timm
import torch
from safetensors.torch import save_file

from atmviz.checkpoints import load_model, read_checkpoint, write_checkpoint
from atmviz.dense import create_network
from atmviz.errors import CheckpointError, RecipeError
from atmviz.models import create_model
from atmviz.training.build import build_network, build_task
from atmviz.training.loop import train

SWIN = "swin_tiny_patch4_window7_224"


# Classifiers.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of a classifier of ten classes with averaged weights beside the others."""
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    torch.manual_seed(0)
    states = {kind: create_model("atmnet_nano", num_classes=10).state_dict() for kind in ("model", "model_ema")}
    write_checkpoint(path, "atmnet_nano", {"num_classes": 10}, states, {"classes": list("0123456789")})
    return str(path), states


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({}, "model_ema", "averaged weights of 10 classes; the head is kept"),
        ({"finetune_weights": "model"}, "model", "weights (not averaged) of 10 classes; the head is kept"),
    ],
)
def test_averaged_weights_come_first_and_what_was_taken_is_said(trained, small, settings, kind, said, notes_class):
    path, states = trained
    notes = notes_class()
    network = build_network(small(finetune=path, **settings), 10, notes)
    assert notes.messages == [f"{path}: {said}"]
    own = network.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in states[kind].items())


def test_another_number_of_classes_replaces_the_head_and_says_so(trained, small, notes_class):
    path, states = trained
    notes = notes_class()
    network = build_network(small(finetune=path), 7, notes)
    assert notes.messages == [f"{path}: averaged weights of 10 classes; a new head for 7"]
    assert network.head.fc.out_features == 7
    assert torch.equal(network.stem.weight, states["model_ema"]["stem.weight"])


def test_what_cannot_be_fine_tuned_is_refused(trained, small):
    path, _ = trained
    with pytest.raises(RecipeError, match=r"got atmnet_nano in .* to fine-tune atmnet_tiny: set model to atmnet_nano"):
        build_network(small(finetune=path, model="atmnet_tiny"), 10)
    with pytest.raises(
        RecipeError, match=r"does not fit the recipe's .*unknown: stages\.0\.peg.*check model, dim, peg"
    ):
        build_network(small(finetune=path, peg=False), 10)
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        build_network(small(finetune="nowhere.pth"), 10)
    with pytest.raises(RecipeError, match="got finetune_weights model without a file"):
        small(finetune_weights="model")


# Dense networks.


def test_a_classifiers_weights_become_the_backbones(small_dense, notes_class):
    notes = notes_class()
    network = build_network(small_dense("retinanet"), 10, notes)
    own = network.backbone.body.model.state_dict()
    for name, tensor in load_model(device="cpu").state_dict().items():
        if not name.startswith(("norm.", "head.")):
            assert torch.equal(own[name], tensor), name
    taken = "atmnet_nano.shapes: averaged weights of atmnet_nano for the backbone; left out: head (2), norm (2)"
    assert notes.messages == [f"{taken}; all else is new"]
    with pytest.raises(CheckpointError, match="has no model weights, only ema: choose ema weights"):
        build_network(small_dense("retinanet", finetune_weights="model"), 10)
    with pytest.raises(RecipeError, match=r"does not fit .*unknown: stages\.0\.peg"):
        build_network(small_dense("retinanet", peg=False), 10)


def test_a_dense_networks_weights_start_another_one_with_new_classes(tmp_path, small_dense, notes_class):
    path = tmp_path / "last.safetensors"
    config = {"num_classes": 10, "dim": 16, "box_samples": 16, "min_size": 64, "max_size": 1333}
    before = create_network("mask_rcnn(atmnet_nano)", **config).state_dict()
    write_checkpoint(path, "mask_rcnn(atmnet_nano)", config, {"model": before}, {"dataset": "shapes"})
    notes = notes_class()
    network = build_network(small_dense("mask_rcnn", finetune=str(path)), 4, notes)
    own = network.state_dict()
    changed = [name for name in own if own[name].shape != before[name].shape]
    assert {name.split(".")[-2] for name in changed} == {"cls_score", "bbox_pred", "mask_fcn_logits"}
    assert all(torch.equal(own[name], before[name]) for name in own if name not in changed)
    assert notes.messages == [f"{path}: weights (not averaged) of 10 classes; a new head for 4"]
    with pytest.raises(RecipeError, match=r"got mask_rcnn\(atmnet_nano\) in .* to fine-tune retinanet\(atmnet_nano\)"):
        build_network(small_dense("retinanet", finetune=str(path)), 10)
    with pytest.raises(RecipeError, match=r"to fine-tune mask_rcnn.atmnet_tiny.: set model to atmnet_nano"):
        build_network(small_dense("mask_rcnn", finetune=str(path), model="atmnet_tiny"), 10)


# Other backbones.


@pytest.fixture(scope="module")
def resnet():
    """timm's smallest ResNet with seven classes, its batch norms' statistics moved away from 0 and 1."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=7).train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    return network.eval()


def maps_of(network, images):
    """The last four feature maps of a classifier, as timm computes them."""
    with torch.inference_mode():
        return network.forward_intermediates(images, intermediates_only=True)[-4:]


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "module."])
@pytest.mark.parametrize("left_out", ["nothing", "fc (2)"])
def test_timms_weights_of_others_start_a_dense_network(
    tmp_path, small_dense, resnet, wrapper, left_out, suffix, notes_class
):
    state = {
        name: tensor
        for name, tensor in resnet.state_dict().items()
        if left_out == "fc (2)" or not name.startswith("fc.")
    }
    file = tmp_path / f"weights.{suffix}"
    if wrapper == "module.":
        state = {wrapper + name: tensor for name, tensor in state.items()}
    if suffix == "safetensors":
        save_file(state, file)
    else:
        torch.save({wrapper: state} if wrapper in ("state_dict", "model") else state, file)
    notes = notes_class()
    recipe = small_dense("semantic_fpn", model="test_resnet", finetune=str(file))
    network = build_network(recipe, 11, notes).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = network.backbone.body(images)
    assert all(torch.equal(own, theirs) for own, theirs in zip(features, maps_of(resnet, images), strict=True))
    said = "weights (not averaged)" if suffix == "pth" and wrapper in ("state_dict", "model") else "weights"
    assert notes.messages == [f"{file}: {said} of test_resnet for the backbone; left out: {left_out}; all else is new"]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), r"1 missing: layer2\.0\.conv1\.weight\)"),
        (lambda state: state.update({"layer9.weight": torch.zeros(3)}), r"1 unknown: layer9\.weight\)"),
        (
            lambda state: state.update({"conv1.0.weight": torch.zeros(3, 3)}),
            r"1 of a wrong shape: conv1\.0\.weight \[3, 3\] instead of \[\d+, 3, 3, 3\]\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_another_backbone_are_listed(tmp_path, small_dense, resnet, damage, problem):
    state = dict(resnet.state_dict())
    damage(state)
    torch.save(state, tmp_path / "weights.pth")
    recipe = small_dense("retinanet", model="test_resnet", finetune=str(tmp_path / "weights.pth"))
    with pytest.raises(RecipeError, match=r"weights\.pth does not fit the recipe's test_resnet \(" + problem) as caught:
        build_network(recipe, 11)
    assert "\n" not in str(caught.value)


def test_files_from_before_batch_norms_counted_are_whole(tmp_path, small_dense, resnet):
    state = {name: tensor for name, tensor in resnet.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    recipe = small_dense("upernet", model="test_resnet", finetune=str(tmp_path / "old.pth"))
    own = build_network(recipe, 11).backbone.model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))


def test_swins_weights_are_taken_in_the_layout_of_its_authors_too(tmp_path, small_dense, notes_class):
    """Theirs downsample at the end of a stage, keep tables of indices as buffers, and call the classifier head."""
    torch.manual_seed(0)
    swin = timm.create_model(SWIN).eval()
    state = swin.half().state_dict()
    theirs = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name).replace(
            "head.fc.", "head."
        ): tensor
        for name, tensor in state.items()
    }
    theirs["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    file = str(tmp_path / "swin.pth")
    torch.save({"model": theirs}, file)
    notes = notes_class()
    network = build_network(small_dense("retinanet", model=SWIN, finetune=file), 11, notes)
    own = network.backbone.body.model.state_dict()
    assert {name.split(".")[0] for name in state.keys() - own.keys()} == {"norm", "head"}
    assert all(torch.equal(own[name], state[name].float()) for name in own)
    taken = f"{file}: weights (not averaged) of {SWIN} for the backbone; left out: norm (2), head (2)"
    assert notes.messages == [f"{taken}; all else is new"]

    name = "layers.0.blocks.0.attn.relative_position_bias_table"  # of another window: timm would resize it
    torch.save({**state, name: torch.zeros(23 * 23, 3)}, file)
    with pytest.raises(RecipeError, match=rf"1 of a wrong shape: {re.escape(name)} \[529, 3\] instead of \[169, 3\]"):
        build_network(small_dense("retinanet", model=SWIN, finetune=file), 11)
    torch.save({**state, "layers.9.blocks.0.attn.relative_position_bias_table": torch.zeros(9)}, file)
    with pytest.raises(RecipeError, match=r"1 unknown: layers\.9\.blocks"):
        build_network(small_dense("retinanet", model=SWIN, finetune=file), 11)


# ResNets under detectors.


def frozen_run(tmp_path, small_dense, resnet, head, **changes):
    torch.save(resnet.state_dict(), tmp_path / "weights.pth")
    settings = {"finetune": str(tmp_path / "weights.pth"), "epochs": 1, "train_images": 16, "lr": 1e-2, **changes}
    recipe = small_dense(head, model="test_resnet", **settings)
    train(recipe, tmp_path / "run", device="cpu")
    state = read_checkpoint(tmp_path / "run/last.safetensors").state
    return recipe, {n.removeprefix("backbone.body.model."): t for n, t in state.items() if ".body." in n}


def test_a_pretrained_resnet_trains_as_in_mmdetection_under_a_detector(tmp_path, small_dense, resnet, notes_class):
    """mmdetection 2.11: frozen_stages=1, norm_eval=True, norm_cfg=dict(type='BN', requires_grad=True)."""
    recipe, after = frozen_run(tmp_path, small_dense, resnet, "retinanet")
    for name, tensor in resnet.state_dict().items():
        if name.startswith("fc."):
            continue
        frozen = name.startswith(("conv1.", "bn1.", "layer1."))
        statistics = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(after[name], tensor) == (frozen or statistics), name
    notes = notes_class()
    task = build_task(build_network(recipe, 10), recipe, notes).train()
    assert notes.messages == ["test_resnet as in mmdetection: stem, first stage and batch norm statistics are frozen"]
    norms = {n: m.training for n, m in task.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert not any(norms.values())
    assert task.training
    assert task.network.backbone.neck.training


@pytest.mark.parametrize(("head", "changes"), [("semantic_fpn", {}), ("retinanet", {"finetune": None})])
def test_a_resnet_trains_whole_under_a_segmenter_and_from_noise(tmp_path, small_dense, resnet, head, changes):
    recipe, after = frozen_run(tmp_path, small_dense, resnet, head, **changes)
    before = {n.removeprefix("backbone.body.model."): t for n, t in build_network(recipe, 11).state_dict().items()}
    assert [name for name in after if torch.equal(after[name], before[name])] == []
