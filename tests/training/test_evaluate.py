"""Evaluation: exact counts against numpy, any sharding, interventions on the offsets."""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

import atmviz
from atmviz.checkpoints import write_checkpoint
from atmviz.data.classification import LabeledImages, open_labeled
from atmviz.errors import AtmvizError, CheckpointError, DatasetError, SettingsError
from atmviz.models import create_model
from atmviz.sources.source import Truth
from atmviz.training import evaluate as module
from atmviz.training.evaluate import Evaluation, evaluate, evaluate_network
from atmviz.training.evaluation_settings import EvaluationSettings

CLASSES = 7
RNG = np.random.default_rng(0)
SCORES, LABELS = RNG.normal(size=(53, CLASSES)).astype(np.float32), RNG.integers(0, CLASSES, 53)


class Table(nn.Module):
    """Answers with the scores that belong to the image's number."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.from_numpy(SCORES))

    def forward(self, images):
        return self.scores[images.long()]


class Numbered:
    """Images of one pixel that holds their index."""

    note = ""

    def __len__(self):
        return 53

    def read(self, index):
        return np.full((1, 1), index, np.uint8)

    def truth(self, index):
        return Truth(label=int(LABELS[index]))


@pytest.fixture
def numbered():
    return LabeledImages(
        Numbered(), [str(c) for c in range(CLASSES)], lambda image: torch.tensor(image.getpixel((0, 0)))
    )


def expected(chosen):
    order = np.argsort(-SCORES[chosen], axis=1)
    own = LABELS[chosen, None]
    log_p = SCORES[chosen] - np.log(np.exp(SCORES[chosen]).sum(1, keepdims=True))
    loss = -np.take_along_axis(log_p, own, 1).mean()
    return 100 * (order[:, :1] == own).any(1).mean(), 100 * (order[:, :5] == own).any(1).mean(), loss


@pytest.mark.parametrize("limit", [None, 20, 1])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_accuracies_and_loss_are_those_of_a_written_out_count(numbered, limit, batch_size):
    evaluation = evaluate_network(Table(), numbered, batch_size=batch_size, limit=limit)
    top1, top5, loss = expected(np.arange(limit or 53))
    assert (evaluation.metrics["top1"], evaluation.metrics["top5"]) == pytest.approx((top1, top5), abs=1e-9)
    assert evaluation.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert evaluation.images == (limit or 53)


def test_the_confusion_matrix_counts_true_class_by_predicted(numbered):
    counts = Counter(zip(LABELS.tolist(), SCORES.argmax(1).tolist(), strict=True))
    matrix = evaluate_network(Table(), numbered, confusion=True).confusion
    assert matrix.shape == (CLASSES, CLASSES)
    assert {(i, j): matrix[i, j] for i, j in zip(*np.nonzero(matrix), strict=True)} == counts


def test_the_accuracy_of_a_class_is_that_of_its_images(numbered):
    evaluation = evaluate_network(Table(), numbered, per_class=True)
    right = SCORES.argmax(1) == LABELS
    of_class = [100 * right[np.flatnonzero(k == LABELS)].mean() for k in range(CLASSES)]
    assert evaluation.per_class == {"top1": pytest.approx(of_class)}
    assert evaluation.confusion is None
    assert evaluate_network(Table(), numbered, confusion=True).per_class == {}


def test_each_image_has_its_outcome_where_asked_for(numbered):
    for batch_size in (8, 64):
        outcomes = evaluate_network(Table(), numbered, batch_size=batch_size, by_image=True).outcomes
        assert outcomes.values.tolist() == (SCORES.argmax(1) == LABELS).tolist()
    assert evaluate_network(Table(), numbered).outcomes is None


def test_progress_counts_images(numbered, notes_class):
    notes = notes_class()
    evaluate_network(Table(), numbered, batch_size=20, events=notes)
    assert notes.seen == [(20, 53), (40, 53), (53, 53)]


def test_the_network_keeps_its_mode(numbered):
    table = Table().train()
    evaluate_network(table, numbered)
    assert table.training


def test_another_number_of_classes_is_refused(numbered):
    numbered.classes = ("a", "b", "c")
    with pytest.raises(CheckpointError, match=r"got a network of 7 classes for a dataset of 3: fine-tune it"):
        evaluate_network(Table(), numbered)


# Checkpoints.


@pytest.fixture
def checkpoint(tmp_path):
    """A file as a training run leaves it: digits, 32 px, with averaged weights."""
    torch.manual_seed(0)
    states = {kind: create_model("atmnet_nano", num_classes=10).state_dict() for kind in ("model", "model_ema")}
    path = tmp_path / "best.safetensors"
    write_checkpoint(
        path, "atmnet_nano", {"num_classes": 10}, states, {"dataset": "digits", "image_size": 32, "crop_pct": 1.0}
    )
    return path


def test_a_checkpoint_knows_its_dataset_and_size(checkpoint):
    result = evaluate(checkpoint, device="cpu", workers=0, limit=50)
    assert result.row | {"top1": 0, "top5": 0, "loss": 0} == {
        "checkpoint": str(checkpoint), "model": "atmnet_nano", "weights": "ema", "dataset": "digits", "split": "val",
        "images": 50, "size": 32, "crop_pct": 1.0, "offsets": "learned", "top1": 0, "top5": 0, "loss": 0,
    }  # fmt: skip
    assert result.classes == tuple("0123456789")
    own = evaluate(checkpoint, weights="model", device="cpu", workers=0, limit=50)
    assert own.row["loss"] != result.row["loss"]
    assert own.row["weights"] == "model"


@pytest.mark.parametrize(
    "name", ["hfds/someone/photographs", "torch/cifar10", "wds/http://localhost/a.tar", "elsewhere"]
)
def test_a_checkpoint_cannot_ask_for_a_dataset_that_may_be_fetched(checkpoint, name, monkeypatch):
    write_checkpoint(
        *(checkpoint, "atmnet_nano", {"num_classes": 10}),
        *({"model": create_model("atmnet_nano", num_classes=10).state_dict()}, {"dataset": name}),
    )
    monkeypatch.setattr(module, "open_labeled", lambda *args, **options: pytest.fail(f"opened {args}"))
    with pytest.raises(DatasetError, match="may be fetched from the network: name that dataset"):
        evaluate(checkpoint, device="cpu")


def test_options_win_over_what_the_checkpoint_says(checkpoint):
    row = evaluate(
        checkpoint, dataset="shapes", size=64, crop_pct=0.9, split="train", device="cpu", workers=0, limit=4
    ).row
    assert (row["dataset"], row["size"], row["crop_pct"], row["split"], row["images"]) == (
        "shapes",
        64,
        0.9,
        "train",
        4,
    )


def test_a_released_checkpoint_needs_the_name_of_a_dataset_and_has_the_released_transform(monkeypatch):
    with pytest.raises(DatasetError, match=r"does not say what it was trained on: name the dataset"):
        evaluate("atmnet_nano", device="cpu")
    asked = {}

    def stop(name, split, size, **options):
        asked.update(options, name=name, size=size)
        raise DatasetError("enough")

    monkeypatch.setattr(module, "open_labeled", stop)
    with pytest.raises(DatasetError, match="enough"):
        evaluate("atmnet_nano", dataset="imagenet", device="cpu")
    assert (asked["size"], asked["crop_pct"]) == (224, 0.875)


def test_the_demonstration_model_recognises_shapes_and_needs_its_offsets():
    results = {
        by: evaluate("atmnet_nano.shapes", offsets=by, device="cpu", workers=0, limit=200).row
        for by in ("learned", "zero", "shuffle")
    }
    assert {row["dataset"] for row in results.values()} == {"shapes"}
    assert results["learned"]["top1"] > 50  # chance is 10
    assert results["learned"]["top1"] > results["shuffle"]["top1"] + 10
    assert results["learned"]["top1"] > results["zero"]["top1"] + 10


def test_a_released_file_is_evaluated_on_an_imagenet_tree(tmp_path):
    for split in ("train", "val"):
        for k in range(1000):
            folder = tmp_path / "imagenet" / split / f"n{k:08}"
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 32), (k % 256, k // 4, 0)).save(folder / "0.JPEG")
    network = create_model("atmnet_nano")
    released = {name: tensor + 0 for name, tensor in network.state_dict().items()}
    torch.save(
        {"model": released, "model_ema": released, "epoch": 299, "args": argparse.Namespace()}, tmp_path / "a.pth"
    )
    row = evaluate(
        tmp_path / "a.pth", dataset="imagenet", data_dir=tmp_path, size=32, device="cpu", workers=0, limit=12
    ).row
    images = open_labeled("imagenet", "val", 32, data_dir=tmp_path)
    with torch.no_grad():
        ranks = [
            (network.eval()(images[i]["image"][None])[0].argsort(descending=True) == i).nonzero().item()
            for i in range(12)
        ]
    assert [images[i]["label"] for i in range(12)] == list(range(12))
    assert row["top1"] == pytest.approx(100 * np.mean([rank == 0 for rank in ranks]))
    assert row["top5"] == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]))
    assert (row["weights"], row["images"], row["crop_pct"]) == ("ema", 12, 0.875)


SYNSETS = ImageNetInfo().label_names()  # timm's copy of the order in which released classifiers number classes


@pytest.fixture
def answering(tmp_path):
    """Makes a file of a network that always gives output k the score -k, its classes named or not."""

    def make(classes=None, num_classes=1000):
        network = create_model("atmnet_nano", num_classes=num_classes)
        with torch.no_grad():
            network.head.fc.weight.zero_()
            network.head.fc.bias.copy_(-torch.arange(float(num_classes)))
        config, about = {"num_classes": num_classes}, {"classes": classes} if classes else {}
        path = tmp_path / "answering.safetensors"
        write_checkpoint(path, "atmnet_nano", config, {"model": network.state_dict()}, about)
        return path

    return make


def class_folders(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / name / "a.png")


def on_folders(checkpoint, data_dir, **options):
    return evaluate(
        checkpoint, dataset="folder", data_dir=data_dir, size=32, device="cpu", workers=0, confusion=True, **options
    )


def test_the_order_of_imagenets_classes_is_that_of_their_synsets():
    assert (len(SYNSETS), SYNSETS) == (1000, sorted({*SYNSETS}))
    known = {0: "n01440764", 207: "n02099601", 281: "n02123045", 817: "n04285008", 999: "n15075141"}
    assert {
        label: SYNSETS[label] for label in known
    } == known  # tench, golden retriever, tabby, sports car, toilet tissue


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("tree", ["splits", "val", ""])
def test_a_part_of_imagenets_classes_is_evaluated_by_its_own_outputs(answering, tmp_path, notes_class, is_named, tree):
    chosen = [17, 500, 501, 999]
    learned = SYNSETS[::-1] if is_named else None  # a run may have numbered its classes otherwise
    order = learned or SYNSETS
    folder = tmp_path / "data" / ("val" if tree else "")
    class_folders(folder, [SYNSETS[k] for k in chosen])
    if tree == "splits":
        class_folders(tmp_path / "data" / "train", [SYNSETS[3]])  # which evaluation does not read
    notes = notes_class()
    result = on_folders(answering(learned), tmp_path / "data", events=notes)
    outputs = [order.index(SYNSETS[k]) for k in chosen]
    first = outputs.index(min(outputs))  # it has the largest score among those of the four classes
    assert result.confusion.tolist() == [[int(k == first) for k in range(4)]] * 4
    assert result.metrics["top1"] == 25
    scores = -np.array(outputs, np.float64)
    losses = np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores
    assert result.metrics["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert result.classes == tuple(SYNSETS[k] for k in chosen)
    assert "4 of 1000 classes are evaluated: outputs for the others are left out" in notes.messages
    assert result.paper == {}


@pytest.mark.parametrize("others", [["tench"], ["n00000001"], ["n01440764 tench", "N01440764"]])
def test_classes_of_which_only_some_are_imagenets_are_refused(answering, tmp_path, others):
    class_folders(tmp_path / "data" / "val", [*SYNSETS[:3], *others])
    says = (
        f"{len(others)} of {3 + len(others)} classes are none of ImageNet-1K's .*name each class folder by its synset"
    )
    with pytest.raises(DatasetError, match=says):
        on_folders(answering(), tmp_path / "data")


def test_only_a_network_of_imagenets_classes_is_evaluated_on_a_part_of_them(answering, tmp_path):
    class_folders(tmp_path / "data" / "val", SYNSETS[:3])
    with pytest.raises(CheckpointError, match="got a network of 10 classes for a dataset of 3"):
        on_folders(answering(num_classes=10), tmp_path / "data")
    with pytest.raises(CheckpointError, match=r"got a network of the classes 0, 1, .* for a dataset of n0"):
        on_folders(answering([str(k) for k in range(1000)]), tmp_path / "data")
    class_folders(tmp_path / "other" / "val", ["tench", "goldfish"])
    with pytest.raises(CheckpointError, match="got a network of 1000 classes for a dataset of 2"):
        on_folders(answering(), tmp_path / "other")


@pytest.mark.parametrize(
    ("model", "options", "paper"),
    [
        ("atmnet_xtiny", {}, {"Table 1 of the paper": {"top1": "79.7"}}),
        ("atmnet_xtiny", {"limit": 4}, {"Table 1 of the paper": {"top1": "79.7"}}),
        ("atmnet_xtiny", {"split": "train"}, {}),
        ("atmnet_xtiny", {"offsets": "zero"}, {}),
        ("atmnet_xtiny", {"crop_pct": 1.0}, {}),
        ("atmnet_xtiny", {"size": 256}, {}),
        ("atmnet_xtiny", {"dataset": "folder"}, {}),
        ("semantic_fpn(atmnet_xtiny)", {"dataset": "ade20k"}, {"Table 2 of the paper": {"miou": "43.0"}}),
        ("semantic_fpn(atmnet_xtiny)", {"dataset": "ade20k", "multi_scale": True}, {}),
        ("atmnet_nano", {}, {}),
    ],
)
def test_the_papers_value_is_told_where_everything_fits(monkeypatch, model, options, paper):
    classes = tuple(map(str, range(1000 if "(" not in model else 150)))
    monkeypatch.setattr(module, "open_images", lambda *args: argparse.Namespace(classes=classes, notes=[]))
    monkeypatch.setattr(module, "evaluate_network", lambda *args, **options: Evaluation({"top1": 50.0}, 4))
    result = evaluate(model, **{"dataset": "imagenet", "device": "cpu", **options})
    assert result.paper == paper


def test_two_processes_count_every_image_once(checkpoint, tmp_path):
    command = ["eval", str(checkpoint), "--json", "--limit", "51", "--batch-size", "10", "--device", "cpu", "-j", "0"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    launcher = [*launcher, "--rdzv-endpoint", "localhost:0", "-m", "atmviz_cli", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    two = subprocess.run(launcher, env=environment, capture_output=True, text=True, timeout=250)
    assert two.returncode == 0, two.stderr
    one = evaluate(checkpoint, device="cpu", workers=0, limit=51).row
    (shared,) = json.loads(two.stdout)
    assert (shared["top1"], shared["top5"], shared["images"]) == (one["top1"], one["top5"], 51)
    assert shared["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_shapes_and_digits_are_evaluated_from_their_own_readers():
    for name in ("shapes", "digits"):
        item = open_labeled(name, "val", 32)[0]
        assert item["image"].shape == (3, 32, 32)


@pytest.mark.parametrize("named", [None, "as text", "by value"])
def test_labels_follow_the_checkpoint_or_torchvisions_order(tmp_path, named, notes_class):
    """Of folders 0 to 11, whose order as text is 0 1 10 11 2: a head that answers by grey, in the order it learned."""
    by_value = [str(label) for label in range(12)]
    learned = by_value if named == "by value" else sorted(by_value)
    for label in by_value:
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.new("L", (32, 32), 20 * int(label)).save(tmp_path / "val" / label / "a.png")
    network = create_model("atmnet_nano", num_classes=12).eval()
    features = []
    network.head.fc.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    images = open_labeled("folder", "val", 32, data_dir=tmp_path)
    with torch.inference_mode():
        network(torch.stack([images[k]["image"] for k in range(12)]))
    known = torch.cat([features[0], torch.ones(12, 1)], 1).double()
    wanted = torch.eye(12, dtype=torch.double)[[learned.index(name.split("/")[0]) for name in images.source.names]]
    weights = torch.linalg.lstsq(known, wanted, driver="gelsd").solution.float()
    with torch.no_grad():
        network.head.fc.weight.copy_(weights[:-1].T)
        network.head.fc.bias.copy_(weights[-1])
    about = {"classes": learned} if named else {}
    write_checkpoint(
        tmp_path / "a.safetensors", "atmnet_nano", {"num_classes": 12}, {"model": network.state_dict()}, about
    )
    notes = notes_class()
    result = evaluate(
        tmp_path / "a.safetensors",
        dataset="folder",
        data_dir=tmp_path,
        size=32,
        device="cpu",
        workers=0,
        events=notes,
    )
    assert result.row["top1"] == 100
    assert result.classes == tuple(learned)
    order = "classes are numbered as text, as torchvision does: 0, 1, 10, 11, 2 and 7 more"
    assert notes.messages.count(order) == (named != "by value")


def test_a_dataset_of_other_classes_is_refused():
    with pytest.raises(CheckpointError, match=r"got a network of the classes disc, .* for a dataset of 0, 1, 2, 3, 4"):
        evaluate("atmnet_nano.shapes", dataset="digits", device="cpu", limit=4, workers=0)


def test_settings_are_checked_and_may_be_given_by_name_or_as_a_whole(capsys):
    settings = EvaluationSettings(limit=4, workers=0, device="cpu", batch_size=2)
    result = atmviz.evaluate("atmnet_nano.shapes", settings, limit=3)
    assert (result.setup["images"], result.setup["dataset"]) == (3, "shapes")
    assert result.row == {**result.setup, **result.metrics}
    assert result.title == "atmnet_nano, shapes val, 3 images"
    assert capsys.readouterr() == ("", "")
    with pytest.raises(AtmvizError, match="got limit: 0, expected 1 or more"):
        atmviz.evaluate("atmnet_nano.shapes", limit=0)


@pytest.mark.parametrize("checkpoint", [nn.Identity(), None, 3], ids=["network", "None", "number"])
def test_what_is_no_checkpoint_is_refused(checkpoint):
    with pytest.raises(SettingsError, match="as a checkpoint, expected a file or a name"):
        evaluate(checkpoint)


def test_the_folder_of_a_run_stands_for_its_best_weights(checkpoint):
    by_folder, by_file = (
        evaluate(path, device="cpu", workers=0, limit=8).row for path in (checkpoint.parent, checkpoint)
    )
    assert by_folder == by_file
    assert by_folder["checkpoint"] == str(checkpoint)


def test_an_unknown_dataset_is_named_before_anything_is_loaded(tmp_path):
    with pytest.raises(SettingsError, match=r"no dataset 'ade20': expected .* ade20k, coco, .*did you mean ade20k\?"):
        evaluate(tmp_path / "nowhere.pth", dataset="ade20", device="cpu")


def test_an_empty_name_is_no_dataset(checkpoint):
    with pytest.raises(SettingsError, match="got dataset: '', expected text"):
        evaluate(checkpoint, dataset="", device="cpu")
