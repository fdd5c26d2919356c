"""Builds all that a training run consists of: data, network, task, optimizer, schedule, averaged weights."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from atmviz.architecture import BOX_SAMPLES, NETWORK_OPTIONS, PYRAMID_DIM
from atmviz.data.augmentation import Augmentation
from atmviz.data.classification import open_labeled, require_same_classes
from atmviz.data.detection import open_detection
from atmviz.data.keyed import KeyedBatchSampler, KeyedDataset, seed_of
from atmviz.data.loader import open_loader, read_batches, stack_by_name
from atmviz.data.prefetch import on_device
from atmviz.data.segmentation import ViewAugmentation, open_segmentation
from atmviz.dense import create_network
from atmviz.distributed import Accelerator, new_accelerator, send_to_device
from atmviz.errors import SettingsError, TrainingError, summarize
from atmviz.events import QUIET, Events
from atmviz.models import COMPILE_OPTIONS, ATMNet, compile_blocks
from atmviz.models.layers import init_fan_in
from atmviz.training.evaluate import open_images
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.finetune import load_to_finetune
from atmviz.training.recipe import Recipe, require_device
from atmviz.training.tasks import Batch, ClassificationTask, DetectionTask, SegmentationTask, TrainingTask


class Parts:
    """What a run consists of, built once; a resumed run passes the `classes` it saved and keeps their order.

    Attributes:
        accelerator: Device, precision and processes.
        data: Class names ("classes") and number of training images ("images").
        val_set: Validation images.
        to_input: Turns batches of bytes into network input; None where the loader does. Images of classifiers travel to
            a GPU as bytes, a quarter of what numbers take.
        sampler: Which training images this process sees, in which order.
        loader: Batches of them.
        mixup: Mixup and CutMix, None without both.
        network: The network that checkpoints keep.
        task: The network with its loss.
        wrapped: The task as accelerate runs it.
        optimizer: As accelerate runs it.
        scheduler: Learning rate schedule.
        epochs: Number of epochs, cooldown included.
        ema: Averaged weights, None without them.

    Raises:
        RecipeError: the recipe does not fit the data or the processes.
        DatasetError, CheckpointError: see `open_data`, `build_network`.
    """

    def __init__(
        self, recipe: Recipe, accelerator: Accelerator, classes: list[str] | None = None, events: Events = QUIET
    ) -> None:
        self.accelerator, self.recipe = accelerator, recipe
        train_set, self.val_set = open_data(recipe)
        if classes and recipe.task == "classify":  # runs of older versions numbered number-like classes by value
            for dataset in (train_set, self.val_set):
                dataset.number_as(classes)
        for note in dict.fromkeys([*train_set.notes, *self.val_set.notes]):
            events.message(note)
        num_classes = len(train_set.classes)
        self.data: dict[str, Any] = {"classes": list(train_set.classes), "images": len(train_set)}
        on_gpu = accelerator.device.type == "cuda"
        self.to_input = train_set.leave_as_bytes() if on_gpu and recipe.task == "classify" else None
        self.sampler, self.loader = _open_batches(train_set, recipe, accelerator)
        self.mixup = build_mixup(recipe, num_classes)
        network = build_network(recipe, num_classes, events)
        if accelerator.num_processes > 1 and on_gpu:  # as mmsegmentation; CPUs have none
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network = network
        self.task = build_task(network, recipe, events)
        optimizer = build_optimizer(self.task, recipe, on_gpu)
        self.scheduler = build_scheduler(optimizer, recipe, self.sampler.updates)
        if recipe.compile and on_gpu and isinstance(network, ATMNet):
            compile_blocks(network)  # in a fraction of the time that the whole step takes
        elif recipe.compile:
            self.task.compile(options=COMPILE_OPTIONS)
        self.wrapped, self.optimizer = accelerator.prepare(self.task, optimizer)
        self.epochs = recipe.all_epochs
        self.ema = ModelEmaV3(network, decay=recipe.ema_decay) if recipe.ema_decay else None

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of an epoch on the device; a GPU gets the next one while it computes."""
        device = self.accelerator.device
        move = partial(send_to_device, device=device, non_blocking=True)
        return on_device(read_batches(self.loader), move, device)

    def finish(self, batch: Batch, *key: int) -> None:
        """Turn the bytes of a batch into network input in place; the key seeds what is drawn."""
        if self.to_input is not None:
            batch["image"] = self.to_input(batch["image"], *key)

    def eagerly(self) -> AbstractContextManager[Any]:
        """Return a context in which compiled blocks run as they are: hooks are called, and nothing is compiled anew."""
        return torch.compiler.set_stance("force_eager") if self.recipe.compile else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors that resuming needs, by part."""
        scaler = self.accelerator.scaler
        return {
            "task": self.task.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.task.load_state_dict(state["task"])
        optimizer = self.optimizer.optimizer
        for saved, group in zip(state["optimizer"]["param_groups"], optimizer.param_groups, strict=False):
            if "fused" in group:  # as this device does it, whichever device saved
                saved["fused"] = group["fused"]
        optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def kept_weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights for a checkpoint: "model", and "model_ema" where the run averages them."""
        states = {"model": self.network.state_dict()}
        if self.ema is not None:
            states["model_ema"] = self.ema.module.state_dict()
        return states


def open_accelerator(recipe: Recipe, device: str) -> Accelerator:
    """Join the processes of the launcher, on a device ("auto", "cpu" or "cuda") in the recipe's precision.

    Raises:
        SettingsError: see `require_device`.
        TrainingError: the device is not here, or lacks the precision.
    """
    require_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("got device cuda, but no CUDA device here: use cpu or auto")
    try:
        accelerator = new_accelerator(device == "cpu", "no" if recipe.precision == "fp32" else recipe.precision)
    except ValueError as error:
        raise TrainingError(f"got precision {recipe.precision}, which this device lacks ({error}): use fp32") from None
    if recipe.precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("got precision fp16 on a CPU, expected fp32 or bf16")
    return accelerator


@contextmanager
def in_one_order(device: torch.device) -> Iterator[None]:
    """Let cuDNN add in one order within the block: a resumed run on a GPU has the bits of an undisturbed one."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _open_batches(train_set: Any, recipe: Recipe, accelerator: Accelerator) -> tuple[KeyedBatchSampler, DataLoader]:
    sampler = KeyedBatchSampler(
        len(train_set),
        recipe.batch_size,
        recipe.seed,
        images=recipe.train_images,
        repeats=recipe.repeated_augmentation,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        accumulate=recipe.accumulate,
    )
    # accelerate does not prepare the loader: the sampler already gives each process its own images.
    loader = open_loader(
        KeyedDataset(train_set, recipe.seed),
        recipe.workers,
        _lists_by_name if recipe.task == "detect" else stack_by_name,
        batch_sampler=sampler,
        pin_memory=accelerator.device.type == "cuda",
    )
    return sampler, loader


def _lists_by_name(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return a batch of images of any sizes: lists by name."""
    return {name: [item[name] for item in items] for name in items[0]}


def build_network(recipe: Recipe, num_classes: int, events: Events = QUIET) -> nn.Module:
    """Build the recipe's network, its weights random (from the recipe's seed) or of the checkpoint to fine-tune.

    Raises:
        RecipeError, CheckpointError: see `load_to_finetune`.
    """
    options: dict[str, Any] = {"drop_path_rate": recipe.drop_path_rate, **network_config(recipe, num_classes)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        if recipe.short_side_min:
            options["min_size"] = (*range(recipe.short_side_min, recipe.image_size, 32), recipe.image_size)
        network = create_network(recipe.architecture, **options)
        if recipe.init == "fan_in":
            for module in network.modules():
                if isinstance(module, ATMNet):
                    init_fan_in(module.stages)
    if recipe.finetune:
        load_to_finetune(network, recipe, num_classes, events)
    return network


def build_task(network: nn.Module, recipe: Recipe, events: Events = QUIET) -> TrainingTask:
    """Build the network's loss; layers that only training needs are drawn from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.seed, "task"))
        if isinstance(network, ATMNet):
            return ClassificationTask(network, recipe)
        if recipe.task == "segment":
            return SegmentationTask(network, recipe)
        task = DetectionTask(network, recipe)
    if task.fixed:
        events.message(f"{recipe.model} as in mmdetection: stem, first stage and batch norm statistics are frozen")
    return task


def build_optimizer(task: TrainingTask, recipe: Recipe, on_gpu: bool = False) -> torch.optim.Optimizer:
    """Build timm's optimizer, with weight decay on the parameters that the recipe's `decay` names.

    AdamW updates all parameters in one kernel on a GPU.

    Raises:
        SettingsError: timm has no such optimizer, or it needs second derivatives.
    """
    rates: dict[float, list[Tensor]] = {0.0: [], recipe.weight_decay: []}
    without = task.no_weight_decay()
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            rates[0.0 if name in without else recipe.weight_decay].append(parameter)
    groups = [{"params": parameters, "weight_decay": rate} for rate, parameters in rates.items() if parameters]
    fused: dict[str, Any] = {"fused": True} if on_gpu and recipe.optimizer == "adamw" else {}
    try:
        optimizer = create_optimizer_v2(groups, opt=recipe.optimizer, lr=recipe.scaled_lr, **fused)
        if getattr(optimizer, "is_second_order", False):
            raise ValueError("it needs second derivatives")
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"got optimizer {recipe.optimizer!r} ({summarize(error)}), expected a timm optimizer, e.g. adamw"
        ) from None
    return optimizer


def build_scheduler(optimizer: torch.optim.Optimizer, recipe: Recipe, updates_per_epoch: int) -> Scheduler:
    """Build timm's schedule with warm-up, in the recipe's learning rate steps: epochs or updates."""
    by_epoch, is_step = recipe.lr_steps == "epoch", recipe.schedule == "step"
    steps = 1 if by_epoch else updates_per_epoch  # per epoch
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="multistep" if is_step else recipe.schedule,
        decay_rate=0.1 if is_step else recipe.poly_power,  # timm's name for the power; cosine has none
        # timm lowers the rate one step before a milestone; with + 1 the first step after it has the lower rate.
        decay_milestones=[math.ceil(round(epoch * steps, 6)) + 1 for epoch in recipe.decay_epochs],
        num_epochs=recipe.epochs * steps,
        warmup_epochs=recipe.warmup_epochs * steps,  # type: ignore[arg-type]
        warmup_lr=recipe.warmup_lr,
        min_lr=recipe.min_lr,
        step_on_epochs=by_epoch,
        updates_per_epoch=1,  # all of the above are in steps
    )
    assert scheduler is not None
    return scheduler


def build_mixup(recipe: Recipe, num_classes: int) -> Mixup | None:
    """Build timm's Mixup and CutMix, which takes one of the two for each batch; None where the recipe has neither."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    return Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=num_classes)


def open_data(recipe: Recipe) -> tuple[Any, Any]:
    """Open the recipe's training and validation images.

    Raises:
        DatasetError: they cannot be read, or do not have the same classes.
    """
    name, size = recipe.dataset, recipe.image_size
    options: dict[str, Any] = {"data_dir": recipe.data_dir, "seed": recipe.seed}
    train_set: Any
    if recipe.task == "segment":
        views = ViewAugmentation(recipe.scale_min, recipe.scale_max, recipe.hflip, recipe.photometric)
        train_set = open_segmentation(name, "train", size, augmentation=views, **options)
    elif recipe.task == "detect":
        train_set = open_detection(name, "train", size, hflip=recipe.hflip, **options)
    else:
        augmentation = Augmentation(**{item.name: getattr(recipe, item.name) for item in fields(Augmentation)})
        train_set = open_labeled(name, "train", size, augmentation=augmentation, **options)
    # Without the seed: validation images are the same for all seeds.
    val_settings = EvaluationSettings(name, recipe.data_dir, size=size, crop_pct=recipe.crop_pct)
    val_set: Any = open_images(recipe.task, val_settings)
    require_same_classes(train_set, val_set)
    return train_set, val_set


def network_config(recipe: Recipe, num_classes: int) -> dict[str, Any]:
    """Return the network's constructor arguments: the number of classes, and what differs from the release."""
    usual: dict[str, Any] = {**NETWORK_OPTIONS, "dim": PYRAMID_DIM}
    if recipe.head in ("mask_rcnn", "cascade_mask_rcnn"):
        usual["box_samples"] = BOX_SAMPLES
    changed = {name: getattr(recipe, name) for name, value in usual.items() if getattr(recipe, name) != value}
    sizes = {"min_size": recipe.image_size, "max_size": recipe.long_side} if recipe.task == "detect" else {}
    return {"num_classes": num_classes, **sizes, **changed}
