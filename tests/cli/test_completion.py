"""What the shell completes: names of recipes, models, layers, datasets and checkpoints."""

import pytest
from atmviz_cli.app import app
from typer.testing import CliRunner

from atmviz.variants import VARIANTS

CASES = {
    "recipe": ("train --recipe coco", ["coco_1x", "coco_3x"]),
    "recipe of an ablation": ("ablate -r abl", ["ablation"]),
    "model": ("complexity --model atmnet_t", ["atmnet_tiny"]),
    "model to train": ("train --model atmnet_x", ["atmnet_xtiny"]),
    "model to time": ("benchmark op -m atmnet_", [*VARIANTS]),
    "layer": ("overlay --layer 3_1", ["3_1", *(f"3_{k}" for k in range(10, 19))]),
    "layer of a variant": ("record -c atmnet_xtiny --layer 3_", ["3_last", "3_1", "3_2", "3_3", "3_4"]),
    "second layer": ("histogram --layer 3_last,gen", ["3_last,generating"]),
    "layer of a file": ("overlay -c file.pth --layer 3_", ["3_last"]),
    "dataset": ("overlay --dataset im", ["imagenet"]),
    "dataset to train on": ("train --dataset fo", ["folder"]),
    "dataset to evaluate on": ("eval --dataset sh", ["shapes"]),
    "checkpoint": ("record --checkpoint atmnet_n", ["atmnet_nano.shapes", "atmnet_nano"]),
    "checkpoint to evaluate": ("eval atmnet_l", ["atmnet_large"]),
    "checkpoint to list": ("layers atmnet_b", ["atmnet_base"]),
    "query": ("overlay --query ce", ["center"]),
    "choice": ("overlay --fit w", ["whole"]),
    "command": ("che", ["checkpoints"]),
    "file": ("overlay -c file.p", []),
}


@pytest.mark.parametrize(("typed", "offered"), CASES.values(), ids=CASES)
def test_the_shell_is_offered_names(folder, typed, offered):
    words = f"atmviz {typed}"
    environment = {"_ATMVIZ_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    result = CliRunner().invoke(app, [], prog_name="atmviz", env=environment)
    assert (result.exit_code, result.stdout.split()) == (0, offered)
