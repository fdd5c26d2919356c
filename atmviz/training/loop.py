"""The training loop: accelerate for devices, processes and precision; keyed data; checkpoints written atomically.

A run is a function of its recipe. Every random draw has a key (see `data.keyed`), so the state on disk holds no random
generator, and a run killed anywhere and resumed ends with the weights of an undisturbed one, to the bit on a CPU.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from timm.utils import distribute_bn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from atmviz.data.keyed import seed_of, seeded
from atmviz.distributed import Accelerator, as_launched, send_to_device
from atmviz.errors import TrainingError, require_type
from atmviz.events import QUIET, Events, Progress
from atmviz.processes import this_process
from atmviz.signals import saving
from atmviz.training.build import Parts, in_one_order, network_config, open_accelerator
from atmviz.training.evaluate import HEADLINES
from atmviz.training.evaluation import evaluate_network
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.health import OffsetHealth, measure_offsets
from atmviz.training.recipe import Recipe
from atmviz.training.recipe_files import default_folder, default_recipe, read_recipe
from atmviz.training.run_folder import RunFolder, RunState, write_board
from atmviz.training.stopping import stop_signals
from atmviz.training.tasks import Batch

HEALTH_IMAGES = 16
_SYNC_EVERY = 10  # updates: read the loss from the GPU, ask other processes for stop signals


@dataclass
class TrainResult:
    """The outcome of a run.

    Attributes:
        out: Its folder.
        history: The rows of log.csv.
        headline: The column of `history` that says which epoch is best: val_top1, val_miou or val_box_ap.
        best: Its value for the epoch whose weights are in best.safetensors, percent.
        stopped: The signal that stopped the run (SIGINT, SIGTERM or SIGHUP); it is saved, and the same call resumes it.
    """

    out: Path
    history: list[dict[str, float]] = field(default_factory=list)
    headline: str = "val_top1"
    best: float = math.nan
    stopped: signal.Signals | None = None

    @property
    def best_row(self) -> dict[str, float]:
        """The log row of the best epoch."""
        return next((row for row in self.history if row[self.headline] == self.best), self.history[-1])


@as_launched()
def train(
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    events: Events = QUIET,
    **settings: Any,
) -> TrainResult:
    """Train one network, or resume a run that was stopped or killed where it last saved.

    A finished run continues when it is called with more epochs. The further epochs have the learning rates of the
    longer run, the earlier ones had those of the shorter: only where these are the same is the result that of one run.

    Args:
        recipe: A recipe, the name of one in the package, or a YAML file. Default: "shapes", or with a head the
            recipe of its task.
        out: Folder of the run. Default: runs/RECIPE-MODEL-SEED. It gets recipe.yaml, log.csv, offsets.csv,
            tensorboard/, last.safetensors, best.safetensors (weights, and averaged ones) and state.pt (all that
            resuming needs).
        device: "auto", "cpu" or "cuda"; processes of one launcher (`torchrun`) share the work.
        events: Receives messages, each update and each epoch, in the first process only.
        settings: Recipe settings that replace the recipe's, e.g. `epochs=1`.

    Returns:
        The folder, the log and the best value.

    Raises:
        SettingsError: something else than a recipe, its name or a file.
        RecipeError: a setting is wrong, the folder holds a run of another recipe, or the recipe does not fit the data
            or the processes.
        TrainingError: the loss became NaN or infinite, or something cannot be saved; earlier checkpoints stay.
        DatasetError, CheckpointError: the data or the checkpoint to fine-tune cannot be read.
    """
    require_type(recipe, Recipe | str | Path | None, "a recipe", "a Recipe, its name or a file, and model by a keyword")
    if isinstance(recipe, Recipe):
        name, recipe = recipe.dataset, recipe.override(settings)
    else:
        name = str(recipe or default_recipe(head=settings.get("head")))
        recipe = read_recipe(name, settings, events=events if this_process().rank == 0 else QUIET)
    accelerator = open_accelerator(recipe, device)
    folder = RunFolder(Path(out or default_folder(name, recipe)), recipe)
    is_main = accelerator.is_main_process
    locked = folder.locked() if is_main else contextlib.nullcontext()
    with folder.readable_errors(), locked, in_one_order(accelerator.device):
        return _Loop(folder, accelerator, events if is_main else QUIET).run()


class _Loop:
    """The steps of a run. The state in the folder is restored before the folder is claimed."""

    def __init__(self, folder: RunFolder, accelerator: Accelerator, events: Events) -> None:
        self.folder, self.recipe, self.accelerator, self.events = folder, folder.recipe, accelerator, events
        saved = folder.load(events)
        self.parts = Parts(folder.recipe, accelerator, saved[0].data["classes"] if saved else None, events)
        self.state = RunState(self.parts.data)
        if saved:
            self._restore(*saved)
        self._require_same_progress()
        if accelerator.is_main_process and not self.is_finished:
            events.message(f"training {self.recipe.architecture} on {self.recipe.dataset} into {folder.path}")
            folder.write_recipe()
        accelerator.wait_for_everyone()
        self.images_here = 0  # since this process started, over all processes
        self.started = time.perf_counter()

    @property
    def is_finished(self) -> bool:
        return self.state.epoch >= self.parts.epochs

    def run(self) -> TrainResult:
        """Train until the end or a stop signal."""
        stopped = None
        if not self.state.health and self.accelerator.is_main_process:
            self.state.add_health(0, self._measure_offsets())
        updates = self.state.epoch * self.parts.sampler.updates
        is_logged = self.accelerator.is_main_process and not self.is_finished
        with (
            stop_signals(self.events, self.accelerator.num_processes, lambda: self.images_here > 0) as signals,
            self.folder.open_tensorboard(updates) if is_logged else contextlib.nullcontext() as board,
        ):
            while not (self.is_finished or stopped):
                stopped = self._train_epoch(signals) or self._finish_epoch(board, signals)
        state = self.state
        return TrainResult(self.folder.path, state.history, self._headline, state.best, stopped)

    def _train_epoch(self, signals: list[signal.Signals]) -> signal.Signals | None:
        """Do the rest of the epoch's updates, saving where due; return the signal that stopped it."""
        sampler, state = self.parts.sampler, self.state
        sampler.start(state.epoch, state.updates_done)
        batches = self.parts.batches()
        self.parts.wrapped.train()
        while state.updates_done < sampler.updates:
            self._update(batches)
            state.updates_done += 1
            is_synced = self.accelerator.device.type == "cpu" or state.updates_done % _SYNC_EVERY == 0
            if is_synced:
                self._require_finite("the loss", [state.totals["loss"]])
                self._report()
            if state.updates_done % self.recipe.save_updates == 0 and state.updates_done < sampler.updates:
                self._save()
            if self._is_stopped(signals, is_synced):
                self._save()
                return signals[0] if signals else signal.SIGTERM
        return None

    def _update(self, batches: Iterator[Batch]) -> None:
        parts, recipe, accelerator = self.parts, self.recipe, self.accelerator
        number = self.state.epoch * parts.sampler.updates + self.state.updates_done
        if recipe.lr_steps == "epoch":
            parts.scheduler.step(self.state.epoch)
        else:
            parts.scheduler.step_update(number)
        for part in range(recipe.accumulate):
            is_last = part == recipe.accumulate - 1
            with contextlib.nullcontext() if is_last else accelerator.no_sync(parts.wrapped):
                self._backward(next(batches), (recipe.seed, number, part, accelerator.process_index))
        if recipe.clip_grad:
            accelerator.clip_grad_norm_(parts.wrapped.parameters(), recipe.clip_grad)
        parts.optimizer.step()
        parts.optimizer.zero_grad()
        if parts.ema is not None:
            parts.ema.update(parts.network)
        self.images_here += recipe.batch_size
        if accelerator.num_processes == 1:
            saving.set()

    def _backward(self, batch: Batch, key: tuple[int, ...]) -> None:
        """Add the gradients of a batch, and its losses to the epoch's totals."""
        parts, totals, device = self.parts, self.state.totals, self.accelerator.device
        parts.finish(batch, *key)
        if parts.mixup:
            with seeded("mixup", *key):
                batch["image"], batch["label"] = parts.mixup(batch["image"], batch["label"])
        torch.manual_seed(seed_of("model", *key))  # stochastic depth, dropout, a detector's choice of samples
        logged = parts.wrapped(batch)
        self.accelerator.backward(logged["loss"] / self.recipe.accumulate)
        images = len(batch["image"])
        for name, value in {**logged, "images": torch.ones((), device=device)}.items():
            totals[name] = totals.get(name, 0) + value.detach().float() * images

    def _report(self) -> None:
        state, parts = self.state, self.parts
        rate, means = self.images_here / (time.perf_counter() - self.started), _means(state.totals)
        done = state.epoch + 1, parts.epochs, state.updates_done, parts.sampler.updates
        self.events.update(Progress(*done, means, rate))

    def _finish_epoch(self, board: SummaryWriter | None, signals: list[signal.Signals]) -> signal.Signals | None:
        """Validate, write weights and logs, then the state: a run killed in between repeats all of it.

        Return the signal that stopped the validation, which the resumed run repeats.
        """
        state = self.state
        self._require_finite("the loss", [state.totals["loss"]])
        try:
            metrics = self._validate(signals)
        except InterruptedError:
            self._save()
            return signals[0]
        self._require_finite_weights()
        self._require_finite("the validation loss", [torch.tensor(metrics.get("loss", 0.0))])
        means = _means(self.accelerator.reduce(state.totals, "sum"))
        row = {
            "epoch": state.epoch + 1,
            "updates": (state.epoch + 1) * self.parts.sampler.updates,
            "lr": self.parts.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": value for name, value in means.items()},
            **{f"val_{name}": value for name, value in metrics.items()},
        }
        is_best = math.isnan(state.best) or row[self._headline] > state.best
        is_main = self.accelerator.is_main_process
        health = self._measure_offsets() if is_main else []
        state.history.append(row)
        state.add_health(state.epoch + 1, health)
        state.best = row[self._headline] if is_best else state.best
        if is_main:
            config = network_config(self.recipe, len(state.data["classes"]))
            self.folder.write_epoch(state, self.parts.kept_weights(), config, is_best)
        if board is not None:
            write_board(board, row, health)
        state.epoch, state.updates_done, state.totals = state.epoch + 1, 0, {}
        self._save()
        self.events.epoch(row, health)
        return None

    @property
    def _headline(self) -> str:
        return f"val_{HEADLINES[self.recipe.task]}"

    def _validate(self, signals: list[signal.Signals]) -> dict[str, float]:
        """Return the metrics of the averaged weights, or of the network where the run averages none.

        Raises:
            InterruptedError: a signal arrived; several processes go on, as each would have to hear of it.
        """
        recipe, world = self.recipe, self.accelerator.num_processes
        network = self.parts.ema.module if self.parts.ema is not None else self.parts.network
        if world > 1:  # all processes evaluate with the batch norm statistics that are saved
            distribute_bn(network, world)
        per_pass = recipe.batch_size // (world * recipe.accumulate)
        settings = EvaluationSettings(batch_size=per_pass, workers=recipe.workers, limit=recipe.val_images)
        events = _Interruptible(signals) if world == 1 else QUIET
        with self.parts.eagerly():
            return evaluate_network(network, self.parts.val_set, settings, events=events).metrics

    def _measure_offsets(self) -> list[OffsetHealth]:
        size, val_set = (self.recipe.image_size,) * 2, self.parts.val_set
        images = [val_set[i]["image"] for i in range(min(HEALTH_IMAGES, len(val_set)))]
        pixels = [x if x.shape[1:] == size else nn.functional.interpolate(x[None], size)[0] for x in images]
        with self.parts.eagerly():
            return measure_offsets(self.parts.network, torch.stack(pixels))

    def _is_stopped(self, signals: list[signal.Signals], is_synced: bool) -> bool:
        """Whether to stop after this update; the same in all processes."""
        if self.accelerator.num_processes == 1:
            return bool(signals)
        if not is_synced:
            return False
        received = torch.tensor([len(signals)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(received, "sum").item())

    def _require_finite_weights(self) -> None:
        """Keep values that are not finite out of every file."""
        states = self.parts.kept_weights().values()
        self._require_finite("a weight", (tensor for state in states for tensor in state.values()))

    def _require_finite(self, what: str, values: Iterable[Tensor]) -> None:
        if all(value.isfinite().all() for value in values):
            return
        finer = {"fp16": " or precision to bf16", "bf16": " or precision to fp32"}.get(self.recipe.precision, "")
        raise TrainingError(
            f"{what} became NaN or infinite at update {self.state.updates_done} of epoch {self.state.epoch + 1}; "
            f"{self.folder.last_good}. Lower lr or set clip_grad to 1{finer}, and choose another folder"
        )

    def _save(self) -> None:
        """Save all that resuming needs."""
        if self.state.updates_done:  # at the end of an epoch they were checked before they were written
            self._require_finite_weights()
        totals = self.accelerator.gather(self.state.totals)  # one value for each process
        if self.accelerator.is_main_process:
            self.folder.save(replace(self.state, totals=totals), self.parts.state_dict())
        self.accelerator.wait_for_everyone()

    def _restore(self, saved: RunState, tensors: dict[str, Any]) -> None:
        parts, accelerator = self.parts, self.accelerator
        self.folder.require_same_data(saved, parts.data)
        with self.folder.fitting():
            totals: dict[str, Tensor] = {}
            for name, sums in send_to_device(saved.totals, accelerator.device).items():
                if sums.numel() == accelerator.num_processes:
                    totals[name] = sums.view(-1)[accelerator.process_index]
                elif accelerator.process_index == 0:  # saved by another number of processes: the first takes all
                    totals[name] = sums.sum()
            parts.load_state_dict(tensors)
        self.state = replace(saved, totals=totals)
        if self.is_finished:
            self.events.message(f"{self.folder.path} is finished: nothing left to train")
        else:
            where = f"epoch {saved.epoch + 1} of {parts.epochs}, update {saved.updates_done + 1}"
            self.events.message(f"resuming in {self.folder.path} at {where} of {parts.sampler.updates}")

    def _require_same_progress(self) -> None:
        progress = torch.tensor([self.state.epoch, self.state.updates_done], device=self.accelerator.device)
        if (self.accelerator.gather(progress).view(-1, 2) != progress).any():
            raise TrainingError(
                f"the processes read different states in {self.folder.path}: expected one folder that all share"
            )


class _Interruptible(Events):
    """Raises InterruptedError after the batch in which a signal arrives."""

    def __init__(self, signals: list[signal.Signals]) -> None:
        self.signals = signals

    def images(self, done: int, total: int) -> None:
        if self.signals:
            raise InterruptedError


def _means(totals: dict[str, Tensor]) -> dict[str, float]:
    images = totals["images"].item()
    return {name: total.item() / images for name, total in totals.items() if name != "images"}
