"""The training loop: what is logged and saved, what stops it. Killed runs: test_resume.py."""

import csv
import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import atmviz
from atmviz.checkpoints import load_model, read_checkpoint
from atmviz.errors import RecipeError, SettingsError, TrainingError
from atmviz.events import QUIET, Events
from atmviz.training import build, loop


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def train(recipe, out, events=QUIET):
    return loop.train(recipe, out, device="cpu", events=events)


# A run.


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small, notes_class):
    """A short run on digits with averaged weights, its notes and its folder."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    notes = notes_class()
    recipe = small(train_images=320, val_images=None, epochs=3, lr=2e-3, ema_decay=0.8, batch_size=32)
    return train(recipe, out, notes), notes, out, recipe


def test_a_short_run_learns_far_above_chance(finished):
    result, notes, _, _ = finished
    assert result.stopped is None
    assert notes.rows[-1]["train_loss"] < 0.6 * notes.rows[0]["train_loss"]
    assert result.best > 50  # chance is 10


def test_a_run_reports_every_update(finished):
    _, notes, _, _ = finished
    assert [(now.epoch, now.update) for now in notes.updates] == [(e, u) for e in (1, 2, 3) for u in range(1, 11)]
    assert all(now.updates == 10 and now.epochs == 3 and now.rate > 0 for now in notes.updates)
    assert notes.updates[-1].means["loss"] == pytest.approx(notes.rows[-1]["train_loss"])


def test_a_run_leaves_its_logs(finished):
    result, notes, out, _ = finished
    rows = read_csv(out / "log.csv")
    assert [{k: float(v) for k, v in row.items()} for row in rows] == notes.rows == result.history
    assert [row["updates"] for row in notes.rows] == [10, 20, 30]
    health = read_csv(out / "offsets.csv")
    assert [(row["epoch"], row["layer"]) for row in health[::6]] == [(str(e), "1_1") for e in range(4)]
    assert {row["layer"] for row in health} == {"1_1", "2_1", "3_1", "3_7", "3_13", "4_1"}
    assert all(float(row["mean_abs"]) > 0 for row in health)


def test_tensorboard_reads_the_same_numbers(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, notes, out, _ = finished
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    scalars = [(event.step, event.value) for event in events.Scalars("val/top1")]
    assert scalars == [(row["updates"], pytest.approx(row["val_top1"], rel=1e-6)) for row in notes.rows]
    assert len(events.Scalars("offsets_mean_abs/3_13")) == 3


def test_the_weights_load_with_averaged_ones_first_and_say_what_they_are(finished):
    result, _, out, recipe = finished
    ema, own = (load_model(out / "best.safetensors", weights=w, device="cpu") for w in (None, "model"))
    assert (ema.origin.weights, own.origin.weights) == ("ema", "model")
    assert not torch.equal(ema.head.fc.weight, own.head.fc.weight)
    about = read_checkpoint(out / "best.safetensors").origin.training_info
    assert about["val_top1"] == result.best
    assert (about["dataset"], about["image_size"], about["classes"][3]) == ("digits", 32, "3")
    assert about["recipe"]["seed"] == recipe.seed
    with safe_open(out / "best.safetensors", "pt") as file:
        assert json.loads(file.metadata()["about"])["epoch"] == about["epoch"]


def test_a_finished_run_trains_no_further(finished, notes_class):
    result, _, out, recipe = finished
    before = (out / "last.safetensors").read_bytes()
    notes = notes_class()
    again = train(recipe, out, notes)
    assert again.history == result.history
    assert notes.updates == []
    assert "is finished" in notes.messages[0]
    assert (out / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize("is_constant", [True, False])
def test_a_finished_run_continues_with_more_epochs(tmp_path, small, notes_class, is_constant):
    """At a constant learning rate it ends as one run of all epochs does, to the bit."""
    changes = {"min_lr": 1e-3, "train_images": 32, "ema_decay": 0.9, "hflip": 0.5}  # lr is 1e-3
    recipe = small(**changes, epochs=1) if is_constant else small(train_images=32, epochs=1, warmup_epochs=0.5)
    longer = recipe.override({"epochs": 3, "warmup_epochs": 0 if is_constant else 1.0})
    train(recipe, tmp_path / "run")
    notes = notes_class()
    result = train(longer, tmp_path / "run", notes)
    whole = train(longer, tmp_path / "whole")
    said = "finished 1 epoch and is trained further; the next epochs have the learning rates of a run of 3 epochs"
    assert said in notes.messages[0]
    assert "resuming in" in notes.messages[1]
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert [row["lr"] for row in result.history][1:] == [row["lr"] for row in whole.history][1:]
    states = [read_checkpoint(tmp_path / name / "last.safetensors").state for name in ("run", "whole")]
    assert is_constant == all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    assert is_constant == (result.history == whole.history)
    assert (tmp_path / "run/recipe.yaml").read_text() == longer.to_yaml()
    again = notes_class()
    train(longer, tmp_path / "run", again)
    assert "is finished" in again.messages[0]
    with pytest.raises(RecipeError, match=r"another recipe .*epochs: 1 here, 3 there"):
        train(recipe, tmp_path / "run")


def test_a_run_that_was_stopped_takes_no_other_number_of_epochs(tmp_path, small):
    class Stop(Events):
        def epoch(self, row, health):
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = small(train_images=32, epochs=2)
    assert train(recipe, tmp_path, Stop()).stopped == signal.SIGTERM
    with pytest.raises(RecipeError, match=r"another recipe \(epochs: 3 here, 2 there\)"):
        train(recipe.override({"epochs": 3}), tmp_path)


def test_a_signal_stops_validation_after_its_batch_and_the_run_resumes_there(tmp_path, small, monkeypatch):
    recipe = small(train_images=32, epochs=1, val_images=24, batch_size=8)
    whole = train(recipe, tmp_path / "whole")
    seen, evaluate_network = [], loop.evaluate_network

    def evaluate(network, dataset, settings, events):
        class Signal(Events):
            def images(self, done, total):
                seen.append(done)
                os.kill(os.getpid(), signal.SIGINT)
                events.images(done, total)

        return evaluate_network(network, dataset, settings, events=Signal())

    monkeypatch.setattr(loop, "evaluate_network", evaluate)
    stopped = train(recipe, tmp_path / "run")
    assert (stopped.stopped, stopped.history, seen) == (signal.SIGINT, [], [8])
    monkeypatch.setattr(loop, "evaluate_network", evaluate_network)
    assert train(recipe, tmp_path / "run").history == whole.history


def test_a_folder_with_another_recipe_lists_the_differences(finished):
    _, _, out, recipe = finished
    with pytest.raises(RecipeError, match=r"another recipe \(epochs: 9 here, 3 there; lr: 0.5 here, 0.002 there\)"):
        train(recipe.override({"epochs": 9, "lr": 0.5, "workers": 1}), out)


@pytest.mark.parametrize("data", [{}, {"dataset": "shapes", "pixel_weight": 1.0}])
def test_the_seed_changes_the_run_and_one_seed_repeats_it(tmp_path, small, data):
    loss = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(17)  # what was drawn before does not matter
        recipe = small(epochs=1, train_images=16, seed=seed, **data)
        loss[name] = train(recipe, tmp_path / name).history[0]["train_loss"]
    assert loss["a"] == loss["b"] != loss["c"]


def test_accumulation_gives_the_update_of_the_whole_batch(tmp_path, small):
    weights = {}
    for accumulate in (1, 4):
        out = tmp_path / str(accumulate)
        train(small(epochs=1, train_images=32, accumulate=accumulate), out)
        weights[accumulate] = read_checkpoint(out / "last.safetensors").state
    for name, tensor in weights[1].items():
        torch.testing.assert_close(tensor, weights[4][name], atol=2e-4, rtol=1e-3)


def test_shapes_train_with_pixel_labels_in_bf16_and_a_batch_a_time(tmp_path, small):
    recipe = small(dataset="shapes", image_size=64, pixel_weight=1.0, precision="bf16", epochs=1, train_images=32)
    result = train(recipe, tmp_path / "run")
    assert 1 < result.history[0]["train_loss"] < 10
    state = read_checkpoint(tmp_path / "run/last.safetensors").state
    assert not [name for name in state if "pixel" in name]
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    "changes",
    [
        {"offset_mode": "joint"},
        {"num_samples": 3, "channels_per_offset": 1, "fusion": "paper"},
        {"offset_mode": "zero", "peg": False},
    ],
)
def test_ablations_train_and_their_weights_load_again(tmp_path, small, changes):
    train(small(epochs=1, train_images=16, **changes), tmp_path / "run")
    network = load_model(tmp_path / "run/last.safetensors", device="cpu")
    layer = network.atm_layers()[0]
    mixer = network.get_submodule(layer.module)
    built = {"offset_mode": mixer.offset_mode, "num_samples": mixer.num_samples, "peg": False}
    if layer.num_offsets:
        built |= {"fusion": mixer.fusion_mode, "channels_per_offset": layer.channels_per_offset}
    assert {name: built[name] for name in changes} == changes


def test_the_weights_are_as_readable_as_other_files(finished):
    _, _, out, _ = finished
    assert (out / "best.safetensors").stat().st_mode == (out / "log.csv").stat().st_mode


# What goes wrong.


@pytest.mark.filterwarnings("ignore:.*")
def test_a_loss_that_is_no_number_stops_and_names_the_last_good_checkpoint(tmp_path, small, notes_class):
    with pytest.raises(TrainingError, match=r"NaN or infinite at update .* no checkpoint was saved before"):
        train(small(lr=1000, optimizer="sgd"), tmp_path / "early")

    class Poison(notes_class):
        def epoch(self, row, health):
            with torch.no_grad():
                next(iter(self.task.parameters())).fill_(float("nan"))

    poison = Poison()
    original = build.ClassificationTask.__init__

    def keep(self, *args):
        original(self, *args)
        poison.task = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build.ClassificationTask, "__init__", keep)
        with pytest.raises(TrainingError, match=r"NaN or infinite .* the last good checkpoint is .*last\.safetensors"):
            train(small(), tmp_path / "late", poison)


def test_a_batch_larger_than_the_data_is_refused(tmp_path, small):
    with pytest.raises(RecipeError, match="got batch_size 64 for 48 images, expected 48 or fewer"):
        train(small(batch_size=64), tmp_path / "run")


@pytest.mark.parametrize(
    ("device", "precision", "error", "message"),
    [
        ("cpu", "fp16", TrainingError, "got precision fp16 on a CPU, expected fp32 or bf16"),
        ("gpu", "fp32", SettingsError, "got device 'gpu', expected auto, cpu or cuda"),
    ],
)
def test_what_the_device_cannot_do_is_refused(tmp_path, small, device, precision, error, message):
    with pytest.raises(error, match=message):
        loop.train(small(precision=precision), tmp_path / "run", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_a_missing_gpu_is_refused(tmp_path, small):
    with pytest.raises(TrainingError, match="no CUDA device here"):
        loop.train(small(), tmp_path / "run", device="cuda")


def test_a_full_disk_loses_nothing_saved(tmp_path, small, notes_class):
    out = tmp_path / "run"
    recipe = small(train_images=16)

    class FillAfterFirst(notes_class):
        def epoch(self, row, health):
            if row["epoch"] == 1:  # files may not grow beyond a megabyte from here on
                resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(TrainingError, match=r"cannot save in .* earlier checkpoints are intact; free disk space"):
            train(recipe, out, FillAfterFirst())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert read_checkpoint(out / "last.safetensors").origin.training_info["epoch"] == 1
    assert sorted(os.listdir(out)) == sorted(
        ["best.safetensors", "last.safetensors", "log.csv", "offsets.csv", "recipe.yaml", "state.pt", "tensorboard"]
    )
    result = train(recipe, out)  # with room again
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert train(recipe, tmp_path / "undisturbed").history == result.history


def test_a_validation_loss_that_is_no_number_replaces_no_checkpoint(tmp_path, small, monkeypatch):
    outcomes = [
        loop.evaluate_network,
        lambda *args, **kwargs: replace(
            evaluate(*args, **kwargs), metrics={"top1": 100.0, "top5": 100.0, "loss": float("nan")}
        ),
    ]
    evaluate = loop.evaluate_network
    monkeypatch.setattr(loop, "evaluate_network", lambda *args, **kwargs: outcomes.pop(0)(*args, **kwargs))
    with pytest.raises(
        TrainingError, match=r"the validation loss became NaN .* of epoch 2; the last good checkpoint is"
    ):
        train(small(train_images=16), tmp_path)
    for name in ("last", "best"):
        assert read_checkpoint(tmp_path / f"{name}.safetensors").origin.training_info["epoch"] == 1


@pytest.mark.parametrize("where", ["network", "ema"])
def test_a_weight_that_is_no_number_replaces_no_checkpoint(tmp_path, small, monkeypatch, where):
    original = loop._Loop._update

    def update(run, batches):
        original(run, batches)
        parts = run.parts
        if run.state.epoch == 1 and run.state.updates_done == parts.sampler.updates - 1:  # no loss follows
            module = parts.network if where == "network" else parts.ema.module
            next(iter(module.parameters())).data.fill_(float("inf"))

    monkeypatch.setattr(loop._Loop, "_update", update)
    with pytest.raises(TrainingError, match="a weight became NaN or infinite at update 1 of epoch 2"):
        train(small(train_images=16, ema_decay=0.5), tmp_path)
    assert read_checkpoint(tmp_path / "last.safetensors").origin.training_info["epoch"] == 1


def test_changed_data_are_noticed(tmp_path, small, monkeypatch):
    recipe = small(train_images=16, epochs=1)
    train(recipe, tmp_path)
    original = build.open_data

    def renamed(recipe):
        both = original(recipe)
        for one in both:
            one.classes = ("zero", *one.classes[1:])
        return both

    monkeypatch.setattr(build, "open_data", renamed)
    with pytest.raises(TrainingError, match=r"the data are not those .* was trained on"):
        train(recipe, tmp_path)


def test_a_resumed_run_keeps_the_order_of_classes_that_it_saved(tmp_path, small, notes_class):
    """Class folders 0 to 11 were numbered by value before they were numbered as text."""
    classes = [str(label) for label in range(12)]
    for split in ("train", "val"):
        for label in classes:
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("L", (32, 32), 20 * int(label)).save(tmp_path / split / label / "a.png")
    recipe = small(dataset="folder", data_dir=str(tmp_path), train_images=4, val_images=None, batch_size=4, epochs=1)
    notes = notes_class()
    train(recipe, tmp_path / "run", notes)
    assert any("numbered as text" in text for text in notes.messages)
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert state["data"]["classes"] == sorted(classes)
    state["data"]["classes"] = classes
    torch.save(state, tmp_path / "run/state.pt")
    notes = notes_class()
    train(recipe, tmp_path / "run", notes)
    assert notes.messages == [f"{tmp_path / 'run'} is finished: nothing left to train"]


def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path, small):
    with pytest.raises(SettingsError, match=r"got optimizer 'nonsense' .* expected a timm optimizer"):
        train(small(optimizer="nonsense"), tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_variant_without_weights_is_nothing_to_finetune(tmp_path, small):
    with pytest.raises(RecipeError, match="a name without weights, expected a checkpoint file"):
        train(small(finetune="atmnet_nano"), tmp_path / "run")


@pytest.mark.gpu
def test_a_gpu_trains_in_half_precision(tmp_path, small):
    for precision in ("fp16", "bf16"):
        result = loop.train(small(precision=precision), tmp_path / precision, device="cuda")
        assert result.history[-1]["train_loss"] < 3


def test_a_name_and_settings_are_enough_to_train(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"train_images": 16, "val_images": 8, "batch_size": 16, "epochs": 1, "warmup_epochs": 0, "workers": 0}
    result = atmviz.train("digits", device="cpu", image_size=32, **settings)
    assert result.out == Path("runs/digits-atmnet_nano-0")
    assert result.best_row == result.history[0]
    assert result.best == result.history[0]["val_top1"]
    again = loop.train(small(**settings), tmp_path / "other", device="cpu", lr=0.5)
    assert read_checkpoint(again.out / "last.safetensors").origin.training_info["recipe"]["lr"] == 0.5
    with pytest.raises(RecipeError, match=r"no recipe setting 'epoch'.*did you mean epochs"):
        atmviz.train("digits", epoch=3)


@pytest.mark.parametrize("recipe", [torch.nn.Identity(), 3, ["digits"]], ids=["network", "number", "list"])
def test_what_is_no_recipe_is_refused(recipe):
    with pytest.raises(SettingsError, match="as a recipe, expected a Recipe, its name or a file"):
        atmviz.train(recipe)
