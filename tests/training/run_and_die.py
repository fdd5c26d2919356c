"""Trains by the recipe on its command line and kills itself with a real signal where it is told to.

python run_and_die.py OUT RECIPE.yaml SIGNAL EPOCH UPDATE   (EPOCH 0: never; UPDATE "saving": halfway through a save)
"""

import os
import signal
import sys
from pathlib import Path

import torch

from atmviz.training import engine
from atmviz.training.recipe import read_recipe

out, recipe, name, epoch, update = sys.argv[1:]
torch.set_num_threads(1)
if name == "SIGHUP":  # which tests under nohup would have ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
now = {"epoch": 0}


class Killer(engine.Reporter):
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


engine.torch.save = half_a_save
result = engine.train(read_recipe(recipe), out, device="cpu", reporter=Killer())
if not result.stopped:  # a second call in one process, as ablations make them
    assert str(engine.train(read_recipe(recipe), out, device="cpu").history) == str(result.history)  # NaN is not NaN
print("stopped" if result.stopped else "finished")
