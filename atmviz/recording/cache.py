"""Cached recordings, from which a figure is drawn again without the model. Torch-free until it records."""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from atmviz.architecture import INITIAL, is_architecture, is_random
from atmviz.errors import DatasetError, RecordingFormatError
from atmviz.files import VERSION, cache_folder, file_name, find_checkpoint, sha256_of_file
from atmviz.recording.array_files import is_recording
from atmviz.recording.layout import SCHEMA_VERSION
from atmviz.recording.settings import DEFAULT_BATCH, RecordingSettings
from atmviz.recording.store import Recording, open_recording
from atmviz.sources import Source


@dataclass(frozen=True)
class RecordingRequest:
    """Everything that decides what a recording holds.

    Attributes:
        images: The images.
        checkpoint: What `load_model` takes.
        weights: "ema", "model", or None for the averaged ones where the file has them.
        settings: How the images are recorded.
        seed: Seed of weights that are drawn.
    """

    images: Source
    checkpoint: str | Path
    weights: str | None
    settings: RecordingSettings
    seed: int = 0

    def key(self) -> str:
        """Return a fingerprint of atmviz, checkpoint, images (names, sizes, times) and settings."""
        files = hashlib.sha256()
        for index in range(len(self.images)):
            line = f"{self.images.name(index)}\0{self.images.fingerprint(index)}\n"
            files.update(line.encode("utf-8", "surrogatepass"))
        name = str(self.checkpoint).removeprefix(INITIAL)
        checkpoint = name if is_architecture(name) else sha256_of_file(find_checkpoint(name))
        described: dict[str, Any] = {
            "atmviz": VERSION,  # how images are read and fitted
            "schema": SCHEMA_VERSION,
            "checkpoint": checkpoint,
            "random": [str(self.checkpoint), self.seed] if is_random(self.checkpoint) else None,
            "weights": self.weights,
            "preprocessing": asdict(self.settings.preprocessing_of(self.images.title)),
            "query": self.settings.query,
            "batch_size": self.settings.batch_size or DEFAULT_BATCH["cpu"],  # whichever device finds it
            "root": self.images.root,
            "sampling": dict(self.images.sampling),
            "files": files.hexdigest(),
            "keep": self.settings.keep,
            "labels": self.settings.labels,
            "masks": self._masks(),
        }
        if self.settings.precision != "fp32":
            described["precision"] = self.settings.precision
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]

    def _masks(self) -> list[str]:
        """Return a text for each image that changes with the file of its labels; none where labels are not recorded."""
        if self.settings.labels is None:
            return []
        from atmviz.recording.labels import with_labels  # loads OpenCV

        images = self.images if self.settings.labels == "auto" else with_labels(self.images, self.settings.labels)[0]
        fingerprint = getattr(getattr(images, "labels", None), "fingerprint", None)
        return [fingerprint(images, index) for index in range(len(images))] if fingerprint else []


def cached_recording(request: RecordingRequest, record: Callable[[Path], Recording]) -> Recording:
    """Return the finished recording of a request, from the cache or made there by `record(folder)`.

    A cached recording without images that can be read now is given to `record` again.

    Raises:
        RecordingFormatError: what is cached is damaged, or another process is at work on it.
    """
    folder = cache_folder() / "recordings" / file_name(f"{request.images.title}-{request.key()}")
    try:
        if is_recording(folder):
            recording = open_recording(folder)
            if recording.complete and not _can_be_read(request.images, recording.skipped):
                with suppress(OSError):
                    os.utime(folder)  # when it was last used
                return recording
        recording = record(folder)
    except RecordingFormatError as error:
        raise RecordingFormatError(f"{error} (a cached recording)") from None
    if not recording.complete:
        raise RecordingFormatError(f"another process writes the cached recording {folder}: try again when it is done")
    return recording


def _can_be_read(images: Source, names: list[str]) -> bool:
    """Whether an image that was skipped can be read now."""
    skipped = set(names)
    for index in range(len(images)) if skipped else ():
        if images.name(index) in skipped:
            with suppress(DatasetError):
                images.read(index)
                return True
    return False


@dataclass(frozen=True)
class CacheEntry:
    """A recording or a compiled kernel in the cache of this user.

    Attributes:
        kind: "recording" or "kernel".
        path: Its folder or file.
        bytes: What it takes on the disk, without what links lead to.
        used: When it was last used, in seconds since 1970.
    """

    kind: Literal["recording", "kernel"]
    path: Path
    bytes: int
    used: float


def cache_entries() -> tuple[Path, list[CacheEntry]]:
    """Return the folder of the cache and what atmviz keeps there for this user, the last used first.

    Links, files of other users and what atmviz did not name are no entries.
    """
    base = cache_folder()
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    found: list[CacheEntry] = []
    for folder, kind in ((base / "recordings", "recording"), (base / f"kernels-{user}", "kernel")):
        if _is_ours(folder, is_folder=True):
            found += filter(None, (_entry(path, kind) for path in folder.iterdir()))  # type: ignore[arg-type]
    return base, sorted(found, key=lambda entry: entry.used, reverse=True)


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry if it is still one, and return whether it is gone. Links in it are removed, not followed."""
    if _entry(entry.path, entry.kind) is None:
        return False
    with suppress(OSError):
        if entry.kind == "recording":
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    return not os.path.lexists(entry.path)


_NAMES = {"recording": re.compile(r".*-[0-9a-f]{10}([0-9a-f]{10})?"), "kernel": re.compile(r"[0-9a-f]{16}\.so")}


def _entry(path: Path, kind: Literal["recording", "kernel"]) -> CacheEntry | None:
    """Return the entry that a path is, None for anything else."""
    if not _NAMES[kind].fullmatch(path.name) or not _is_ours(path, is_folder=kind == "recording"):
        return None
    with suppress(OSError):
        status = path.lstat()
        return CacheEntry(kind, path, sum(_sizes(path)) if kind == "recording" else status.st_size, status.st_mtime)
    return None


def _is_ours(path: Path, is_folder: bool) -> bool:
    """Whether a path is a folder or a regular file of this user, and no link."""
    with suppress(OSError):
        status = path.lstat()
        is_kind = stat.S_ISDIR(status.st_mode) if is_folder else stat.S_ISREG(status.st_mode)
        return is_kind and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())
    return False


def _sizes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False).st_size
