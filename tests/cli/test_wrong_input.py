"""What is wrong with a command is said before torch is loaded, which takes seconds."""

import json
import subprocess
import sys

import pytest

from atmviz.files import find_checkpoint

WRONG = {
    "image": ["overlay", "nowhere.jpg"],
    "clip that is missing": ["overlay", "nowhere.mp4"],
    "clip to record": ["record", "damaged/clip.mp4"],
    "clip of a histogram": ["histogram", "damaged/clip.mp4"],
    "glob": ["overlay", "nowhere/*.jpg"],
    "glob without a match": ["record", "photos/*.gif"],
    "empty folder": ["overlay", "empty"],
    "dataset": ["overlay", "--dataset", "ade20k"],
    "dataset of a figure": ["histogram", "--figure", "7"],
    "dataset without images": ["record", "--dataset", "coco", "--data-dir", "data"],
    "query": ["overlay", "--query", "middle"],
    "second query": ["overlay", "--query", "center", "--query", "1;2"],
    "query outside a photograph": ["overlay", "photos/a.png", "--query", "72,10"],
    "query outside the crop of a photograph": ["overlay", "photos/a.png", "--size", "32", "--fit", "crop", "-q", "0,9"],
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
    "device": ["overlay", "--device", "cudda"],
    "device to evaluate on": ["eval", "--device", "gpu"],
    "device to time on": ["benchmark", "op", "--device", "gpu"],
    "device to train on": ["train", "--device", "gpu"],
    "device of an ablation": ["ablate", "--device", "gpu"],
    "variant": ["overlay", "-c", "atmnet_tinny"],
    "variant to evaluate": ["eval", "atmnet_tinny"],
    "variant to train": ["train", "--model", "atmnet_tinny"],
    "head to train": ["train", "--head", "retina"],
    "task": ["train", "--task", "segments"],
    "setting out of range": ["train", "--epochs", "0"],
    "dataset without files to check": ["data", "check", "shapes"],
    "offsets": ["eval", "--offsets", "zeros"],
    "recipe file": ["train", "--recipe", "nope.yaml"],
    "dataset of a reader that only streams": ["eval", "--dataset", "wds/a"],
    "text as checkpoint": ["overlay", "-c", "damaged/text.pth"],
    "photograph as checkpoint": ["layers", "damaged/photo.jpg"],
    "zip archive that is cut off": ["eval", "damaged/zip.pth"],
    "safetensors that are cut off": ["record", "-c", "damaged/half.safetensors"],
    "safetensors to convert": ["convert", "damaged/half.safetensors", "out.onnx"],
    "command": ["draw"],
    "option": ["overlay", "--colour", "red"],
}  # fmt: skip
FILES = {  # missing or damaged: exit code 1; anything else is usage
    *(
        "clip that is missing",
        "clip to record",
        "clip of a histogram",
        "image",
        "glob",
        "glob without a match",
        "empty folder",
        "dataset",
        "dataset of a figure",
    ),
    *("dataset without images", "checkpoint", "checkpoint to record", "checkpoint of a histogram"),
    *("folder as checkpoint", "checkpoint to evaluate", "dataset to evaluate on that is missing"),
    *("masks to evaluate on that are missing", "checkpoint to list", "checkpoint to convert", "recipe file"),
    *("dataset to train on that is missing", "weights to finetune", "path to inspect", "recordings to merge"),
    *(
        "checkpoint to intervene in",
        "dataset to check",
        "text as checkpoint",
        "photograph as checkpoint",
        "zip archive that is cut off",
    ),
    *("safetensors that are cut off", "safetensors to convert"),
}
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
    whole = find_checkpoint("atmnet_nano.shapes").read_bytes()
    contents = {
        "clip.mp4": b"\0\0\0\x18ftypmp42",
        "text.pth": b"weights",
        "photo.jpg": b"\xff\xd8\xff",
        "zip.pth": b"PK\3\4" + bytes(200),
    }
    (folder / "damaged").mkdir()
    for name, content in (contents | {"half.safetensors": whole[: len(whole) // 2]}).items():
        (folder / "damaged" / name).write_bytes(content)
    for name in ("empty", "data/val2017"):
        (folder / name).mkdir(parents=True)
    command = [sys.executable, "-c", _CODE, json.dumps([*WRONG.values()])]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(zip(WRONG, json.loads(said), strict=True))


def test_wrong_input_is_refused_before_torch_or_matplotlib_is_loaded(answers):
    data = {name for name, (code, *_) in answers.items() if code == 1}
    usage = {name for name, (code, *_) in answers.items() if code == 2}
    loaded = {name: modules for name, (*_, modules) in answers.items() if modules}
    assert (data, usage, loaded) == (FILES, WRONG.keys() - FILES, {})
