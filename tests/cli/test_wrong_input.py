"""What is wrong with a command is said before torch is loaded, which takes seconds."""

import json
import subprocess
import sys

import pytest

WRONG = {
    "image": ["overlay", "nowhere.jpg"],
    "glob": ["overlay", "nowhere/*.jpg"],
    "glob without a match": ["record", "photos/*.gif"],
    "empty folder": ["overlay", "empty"],
    "dataset": ["overlay", "--dataset", "ade20k"],
    "dataset of a figure": ["histogram", "--figure", "7"],
    "dataset without images": ["record", "--dataset", "coco", "--data-dir", "data"],
    "query": ["overlay", "--query", "middle"],
    "second query": ["overlay", "--query", "center", "--query", "1;2"],
    "query to record": ["record", "--query", "middle"],
    "query to record in px": ["record", "--query", "10,10"],
    "layer": ["overlay", "--layer", "3_19"],
    "layer to record": ["record", "--layer", "5_*"],
    "layer of a histogram": ["histogram", "--layer", "foo"],
    "layer of a variant": ["overlay", "-c", "upernet(atmnet_tiny)", "--layer", "3_18"],
    "layer of a recording": ["histogram", "recording", "--layer", "3_19"],
    "size": ["overlay", "--size", "big"],
    "size to record": ["record", "--size", "31"],
    "size of a histogram": ["histogram", "--size", "64x"],
    "size to benchmark": ["benchmark", "op", "--size", "1"],
    "size of layers": ["layers", "--size", "x"],
    "choice": ["overlay", "--fit", "stretch"],
    "choice of tokens": ["histogram", "--tokens", "some"],
    "number": ["record", "--limit", "x"],
    "range": ["record", "--batch-size", "0"],
    "shard": ["record", "--shard", "3/2"],
    "figure": ["histogram", "--figure", "4"],
    "format": ["overlay", "--format", "gif"],
    "checkpoint": ["overlay", "-c", "none.pth"],
    "checkpoint to record": ["record", "-c", "none.pth"],
    "checkpoint of a histogram": ["histogram", "-c", "none.pth"],
    "folder as checkpoint": ["overlay", "-c", "empty"],
    "checkpoint to evaluate": ["eval", "none.pth"],
    "dataset to evaluate on": ["eval", "--dataset", "cifar"],
    "dataset to evaluate on that is missing": ["eval", "--dataset", "imagenet", "--data-dir", "data"],
    "masks to evaluate on that are missing": ["eval", "--dataset", "ade20k"],
    "intervention": ["intervene", "--do", "clamp"],
    "layer to intervene in": ["intervene", "--layer", "3_19"],
    "checkpoint to intervene in": ["intervene", "none.pth"],
    "checkpoint to list": ["layers", "none.pth"],
    "checkpoint to convert": ["convert", "none.pth", "out.safetensors"],
    "recipe": ["train", "--recipe", "nope"],
    "recipe of an ablation": ["ablate", "--recipe", "nope"],
    "dataset to train on": ["train", "--recipe", "digits", "--dataset", "cifar"],
    "dataset to train on that is missing": ["train", "--recipe", "imagenet1k", "--model", "atmnet_tiny"],
    "weights to finetune": ["train", "--finetune", "none.pth"],
    "model to count": ["complexity", "--model", "atmnet_hug"],
    "model to time": ["benchmark", "op", "--model", "atmnet_huge"],
    "head to count": ["complexity", "--model", "mask(atmnet_tiny)"],
    "path to inspect": ["inspect", "nowhere"],
    "recordings to merge": ["merge", "nowhere", "photos", "--out", "both"],
    "dataset to check": ["data", "check", "coco", "--data-dir", "data"],
    "command": ["draw"],
    "option": ["overlay", "--colour", "red"],
}  # fmt: skip
_CODE = """
import json, sys
from typer.testing import CliRunner
from atmviz_cli.app import app
slow = {"torch", "matplotlib", "pandas"}
print(json.dumps([[(done := CliRunner().invoke(app, args)).exit_code, done.stderr, sorted(slow & {*sys.modules})]
                  for args in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def answers(folder, recording, images):
    """Exit code, message and slow modules that were loaded, after each wrong command in turn, in one process."""
    (folder / "recording").symlink_to(recording)
    (folder / "photos").symlink_to(images)
    for name in ("empty", "data/val2017"):
        (folder / name).mkdir(parents=True)
    command = [sys.executable, "-c", _CODE, json.dumps([*WRONG.values()])]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(zip(WRONG, json.loads(said), strict=True))


def test_wrong_input_is_refused_before_torch_or_matplotlib_is_loaded(answers):
    accepted = {name for name, (code, *_) in answers.items() if code not in (1, 2)}
    loaded = {name: modules for name, (*_, modules) in answers.items() if modules}
    assert (accepted, loaded) == (set(), {})
