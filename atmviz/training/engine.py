"""The training loop: accelerate for devices, processes and precision; keyed data; checkpoints that appear whole.

A run is a function of its recipe. Every random draw has a key (see `data.keyed`), so the state on disk holds no random
generator, and a run killed anywhere ends with the weights of one that was not, to the bit on a CPU.
"""

import contextlib
import errno
import math
import os
import signal
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3, distribute_bn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from atmviz.architecture import NETWORK_OPTIONS
from atmviz.checkpoints import write_checkpoint
from atmviz.data.classification import Augmentation, open_labelled, require_same_classes
from atmviz.data.detection import open_detection
from atmviz.data.keyed import KeyedBatchSampler, KeyedDataset, seed_of, seeded
from atmviz.data.loader import open_loader, read_batches, stack_by_name
from atmviz.data.segmentation import ViewAugmentation, open_segmentation
from atmviz.dense import create_dense
from atmviz.dense.pyramid import PYRAMID_DIM
from atmviz.dense.roi_heads import BOX_SAMPLES
from atmviz.distributed import Accelerator, as_launched, new_accelerator, send_to_device
from atmviz.errors import RecipeError, TrainingError, join_limited, reason_of, summarize
from atmviz.files import atomic_path, write_csv
from atmviz.models import COMPILE_OPTIONS, ATMNet, create_model
from atmviz.models.layers import init_fan_in
from atmviz.signals import on_end_signals, saving, watch
from atmviz.training.evaluate import HEADLINES, evaluate
from atmviz.training.finetune import load_to_finetune
from atmviz.training.health import OffsetHealth, measure_offsets
from atmviz.training.recipe import Recipe
from atmviz.training.tasks import Batch, ClassificationTask, DetectionTask, SegmentationTask, TrainingTask

HEALTH_IMAGES = 16
_STATE_FORMAT = 3
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WEIGHTS = ("last.safetensors", "best.safetensors")
_LOGS = ("log.csv", "offsets.csv")
_CHECK_EVERY = 10  # updates between looks at what costs a wait: the loss on a GPU, stop signals of other processes


@dataclass(frozen=True)
class Progress:
    """Where a run is, after an update.

    Attributes:
        epoch, update: Counted from 1; `update` within the epoch.
        epochs, updates: In all, and per epoch.
        means: Over the epoch so far: the loss first; top-1 in percent of classifiers, the parts of the loss of others.
        rate: Images per second since this process started, over all processes.
    """

    epoch: int
    epochs: int
    update: int
    updates: int
    means: dict[str, float]
    rate: float


class Reporter:
    """Told what happens while a run goes on; this one keeps quiet."""

    def message(self, text: str) -> None:
        """One line for people."""

    def update(self, progress: Progress) -> None:
        """An update is done."""

    def epoch(self, row: dict[str, float], health: list[OffsetHealth]) -> None:
        """An epoch is done: its row of the log, and the health of the offsets."""


@dataclass
class TrainResult:
    """What a run came to.

    Attributes:
        out: Its folder.
        history: The rows of log.csv.
        headline: The column of `history` that says which epoch is best: val_top1, val_miou or val_box_ap.
        best: Its value for the epoch whose weights are in best.safetensors, percent.
        stopped: By SIGINT, SIGTERM or SIGHUP, and saved; the same command goes on.
    """

    out: Path
    history: list[dict[str, float]] = field(default_factory=list)
    headline: str = "val_top1"
    best: float = math.nan
    stopped: signal.Signals | None = None


@as_launched()
def train(recipe: Recipe, out: str | Path, *, device: str = "auto", reporter: Reporter | None = None) -> TrainResult:
    """Train one network; a run that was stopped or killed goes on where it last saved.

    Args:
        recipe: What to train, on what, how.
        out: Folder of the run: recipe.yaml, log.csv, offsets.csv, tensorboard/, last.safetensors, best.safetensors
            (weights, and averaged ones) and state.pt (all that going on needs).
        device: "auto", "cpu" or "cuda"; processes of one launcher (`torchrun`) share the work.
        reporter: Told of progress, on the first process only.

    Raises:
        RecipeError: the folder holds a run of another recipe, or the recipe does not fit the data or the processes.
        TrainingError: the loss is no number any more, or something cannot be saved; what was saved before stays.
        DatasetError, CheckpointError: see there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise TrainingError(f"got device {device!r}, expected auto, cpu or cuda (which one: CUDA_VISIBLE_DEVICES)")
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device here: use --device cpu or auto")
    precision = {"fp32": "no"}.get(recipe.precision, recipe.precision)
    try:
        accelerator = new_accelerator(device == "cpu", precision)
    except ValueError as error:
        raise TrainingError(f"got precision {recipe.precision}, which this device lacks ({error}): use fp32") from None
    if recipe.precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("got precision fp16 on a CPU, expected fp32 or bf16: pass --precision bf16")
    out = Path(out)
    with _readable_errors(out), _alone_in(out, accelerator.is_main_process):
        return _Run(recipe, out, accelerator, reporter or Reporter()).run()


def build_network(recipe: Recipe, num_classes: int, message: Callable[[str], None] = lambda text: None) -> nn.Module:
    """The recipe's network, its weights drawn from the seed or taken from the checkpoint to fine-tune."""
    options: dict[str, Any] = {"drop_path_rate": recipe.drop_path_rate, **_config(recipe, num_classes)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        if recipe.head:
            if recipe.short_side_min:
                options["min_size"] = (*range(recipe.short_side_min, recipe.image_size, 32), recipe.image_size)
            network = create_dense(recipe.architecture, **options)
        else:
            network = create_model(recipe.model, **options)
        if recipe.init == "fan_in":
            for module in network.modules():
                if isinstance(module, ATMNet):
                    init_fan_in(module.stages)
    if recipe.finetune:
        load_to_finetune(network, recipe, num_classes, message)
    return network


def build_task(network: nn.Module, recipe: Recipe, message: Callable[[str], None] = lambda text: None) -> TrainingTask:
    """The network with its loss, and what only training needs drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.seed, "task"))
        if isinstance(network, ATMNet):
            return ClassificationTask(network, recipe)
        if recipe.task == "segment":
            return SegmentationTask(network, recipe)
        task = DetectionTask(network, recipe)
    if task.fixed:
        message(f"{recipe.model} as in mmdetection: stem, first stage and the statistics of its batch norms stay")
    return task


def build_optimizer(task: TrainingTask, recipe: Recipe) -> torch.optim.Optimizer:
    """timm's, with weight decay on what the recipe's `decay` names."""
    rates: dict[float, list[Tensor]] = {0.0: [], recipe.weight_decay: []}
    without = task.no_weight_decay()
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            rates[0.0 if name in without else recipe.weight_decay].append(parameter)
    groups = [{"params": held, "weight_decay": rate} for rate, held in rates.items() if held]
    try:
        optimizer = create_optimizer_v2(groups, opt=recipe.optimizer, lr=recipe.scaled_lr)
        if getattr(optimizer, "is_second_order", False):
            raise ValueError("it needs second derivatives")
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"got optimizer {recipe.optimizer!r} ({summarize(error)}), expected timm's name for one, as adamw or sgd"
        ) from None
    return optimizer


def build_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, updates_per_epoch: int) -> tuple[Scheduler, int]:
    """timm's schedule with warm-up, and the number of epochs with cooldown."""
    if recipe.schedule == "step":
        # timm falls one before a milestone: one more, and the first epoch or update after it is the first that falls.
        per_epoch = 1 if recipe.lr_steps == "epoch" else updates_per_epoch
        scheduler = MultiStepLRScheduler(
            optimizer,
            decay_t=[epoch * per_epoch + 1 for epoch in recipe.decay_epochs],
            decay_rate=0.1,
            warmup_t=recipe.warmup_epochs * per_epoch,  # type: ignore[arg-type]
            warmup_lr_init=recipe.warmup_lr,
            warmup_prefix=False,  # milestones count from the start, not from the end of the warm-up
            t_in_epochs=recipe.lr_steps == "epoch",
        )
        return scheduler, recipe.epochs + recipe.cooldown_epochs
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        sched=recipe.schedule,
        decay_rate=recipe.poly_power,  # timm's name for the power; cosine has none
        num_epochs=recipe.epochs,
        warmup_epochs=recipe.warmup_epochs,  # type: ignore[arg-type]
        cooldown_epochs=recipe.cooldown_epochs,
        warmup_lr=recipe.warmup_lr,
        min_lr=recipe.min_lr,
        step_on_epochs=recipe.lr_steps == "epoch",
        updates_per_epoch=updates_per_epoch,
    )
    assert scheduler is not None
    return scheduler, epochs


def build_mixup(recipe: Recipe, num_classes: int) -> Mixup | None:
    """timm's Mixup and CutMix, one of them for each batch; None where the recipe has neither."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        num_classes=num_classes,
    )


def open_data(recipe: Recipe) -> tuple[Any, Any]:
    """The recipe's training and validation images, of the same classes."""
    train_set, val_set = _open_data(recipe)
    require_same_classes(train_set, val_set)
    return train_set, val_set


def _open_data(recipe: Recipe) -> tuple[Any, Any]:
    if recipe.task == "segment":
        views = ViewAugmentation(recipe.scale_min, recipe.scale_max, recipe.hflip, recipe.photometric)
        place, size = recipe.data_dir, recipe.image_size
        return (
            open_segmentation(recipe.dataset, "train", size, data_dir=place, augmentation=views, seed=recipe.seed),
            open_segmentation(recipe.dataset, "val", size, data_dir=place),
        )
    if recipe.task == "detect":
        place, size = recipe.data_dir, recipe.image_size
        return (
            open_detection(
                recipe.dataset, "train", size, data_dir=place, hflip=recipe.hflip, with_target=True, seed=recipe.seed
            ),
            open_detection(recipe.dataset, "val", size, data_dir=place),
        )
    names = ("crop_scale_min", "hflip", "color_jitter", "auto_augment", "random_erasing", "erase_mode")
    augmentation = Augmentation(**{name: getattr(recipe, name) for name in names})
    size, place = recipe.image_size, recipe.data_dir
    return (
        open_labelled(recipe.dataset, "train", size, data_dir=place, augmentation=augmentation, seed=recipe.seed),
        open_labelled(recipe.dataset, "val", size, data_dir=place, crop_pct=recipe.crop_pct),  # one for all seeds
    )


class _Run:
    """One run: everything that is built once, and the steps of the loop."""

    def __init__(self, recipe: Recipe, out: Path, accelerator: Accelerator, reporter: Reporter) -> None:
        self.recipe, self.out, self.accelerator = recipe, out, accelerator
        self.reporter = reporter if accelerator.is_main_process else Reporter()
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.device = accelerator.device
        state = self._read_state()
        train_set, self.val_set = open_data(recipe)
        if state and recipe.task == "classify":  # classes were numbered by value once, where they are numbers
            for one in (train_set, self.val_set):
                one.number_as(state["data"]["classes"])
        for note in dict.fromkeys([*train_set.notes, *self.val_set.notes]):
            self.reporter.message(note)
        self.sampler = KeyedBatchSampler(
            len(train_set),
            recipe.batch_size,
            recipe.seed,
            images=recipe.train_images,
            repeats=recipe.repeated_augmentation,
            rank=self.rank,
            world=self.world,
            accumulate=recipe.accumulate,
        )
        # Not prepared by accelerate: the sampler shares the images out already.
        self.loader = open_loader(
            KeyedDataset(train_set, recipe.seed),
            recipe.workers,
            _by_name if recipe.task == "detect" else stack_by_name,
            batch_sampler=self.sampler,
            pin_memory=self.device.type == "cuda",
        )
        self.data = {"classes": list(train_set.classes), "images": len(train_set)}
        self.network = build_network(recipe, len(train_set.classes), self.reporter.message)
        if self.world > 1 and self.device.type == "cuda":  # as mmsegmentation does; there is none for CPUs
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.mixup = build_mixup(recipe, len(train_set.classes))
        self.inner = build_task(self.network, recipe, self.reporter.message)
        optimizer = build_optimizer(self.inner, recipe)
        self.scheduler, self.epochs = build_scheduler(optimizer, recipe, self.sampler.updates)
        if recipe.compile:
            self.inner.compile(options=COMPILE_OPTIONS)
        self.task, self.optimizer = accelerator.prepare(self.inner, optimizer)
        self.ema = ModelEmaV3(self.network, decay=recipe.ema_decay) if recipe.ema_decay else None

        self.epoch = self.first_update = 0
        self.totals: dict[str, Tensor] = {}  # what the task logs, times images; and the images: of this process
        self.result = TrainResult(out, headline=f"val_{HEADLINES[recipe.task]}")
        self.health: list[dict[str, Any]] = []
        if state is not None:
            self._load_state(state)
        self._require_same_place()
        self._claim_folder()
        self.images_here = 0
        self.started = time.perf_counter()

    def run(self) -> TrainResult:
        if not self.health and self.accelerator.is_main_process:
            self._note_health(0, self._measure_offsets())
        stop_signals = _stop_signals(self.reporter.message, self.world, lambda: self.images_here > 0)
        with stop_signals as signals, self._tensorboard() as board:
            while self.epoch < self.epochs:
                for update in self._updates():
                    if self._is_stopped(signals, update):
                        self._save_state(update + 1)
                        self.result.stopped = signals[0] if signals else signal.SIGTERM
                        return self.result
                self._finish_epoch(board)
        return self.result

    def _updates(self) -> Iterator[int]:
        """Do the rest of the epoch's updates, giving each one's index when it is done and saved where due."""
        self.sampler.start(self.epoch, self.first_update)
        batches = read_batches(self.loader)
        self.task.train()
        for update in range(self.first_update, self.sampler.updates):
            self._update(update, batches)
            done = update + 1
            if self.device.type == "cpu" or done % _CHECK_EVERY == 0:
                self._require_finite_loss(update)
                self._report(done)
            if done % self.recipe.save_updates == 0 and done < self.sampler.updates:
                self._save_state(done)
            yield update

    def _update(self, update: int, batches: Iterator[Batch]) -> None:
        number = self.epoch * self.sampler.updates + update
        if self.recipe.lr_steps == "epoch":
            self.scheduler.step(self.epoch)
        else:
            self.scheduler.step_update(number)
        for part in range(self.recipe.accumulate):
            batch: Batch = send_to_device(next(batches), self.device, non_blocking=True)
            key = (self.recipe.seed, number, part, self.rank)
            if self.mixup:
                with seeded("mixup", *key):
                    batch["image"], batch["label"] = self.mixup(batch["image"], batch["label"])
            torch.manual_seed(seed_of("model", *key))  # stochastic depth, dropout, a detector's choice of samples
            last = part == self.recipe.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.task):
                logged = self.task(batch)
                self.accelerator.backward(logged["loss"] / self.recipe.accumulate)
            images = len(batch["image"])
            for name, value in {**logged, "images": torch.ones((), device=self.device)}.items():
                self.totals[name] = self.totals.get(name, 0) + value.detach().float() * images
        if self.recipe.clip_grad:
            self.accelerator.clip_grad_norm_(self.task.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.network)
        self.images_here += self.recipe.batch_size
        if self.world == 1:
            saving.set()

    def _report(self, done: int) -> None:
        rate = self.images_here / (time.perf_counter() - self.started)
        means = self._means(self.totals)
        self.reporter.update(Progress(self.epoch + 1, self.epochs, done, self.sampler.updates, means, rate))

    @staticmethod
    def _means(totals: dict[str, Tensor]) -> dict[str, float]:
        images = totals["images"].item()
        return {name: total.item() / images for name, total in totals.items() if name != "images"}

    def _finish_epoch(self, board: SummaryWriter | None) -> None:
        """Validate, save weights, logs, then the state: a run killed in between does all of it again."""
        self._require_finite_loss(self.sampler.updates - 1)
        judged = self.ema.module if self.ema is not None else self.network
        if self.world > 1:  # running statistics of batch norms: those of the process that saves
            distribute_bn(judged, self.world)
        found = evaluate(
            judged,
            self.val_set,
            batch_size=self.recipe.batch_size // (self.world * self.recipe.accumulate),
            workers=self.recipe.workers,
            limit=self.recipe.val_images,
            rank=self.rank,
            world=self.world,
        )
        self._require_finite_network(self.sampler.updates, found.metrics.get("loss", 0.0))
        means = self._means(self.accelerator.reduce(self.totals, "sum"))
        row = {
            "epoch": self.epoch + 1,
            "updates": (self.epoch + 1) * self.sampler.updates,
            "lr": self.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": value for name, value in means.items()},
            **{f"val_{name}": value for name, value in found.metrics.items()},
        }
        health = self._measure_offsets() if self.accelerator.is_main_process else []
        self.result.history.append(row)
        self._note_health(self.epoch + 1, health)
        value = row[self.result.headline]
        is_best = math.isnan(self.result.best) or value > self.result.best
        self.result.best = value if is_best else self.result.best
        if self.accelerator.is_main_process:
            for name in ("last", "best") if is_best else ("last",):
                self._save_weights(self.out / f"{name}.safetensors", row)
            write_csv(self.out / "log.csv", self.result.history)
            write_csv(self.out / "offsets.csv", self.health)
            if board is not None:
                _write_board(board, row, health)
        self.epoch += 1
        self.totals = {}
        self._save_state(0)
        self.reporter.epoch(row, health)

    def _measure_offsets(self) -> list[OffsetHealth]:
        size = (self.recipe.image_size,) * 2
        images = [self.val_set[i]["image"] for i in range(min(HEALTH_IMAGES, len(self.val_set)))]
        pixels = [x if x.shape[1:] == size else nn.functional.interpolate(x[None], size)[0] for x in images]
        return measure_offsets(self.network, torch.stack(pixels))

    def _note_health(self, epoch: int, health: list[OffsetHealth]) -> None:
        self.health += [{"epoch": epoch, **asdict(one), "layer": str(one.layer)} for one in health]

    def _is_stopped(self, signals: list[signal.Signals], update: int) -> bool:
        """Whether to stop after this update: all processes find the same."""
        if self.world == 1:
            return bool(signals)
        if self.device.type != "cpu" and (update + 1) % _CHECK_EVERY:
            return False
        heard = torch.tensor([len(signals)], device=self.device)
        return bool(self.accelerator.reduce(heard, "sum").item())

    def _require_finite_loss(self, update: int) -> None:
        if not math.isfinite(self.totals["loss"].item()):
            self._stop_diverged("the loss", update)

    def _require_finite_network(self, updates_done: int, val_loss: float = 0.0) -> None:
        """Nothing that is not finite gets into a file, or becomes the best."""
        kept = [self.network, *([self.ema.module] if self.ema is not None else [])]
        if not all(tensor.isfinite().all() for module in kept for tensor in module.state_dict().values()):
            self._stop_diverged("a weight", updates_done - 1)
        if not math.isfinite(val_loss):
            self._stop_diverged("the validation loss", updates_done - 1)

    def _stop_diverged(self, what: str, update: int) -> NoReturn:
        weights = self.out / "last.safetensors"
        good = f"the last good checkpoint is {weights}" if weights.exists() else "no checkpoint was saved before"
        finer = {"fp16": " or --precision bf16", "bf16": " or --precision fp32"}.get(self.recipe.precision, "")
        raise TrainingError(
            f"{what} became NaN or infinite at update {update + 1} of epoch {self.epoch + 1}; {good}. "
            f"Lower --lr, pass --clip-grad 1{finer}, and a new --out"
        )

    def _claim_folder(self) -> None:
        """Write the recipe, now that all could be built."""
        if self.accelerator.is_main_process and self.epoch < self.epochs:
            with atomic_path(self.out / "recipe.yaml") as temporary:
                temporary.write_text(self.recipe.to_yaml(), "utf-8")
        self.accelerator.wait_for_everyone()

    def _save_weights(self, path: Path, row: dict[str, float]) -> None:
        states = {"model": self.network.state_dict()}
        if self.ema is not None:
            states["model_ema"] = self.ema.module.state_dict()
        about = {
            "dataset": self.recipe.dataset,
            "image_size": self.recipe.image_size,
            "crop_pct": self.recipe.crop_pct,
            "classes": list(self.val_set.classes),
            "recipe": asdict(self.recipe),
            **row,
        }
        config = _config(self.recipe, len(self.val_set.classes))
        write_checkpoint(path, str(self.recipe.architecture), config, states, about)

    def _save_state(self, updates_done: int) -> None:
        """All that going on needs, in one file, which replaces the one before when it is whole."""
        if updates_done:
            self._require_finite_network(updates_done)
        totals = self.accelerator.gather(self.totals)  # one value for each process
        if self.accelerator.is_main_process:
            state = {
                "format": _STATE_FORMAT,
                "recipe": asdict(self.recipe),
                "data": self.data,
                "epoch": self.epoch,
                "updates_done": updates_done,
                "totals": totals,
                "task": self.inner.state_dict(),
                "ema": self.ema.module.state_dict() if self.ema is not None else None,
                "optimizer": self.optimizer.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "history": self.result.history,
                "health": self.health,
                "best": self.result.best,
            }
            with atomic_path(self.out / "state.pt") as temporary:
                torch.save(state, temporary)
        self.first_update = updates_done
        self.accelerator.wait_for_everyone()

    def _read_state(self) -> dict[str, Any] | None:
        """What the folder's run has saved, None for a new one; it must be whole and of this recipe."""
        file = self.out / "state.pt"
        if not file.exists():
            self._require_nothing_to_lose()
            return None
        try:
            with zipfile.ZipFile(file) as archive:  # torch does not compare the checksums
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"{damaged} is not what was written")
            with warnings.catch_warnings(action="ignore"):
                state = torch.load(file, map_location="cpu", weights_only=True)
            known = state["format"] == _STATE_FORMAT
            before = Recipe().override(state["recipe"]) if known else self.recipe
        except PermissionError:
            raise
        except Exception as error:  # whatever a damaged file makes torch raise
            raise TrainingError(
                f"{file} is damaged or no state of a run ({type(error).__name__}): restore it, or choose another --out"
            ) from None
        if not known:
            raise TrainingError(f"{file} is of another version of atmviz: finish it there, or choose another --out")
        if differences := self.recipe.differences(before):
            raise RecipeError(
                f"{self.out} holds a run of another recipe ({'; '.join(differences)}): "
                "repeat its settings to go on, or choose another --out"
            )
        return state

    def _require_nothing_to_lose(self) -> None:
        """A folder without a state may hold the recipe of a run killed early, but no other one and no results."""
        if found := [name for name in (*_WEIGHTS, *_LOGS) if (self.out / name).exists()]:
            raise TrainingError(
                f"{self.out} holds {', '.join(found)} but no state.pt to go on from: "
                "choose another --out, or move them away to start again"
            )
        recipe = self.out / "recipe.yaml"
        if recipe.exists() and recipe.read_text("utf-8", "replace") != self.recipe.to_yaml():
            raise RecipeError(
                f"{recipe} is another recipe, which a run would replace: choose another --out, or move it"
            )

    def _load_state(self, state: dict[str, Any]) -> None:
        if state["data"] != self.data:
            raise TrainingError(
                f"the data are not those that {self.out} was trained on (then {_describe(state['data'])}; "
                f"now {_describe(self.data)}): restore them, or choose another --out"
            )
        try:
            self.epoch, self.first_update = state["epoch"], state["updates_done"]
            for name, sums in send_to_device(state["totals"], self.device).items():
                if sums.numel() == self.world:
                    self.totals[name] = sums.view(-1)[self.rank]
                elif self.rank == 0:  # of another number of processes: all go on in the first
                    self.totals[name] = sums.sum()
            self.inner.load_state_dict(state["task"])
            self.optimizer.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.module.load_state_dict(state["ema"])
            if self.accelerator.scaler:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.result.history, self.result.best = state["history"], state["best"]
            self.health = state["health"]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"{self.out / 'state.pt'} does not fit this run ({summarize(error)}): choose another --out"
            ) from None
        if self.epoch < self.epochs:
            where = f"epoch {self.epoch + 1} of {self.epochs}, update {self.first_update + 1} of {self.sampler.updates}"
            self.reporter.message(f"going on in {self.out} at {where}")
        else:
            self.reporter.message(f"{self.out} is finished: nothing left to train")

    def _require_same_place(self) -> None:
        place = torch.tensor([self.epoch, self.first_update], device=self.device)
        places = self.accelerator.gather(place).view(-1, 2)
        if (places != place).any():
            raise TrainingError(
                f"the processes find different states in {self.out}: expected one folder that all share"
            )

    @contextlib.contextmanager
    def _tensorboard(self) -> Iterator[SummaryWriter | None]:
        """The event files; what an interrupted run wrote beyond the saved state is purged."""
        if not self.accelerator.is_main_process or self.epoch == self.epochs:
            yield None
            return
        step = self.epoch * self.sampler.updates
        with SummaryWriter(str(self.out / "tensorboard"), purge_step=step or None) as board:
            yield board


def _describe(data: dict[str, Any]) -> str:
    return f"{data['images']} images of {len(data['classes'])} classes, {join_limited(data['classes'], 5)}"


def _config(recipe: Recipe, num_classes: int) -> dict[str, Any]:
    """Constructor arguments: the number of classes, and what is not as released."""
    usual: dict[str, Any] = {**NETWORK_OPTIONS, "dim": PYRAMID_DIM}
    if recipe.head in ("mask_rcnn", "cascade_mask_rcnn"):
        usual["box_samples"] = BOX_SAMPLES
    changed = {name: getattr(recipe, name) for name, value in usual.items() if getattr(recipe, name) != value}
    sizes = {"min_size": recipe.image_size, "max_size": recipe.long_side} if recipe.task == "detect" else {}
    return {"num_classes": num_classes, **sizes, **changed}


def _by_name(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """A batch of images of any sizes: lists by name."""
    return {name: [item[name] for item in items] for name in items[0]}


@contextlib.contextmanager
def _stop_signals(
    message: Callable[[str], None], world: int, has_begun: Callable[[], bool]
) -> Iterator[list[signal.Signals]]:
    """Within the block SIGINT, SIGTERM and SIGHUP are collected; a second SIGINT interrupts at once.

    Before the first update, which may compile for minutes, a signal ends the process at once: nothing is lost. After
    it one process alone finishes its update however long it takes. Of several, one that waits for another is ended.
    """
    heard: list[signal.Signals] = []

    def note(number: signal.Signals) -> None:
        if not has_begun():
            message(f"stopped by {number.name} before the first update")
            raise SystemExit(128 + number)
        saving.set()
        if heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not heard:
            message("stopping and saving after this update; Ctrl-C again stops at once")
        heard.append(number)

    try:
        before = on_end_signals(note, signal.SIGINT)
    except ValueError:  # not in the main thread, where signals cannot be heard
        yield heard
        return
    if world > 1:
        watch(message)
    try:
        yield heard
    finally:
        saving.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _readable_errors(out: Path) -> Iterator[None]:
    """A disk that is full and a compiler that is missing, as one line."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if "No working C++ compiler" in str(error):
            raise TrainingError(
                "got compile on a machine without a C++ compiler: install g++, or pass --no-compile"
            ) from None
        # what torch.save says of a full disk
        in_torch = any(text in str(error) for text in ("PytorchStreamWriter", "inline_container"))
        elsewhere = isinstance(error, FileNotFoundError) or getattr(error, "errno", None) == errno.EMFILE
        if elsewhere or not (isinstance(error, OSError | SafetensorError) or in_torch):
            raise
        reason = reason_of(error)
        full = not isinstance(error, OSError) or error.errno in _FULL
        remedy = "make room, then the same command goes on" if full else "choose another --out"
        raise TrainingError(f"cannot save in {out} ({reason}): what was saved before is whole; {remedy}") from None


@contextlib.contextmanager
def _alone_in(out: Path, is_main_process: bool) -> Iterator[None]:
    """Within the block no other run uses the folder; a process that is killed gives it free."""
    if not is_main_process or (out.exists() and not os.access(out, os.W_OK)):
        yield
        return
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(f"another process trains in {out}: wait for it, or choose another --out") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # what was not even begun leaves nothing behind
            for folder in made:
                folder.rmdir()


def _write_board(board: SummaryWriter, row: dict[str, float], health: list[OffsetHealth]) -> None:
    step = int(row["updates"])
    for name, value in row.items():
        if name not in ("epoch", "updates"):
            board.add_scalar(name.replace("_", "/", 1), value, step)
    for one in health:
        for name in ("mean_abs", "mean_share", "p99_abs", "outside", "still"):
            board.add_scalar(f"offsets_{name}/{one.layer}", getattr(one, name), step)
    board.flush()
