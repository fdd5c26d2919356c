"""Everything a training run keeps on disk: recipe, state, weights, logs, and the lock on its folder."""

import contextlib
import errno
import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from atmviz.checkpoints import write_checkpoint
from atmviz.errors import RecipeError, TrainingError, count, join_limited, reason_of, summarize
from atmviz.events import QUIET, Events
from atmviz.files import atomic_path, write_csv
from atmviz.training.health import OffsetHealth
from atmviz.training.recipe import SCHEDULE_SETTINGS, Recipe

_STATE_FORMAT = 3
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RESULTS = ("last.safetensors", "best.safetensors", "log.csv", "offsets.csv")


@dataclass
class RunState:
    """How far a run is, and what it has logged.

    Attributes:
        data: Class names ("classes") and number of training images ("images").
        epoch: Finished epochs.
        updates_done: Finished updates of the current epoch.
        totals: Sums over the epoch so far: each logged value times its images, and the images. On disk one value per
            process.
        history: Rows of log.csv.
        health: Rows of offsets.csv.
        best: Headline metric of the best epoch in percent, NaN before the first.
    """

    data: dict[str, Any]
    epoch: int = 0
    updates_done: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    best: float = math.nan

    def add_health(self, epoch: int, health: list[OffsetHealth]) -> None:
        """Append the rows of an epoch to `health`."""
        self.health += [{"epoch": epoch, **layer.row()} for layer in health]


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, which need not exist yet; one with a run of another recipe is refused."""

    path: Path
    recipe: Recipe

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder within the block; a killed process releases its lock.

        Raises:
            TrainingError: another process trains there.
        """
        if self.path.exists() and not os.access(self.path, os.W_OK):
            yield
            return
        created = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise TrainingError(
                f"another process trains in {self.path}: wait for it, or choose another folder"
            ) from None
        try:
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
            with contextlib.suppress(OSError):  # a run that did not even begin leaves no folder behind
                for folder in created:
                    folder.rmdir()

    def load(self, events: Events = QUIET) -> tuple[RunState, dict[str, Any]] | None:
        """Read the saved state and the tensors of the parts; None for a new run.

        A finished run of fewer epochs is continued; `events` receives a line that says so.

        Raises:
            TrainingError: the state is damaged or of another version, or there are results without a state.
            RecipeError: the folder belongs to a run of another recipe.
        """
        file = self.path / "state.pt"
        if not file.exists():
            self._require_nothing_to_lose()
            return None
        try:
            with zipfile.ZipFile(file) as archive:  # torch does not compare the checksums
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"{damaged} has another checksum")
            with warnings.catch_warnings(action="ignore"):
                saved = torch.load(file, map_location="cpu", weights_only=True)
            if saved["format"] != _STATE_FORMAT:
                raise TrainingError(
                    f"{file} is of another version of atmviz: finish it there, or choose another folder"
                )
            recipe = Recipe.from_stored(saved["recipe"])
        except (PermissionError, TrainingError):
            raise
        except Exception as error:  # a damaged file makes torch raise almost anything
            raise TrainingError(
                f"{file} is damaged or not the state of a run ({type(error).__name__}): "
                "restore it, or choose another folder"
            ) from None
        differences = self.recipe.differences(recipe)
        if differences and self._continues(recipe, saved["epoch"]):
            events.message(
                f"{self.path} has finished {count(saved['epoch'], 'epoch')} and is trained further; the next epochs "
                f"have the learning rates of a run of {self.recipe.all_epochs} epochs ({'; '.join(differences)})"
            )
        elif differences:
            raise RecipeError(
                f"{self.path} holds a run of another recipe ({'; '.join(differences)}): "
                "repeat its settings to resume, or choose another folder"
            )
        with self.fitting():
            return RunState(**{item.name: saved.pop(item.name) for item in fields(RunState)}), saved

    def _continues(self, finished: Recipe, epoch: Any) -> bool:
        """Whether this recipe is that of a run of `epoch` finished epochs, but for more epochs."""
        schedule = {name: getattr(self.recipe, name) for name in SCHEDULE_SETTINGS}
        is_same = not self.recipe.differences(replace(finished, **schedule))
        return is_same and epoch == finished.all_epochs < self.recipe.all_epochs

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Raise TrainingError in place of errors within the block: the saved state does not fit the run."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise TrainingError(
                f"{self.path / 'state.pt'} does not fit this run ({summarize(error)}): choose another folder"
            ) from None

    def require_same_data(self, saved: RunState, data: dict[str, Any]) -> None:
        """Raise TrainingError if a run was trained on other data."""
        then, now = (
            f"{x['images']} images of {len(x['classes'])} classes, {join_limited(x['classes'], 5)}"
            for x in (saved.data, data)
        )
        if saved.data != data:
            raise TrainingError(
                f"the data are not those that {self.path} was trained on (then {then}; now {now}): "
                "restore them, or choose another folder"
            )

    def _require_nothing_to_lose(self) -> None:
        """Refuse a folder with results or another recipe but no state; a run killed early leaves its recipe."""
        if results := [name for name in _RESULTS if (self.path / name).exists()]:
            raise TrainingError(
                f"{self.path} holds {', '.join(results)} but no state.pt to resume from: "
                "choose another folder, or move them away to start again"
            )
        recipe = self.path / "recipe.yaml"
        if recipe.exists() and recipe.read_text("utf-8", "replace") != self.recipe.to_yaml():
            raise RecipeError(
                f"{recipe} is another recipe, which a run would replace: choose another folder, or move it"
            )

    def write_recipe(self) -> None:
        """Write recipe.yaml, which claims the folder."""
        with atomic_path(self.path / "recipe.yaml") as temporary:
            temporary.write_text(self.recipe.to_yaml(), "utf-8")

    def save(self, state: RunState, tensors: dict[str, Any]) -> None:
        """Replace state.pt atomically by all that resuming needs."""
        saved = {"format": _STATE_FORMAT, "recipe": asdict(self.recipe), **vars(state), **tensors}
        with atomic_path(self.path / "state.pt") as temporary:
            torch.save(saved, temporary)

    def write_epoch(
        self, state: RunState, weights: dict[str, dict[str, Tensor]], config: dict[str, Any], is_best: bool
    ) -> None:
        """Write the weights and the logs of the epoch that is last in the state's history."""
        recipe = self.recipe
        about = {
            **{name: getattr(recipe, name) for name in ("dataset", "image_size", "crop_pct")},
            "classes": state.data["classes"],
            "recipe": asdict(recipe),
            **state.history[-1],
        }
        for name in ("last", "best") if is_best else ("last",):
            write_checkpoint(self.path / f"{name}.safetensors", str(recipe.architecture), config, weights, about)
        write_csv(self.path / "log.csv", state.history)
        write_csv(self.path / "offsets.csv", state.health)

    def open_tensorboard(self, updates: int) -> SummaryWriter:
        """Open the event files after `updates` updates; later entries, of an interrupted run, are purged."""
        return SummaryWriter(str(self.path / "tensorboard"), purge_step=updates or None)

    @property
    def last_good(self) -> str:
        """Path of the last good weights, as part of a sentence."""
        weights = self.path / "last.safetensors"
        return f"the last good checkpoint is {weights}" if weights.exists() else "no checkpoint was saved before"

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Raise TrainingError in place of the errors of a full disk or folder and of a missing compiler."""
        try:
            yield
        except (OSError, SafetensorError, RuntimeError) as error:
            if "No working C++ compiler" in str(error):
                raise TrainingError(
                    "got compile on a machine without a C++ compiler: install g++, or turn compile off"
                ) from None
            # The texts of torch.save on a full disk
            in_torch = any(text in str(error) for text in ("PytorchStreamWriter", "inline_container"))
            elsewhere = isinstance(error, FileNotFoundError) or getattr(error, "errno", None) == errno.EMFILE
            if elsewhere or not (isinstance(error, OSError | SafetensorError) or in_torch):
                raise
            reason = reason_of(error)
            is_full = not isinstance(error, OSError) or error.errno in _DISK_FULL
            remedy = "free disk space, then run the same command to resume" if is_full else "choose another folder"
            raise TrainingError(
                f"cannot save in {self.path} ({reason}): earlier checkpoints are intact; {remedy}"
            ) from None


def write_board(board: SummaryWriter, row: dict[str, float], health: list[OffsetHealth]) -> None:
    """Add an epoch's row of the log and its offset statistics to TensorBoard."""
    step = int(row["updates"])
    for name, value in row.items():
        if name not in ("epoch", "updates"):
            board.add_scalar(name.replace("_", "/", 1), value, step)
    for layer in health:
        for name, value in layer.row().items():
            if name != "layer":
                board.add_scalar(f"offsets_{name}/{layer.layer}", value, step)
    board.flush()
