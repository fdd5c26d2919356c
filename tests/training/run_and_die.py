"""Trains by the recipe on its command line and kills itself with a real signal where it is told to.

python run_and_die.py OUT RECIPE.yaml SIGNAL EPOCH UPDATE   (EPOCH 0: never; UPDATE "saving": halfway through a save)
"""

import os
import signal
import sys
from pathlib import Path

import torch

from atmviz.events import Events
from atmviz.training import loop, run_folder
from atmviz.training.recipe_files import read_recipe

out, recipe, name, epoch, update = sys.argv[1:]
device = os.environ.get("TRAIN_ON", "cpu")
torch.set_num_threads(1)
if name == "SIGHUP":  # which tests under nohup would have ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
now = {"epoch": 0}


class Killer(Events):
    def update(self, progress):
        now["epoch"] = progress.epoch
        if f"{progress.epoch}/{progress.update}" == f"{epoch}/{update}":
            # As a scheduler does, also to the processes that load images.
            (os.killpg if name == "SIGTERM" else os.kill)(os.getpid(), getattr(signal, name))

    def epoch(self, row, health):
        if f"{row['epoch']}/{update}" == f"{epoch}/validated":
            os.kill(os.getpid(), getattr(signal, name))


whole_save = torch.save


def half_a_save(state, path):
    whole_save(state, path)
    if update == "saving" and now["epoch"] == int(epoch):
        os.truncate(path, Path(path).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)


run_folder.torch.save = half_a_save
result = loop.train(read_recipe(recipe), out, device=device, events=Killer())
if not result.stopped:  # a second call in one process, as ablations make them
    assert str(loop.train(read_recipe(recipe), out, device=device).history) == str(result.history)  # NaN is not NaN
print("stopped" if result.stopped else "finished")
