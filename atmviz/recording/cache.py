"""Cached recordings, from which a figure is drawn again without the model. Torch-free until it records."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atmviz.architecture import is_architecture
from atmviz.errors import DatasetError, RecordingFormatError
from atmviz.files import cache_folder, file_name, find_checkpoint, sha256_of_file
from atmviz.recording.array_files import is_recording
from atmviz.recording.layout import SCHEMA_VERSION
from atmviz.recording.settings import RecordingSettings
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
    """

    images: Source
    checkpoint: str | Path
    weights: str | None
    settings: RecordingSettings

    def key(self) -> str:
        """Return a fingerprint of atmviz, checkpoint, images (names, sizes, times) and settings."""
        files = hashlib.sha256()
        for index in range(len(self.images)):
            line = f"{self.images.name(index)}\0{self.images.fingerprint(index)}\n"
            files.update(line.encode("utf-8", "surrogatepass"))
        named = is_architecture(self.checkpoint)
        described: dict[str, Any] = {
            "atmviz": version("atmviz"),  # how images are read and fitted
            "schema": SCHEMA_VERSION,
            "checkpoint": str(self.checkpoint) if named else sha256_of_file(find_checkpoint(self.checkpoint)),
            "weights": self.weights,
            "preprocessing": asdict(self.settings.preprocessing_of(self.images.title)),
            "query": self.settings.query,
            "batch_size": self.settings.batch_size,
            "root": self.images.root,
            "sampling": dict(self.images.sampling),
            "files": files.hexdigest(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]


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
