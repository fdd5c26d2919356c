"""Segmenters and detectors on the command line: trained, evaluated, drawn, and their offsets recorded."""

import json

import numpy as np
import pytest
from PIL import Image

from atmviz.recording.store import open_recording
from atmviz.training import loop
from atmviz.training.recipe_files import read_recipe

SHORT = ("--train-images", "16", "--val-images", "4", "--epochs", "1", "--warmup-epochs", "0", "--image-size", "64",
         "--dim", "16", "--device", "cpu", "--workers", "0")  # fmt: skip


@pytest.fixture
def trained(monkeypatch):
    """What `train` was called with, instead of training."""
    calls = []

    def train(recipe, out, **_):
        calls.append((recipe, str(out)))
        headline = {"classify": "val_top1", "segment": "val_miou", "detect": "val_box_ap"}[recipe.task]
        return loop.TrainResult(out, [{"epoch": 1, headline: 25.0}], headline=headline, best=25.0)

    monkeypatch.setattr(loop, "train", train)
    return calls


@pytest.mark.parametrize(
    ("arguments", "recipe", "changes", "out"),
    [
        (["--task", "segment"], "shapes_segment", {}, "runs/shapes_segment-semantic_fpn-atmnet_nano-0"),
        (["--task", "detect"], "shapes_detect", {}, "runs/shapes_detect-mask_rcnn-atmnet_nano-0"),
        (["--head", "upernet"], "shapes_segment", {"head": "upernet"},
         "runs/shapes_segment-upernet-atmnet_nano-0"),
        (["--task", "detect", "--head", "retinanet", "--neck", "atmfpn"], "shapes_detect",
         {"head": "retinanet", "neck": "atmfpn"}, "runs/shapes_detect-retinanet-atmfpn-atmnet_nano-0"),
        (["--task", "classify"], "shapes", {}, "runs/shapes-atmnet_nano-0"),
        (["--recipe", "coco_1x", "--finetune", "w.pth", "--schedule", "step", "--decay-epochs", "9,10"], "coco_1x",
         {"finetune": "w.pth", "decay_epochs": "9,10"}, "runs/coco_1x-mask_rcnn-atmnet_tiny-0"),
        (["--recipe", "ade20k_upernet", "--finetune", "w.pth"], "ade20k_upernet", {"finetune": "w.pth"},
         "runs/ade20k_upernet-atmnet_tiny-0"),
    ],
)  # fmt: skip
def test_task_and_head_pick_the_recipe_and_name_the_folder(succeed, trained, folder, arguments, recipe, changes, out):
    (folder / "w.pth").write_bytes(b"\x80\2.")
    for data in ("val2017", "train2017", "images/validation", "images/training"):
        (folder / "data" / data).mkdir(parents=True)
        (folder / "data" / data / "1.jpg").touch()
    succeed("train", *arguments)
    assert trained == [(read_recipe(recipe, changes), out)]


def test_none_takes_a_recipes_checkpoint_back(succeed, trained):
    succeed("train", "--task", "segment", "--finetune", "none")
    assert trained[0][0] == read_recipe("shapes_segment", {"finetune": None})


def test_a_task_that_is_not_the_recipes_is_refused(refuse, trained):
    refuse(2, "got --task detect and semantic_fpn(atmnet_nano), which is to segment", "train", "--task", "detect",
           "--recipe", "shapes_segment")  # fmt: skip
    refuse(2, "recipe coco_1x leaves finetune to you: set it", "train", "--recipe", "coco_1x")
    assert trained == []


@pytest.mark.parametrize(
    ("head", "metric", "printed"), [("semantic_fpn", "miou", "mIoU (%)"), ("retinanet", "box_ap", "box AP (%)")]
)
def test_a_trained_network_is_evaluated_and_drawn(succeed, folder, head, metric, printed):
    done = succeed("train", "--head", head, *SHORT, "--out", "run", "--json")
    best = json.loads(done.stdout)["best"]
    assert f"training {head}(atmnet_nano) on shapes into run" in done.stderr
    assert "epoch   1: loss" in done.stderr

    rows = json.loads(succeed("eval", "run/best.safetensors", "--limit", "4", "-j", "0", "--device", "cpu",
                              "--show", "seen", "--out", "rows.csv", "--json").stdout)  # fmt: skip
    assert rows[0][metric] == pytest.approx(best[f"val_{metric}"])
    drawn = sorted((folder / "seen").rglob("*.png"))
    assert drawn == [folder / "seen" / "shapes" / "val" / f"00000{i}.png" for i in range(4)]
    with Image.open(drawn[0]) as image:
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 500
    table = succeed("eval", "run/best.safetensors", "--limit", "4", "-j", "0", "--device", "cpu")
    assert printed in table.stdout
    assert f"{head}(atmnet_nano) on shapes val, 4 images" in table.stdout
    assert metric in (folder / "rows.csv").read_text()


def test_a_segmenter_is_evaluated_at_many_scales_with_its_confusion(succeed, refuse, folder):
    succeed("train", "--task", "segment", *SHORT, "--out", "run")
    arguments = ("eval", "run/best.safetensors", "--limit", "2", "-j", "0", "--device", "cpu")
    table = succeed(*arguments, "--multi-scale", "--confusion", "matrix.png").stdout
    assert "2 images, multi-scale" in table
    assert (folder / "matrix.png").exists()
    refuse(1, "crop_pct is not supported for segmenters", *arguments, "--crop-pct", "0.5")


@pytest.fixture
def photos(folder):
    """Two images in the published layouts of ADE20K and COCO."""
    rng = np.random.default_rng(0)
    for place in ("ADEChallengeData2016/images/validation", "coco/val2017"):
        (folder / "data" / place).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (64, 96, 3), np.uint8)
            Image.fromarray(pixels).resize((640, 480)).save(folder / "data" / place / f"{number}.jpg")
    return folder / "data"


@pytest.mark.parametrize(
    ("figure", "network", "size", "layers"),
    [
        (3, "semantic_fpn(atmnet_nano)", [512, 512], ["2_1", "3_18"]),
        (6, "mask_rcnn(atmnet_nano)", [600, 800], ["2_1", "3_1", "3_18"]),
    ],
)
def test_figures_3_and_6_run_a_segmenter_and_a_detector_at_the_papers_size(
    succeed, photos, figure, network, size, layers
):
    said = json.loads(succeed("histogram", "--figure", figure, "-c", network, "--data-dir", photos, "-b", "1",
                              "-j", "0", "--device", "cpu", "--json").stdout)  # fmt: skip
    assert said["model"] == network
    assert open_recording(said["recording"]).attrs["input_size"] == size
    assert [panel["layer"] for panel in said["panels"][::2]] == layers
    assert said["panels"][0]["map_size"] == [size[0] // 8, size[1] // 8]
    assert "(" not in said["files"][0]


def test_the_offsets_of_a_neck_are_drawn_like_the_backbones(succeed, photos, folder):
    network = ("-c", "retinanet(atmnet_nano, atmfpn)", "--size", "64", "--device", "cpu")
    said = json.loads(succeed("histogram", photos, *network, "--layer", "fpn_p3,fpn_c5", "-j", "0", "--json").stdout)
    assert [(p["layer"], p["channels"]) for p in said["panels"][::2]] == [("fpn_p3", 256), ("fpn_c5", 96)]
    image = next(photos.rglob("*.jpg"))
    drawn = succeed("overlay", image, *network, "--layer", "fpn_p3,3_last").stdout.split()
    assert "fpn_p3" in drawn[0]
    assert "fpn_c4" in succeed("layers", "retinanet(atmnet_nano, atmfpn)").stdout


def test_untrained_names_that_are_none_are_refused(refuse):
    refuse(2, "cannot build nothing", "layers", "upernet(nothing)")
    refuse(2, "expected a name like", "layers", "upernet(atmnet_nano")
