"""Folders for the Hub: what they say, what they leave out, and that atmviz and timm load what was pushed."""

import json
from dataclasses import asdict

import pytest
import timm
import torch
import yaml
from hub_server import COMMIT
from safetensors import safe_open

import atmviz
from atmviz.checkpoints import write_checkpoint
from atmviz.errors import CheckpointError, SettingsError
from atmviz.models import create_model
from atmviz.publishing import publish
from atmviz.training.recipe import Recipe


@pytest.fixture
def run_folder(tmp_path, nano):
    """A run's folder, of a hostile dataset, whose recipe holds paths."""
    recipe = {**asdict(Recipe()), "data_dir": "/home/someone/secret", "finetune": "/home/someone/secret/x.pth"}
    about = {"dataset": "a`b|c\n# d", "image_size": 64, "crop_pct": 0.9, "classes": list("abcde"), "recipe": recipe}
    about |= {"epoch": 3, "val_top1": 81.25, "val_loss": float("nan")}
    folder = tmp_path / "run"
    folder.mkdir()
    write_checkpoint(
        folder / "best.safetensors", "atmnet_nano", {"num_classes": 5}, {"model": nano.state_dict()}, about
    )
    return folder


def test_a_run_becomes_weights_configuration_and_a_card_without_paths(run_folder, tmp_path, nano):
    done = publish(run_folder, tmp_path / "out", license="mit")
    assert sorted(path.name for path in done.folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert done.url is None
    network = atmviz.load_model(done.folder / "model.safetensors", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), nano.parameters(), strict=True))
    assert network.origin.sha256 == done.sha256
    card = (done.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("mit", "timm", "image-classification")
    assert "| `top1` | 81.25 |" in card
    assert "loss` |" not in card  # NaN is no result
    assert "Fine-tuned from `x.pth` on `a'b¦c\\n# d`" in card  # what a file says is code, not markup
    assert "5 classes: `a`, `b`, `c`, `d`, `e`." in card
    assert done.sha256 in card
    assert "@inproceedings{wei2023active" in card
    assert "finetune: x.pth" in card
    assert b"secret" not in b"".join(path.read_bytes() for path in done.files)


@pytest.mark.parametrize("source", [None, 3, b"x", []])
def test_arguments_of_other_types_are_refused_in_one_line(source, tmp_path):
    with pytest.raises(SettingsError, match="as a source, expected the folder of a training run, or a checkpoint"):
        publish(source, tmp_path / "out")
    for name, arguments in {"out": {"out": source}, "repository": {"push": source or 0}}.items():
        with pytest.raises(SettingsError, match=name):
            publish("atmnet_nano.shapes", **{"out": tmp_path / "out", **arguments})
    assert not (tmp_path / "out").exists()


def test_what_was_fetched_is_published_with_its_commit(hub, tmp_path):
    done = publish("hf://user/one", tmp_path / "out")
    with safe_open(done.files[0], framework="pt") as file:
        assert file.metadata()["source"] == f"hf://user/one@{COMMIT}/model.safetensors"


def test_no_folder_of_another_system_stands_in_the_card(nano, tmp_path):
    about = {"recipe": {"finetune": r"C:\Users\someone\x.pth"}}
    write_checkpoint(tmp_path / "a.safetensors", "atmnet_nano", {"num_classes": 5}, {"model": nano.state_dict()}, about)
    done = publish(tmp_path / "a.safetensors", tmp_path / "out")
    assert b"someone" not in b"".join(path.read_bytes() for path in done.files)


def test_a_link_to_nowhere_is_not_written_through(run_folder, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="exists and is not empty"):
        publish(run_folder, tmp_path / "out")


def test_timm_and_atmviz_load_what_was_pushed(run_folder, tmp_path, hub, monkeypatch):
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(CheckpointError, match="set HF_TOKEN to a token that may write there; the files are in"):
        publish(run_folder, tmp_path / "refused", push="user/new")
    monkeypatch.setenv("HF_TOKEN", "secret")
    done = publish(run_folder, tmp_path / "out", push="user/new")
    assert done.url == f"{hub.url}/user/new"
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.repos["user/new"])
    assert b'load_model("hf://user/new")' in hub.repos["user/new"]["README.md"]
    first = atmviz.load_model("hf://user/new", device="cpu")
    second = timm.create_model("hf-hub:user/new", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(first(image), second(image))
    assert tuple(second.pretrained_cfg["input_size"]) == (3, 64, 64)
    assert (second.pretrained_cfg["crop_pct"], second.pretrained_cfg["label_names"]) == (0.9, list("abcde"))


def test_nothing_is_sent_unless_a_repository_is_named(run_folder, tmp_path, hub):
    publish(run_folder, tmp_path / "out")
    assert hub.asked == []
    with pytest.raises(SettingsError, match="expected user/repo"):
        publish(run_folder, tmp_path / "other", push="new")
    assert not (tmp_path / "other").exists()


def test_settings_of_a_network_are_those_that_timm_builds_it_with(tmp_path, hub):
    state = create_model("atmnet_nano", num_classes=3, peg=False, fusion="paper").state_dict()
    config = {"num_classes": 3, "peg": False, "fusion": "paper"}
    write_checkpoint(tmp_path / "x.safetensors", "atmnet_nano", config, {"model": state}, {})
    done = publish(tmp_path / "x.safetensors", tmp_path / "out")
    hub.repos["user/new"] = {path.name: path.read_bytes() for path in done.files}
    network = timm.create_model("hf-hub:user/new", pretrained=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    card = (done.folder / "README.md").read_text()
    assert "does not say what the network was trained on" in card
    assert "The file holds no results." in card


def test_what_is_no_classifier_has_the_configuration_of_atmviz(tmp_path):
    network = create_model("atmnet_nano", num_classes=0, global_pool="", features_only=True).model
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "x.pth")
    done = publish(tmp_path / "x.pth", tmp_path / "out")
    config = json.loads((done.folder / "config.json").read_text())
    assert (config["library_name"], config["architecture"]) == ("atmviz", "atmnet_nano")
    assert "create_model" not in (done.folder / "README.md").read_text()
    atmviz.load_model(done.folder / "model.safetensors", device="cpu", features_only=True)


def test_claims_of_a_recording_by_these_weights_stand_in_the_card(labeled_scenes, run_folder, tmp_path):
    done = publish("atmnet_nano.shapes", tmp_path / "out", recording=labeled_scenes)
    card = (done.folder / "README.md").read_text()
    (row,) = [line for line in card.splitlines() if line.startswith("| mirror gap (pp) | `2_1` | horizontal |")]
    table = atmviz.claims_table(labeled_scenes).query("measure == 'mirror_gap' and layer == '2_1'").iloc[0]
    assert f"| {table.estimate:.2f} |" in row
    assert f"[{table.effect_low:.2f}, {table.effect_high:.2f}]" in row
    assert "on 64 images of `shapes`, 128×128 px" in card
    with pytest.raises(SettingsError, match="was recorded with other weights"):
        publish(run_folder, tmp_path / "other", recording=labeled_scenes)


def test_a_folder_that_holds_something_is_left_alone(run_folder, tmp_path):
    with pytest.raises(SettingsError, match="exists and is not empty"):
        publish(run_folder, run_folder)
    assert [path.name for path in run_folder.iterdir()] == ["best.safetensors"]
