"""Recordings made on the way to a figure, kept so that the next figure needs no model. Torch-free until it records."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

from atmviz.data.images import ImageSet
from atmviz.errors import RecordingFormatError
from atmviz.files import find_checkpoint, sha256_of_file
from atmviz.geometry import Preprocessing
from atmviz.recording.store import SCHEMA_VERSION, Recording, is_recording, open_recording
from atmviz.variants import is_architecture


@dataclass(frozen=True)
class RecordingRequest:
    """Everything that decides what a recording holds.

    Attributes:
        images: The images.
        checkpoint: What `load_model` takes.
        weights: "ema", "model", or None for the averaged ones where the file has them.
        preprocessing, query, batch_size: see `record_offsets`.
    """

    images: ImageSet
    checkpoint: str
    weights: str | None
    preprocessing: Preprocessing
    query: str
    batch_size: int

    def key(self) -> str:
        """A fingerprint of checkpoint, images (names, sizes, times) and settings."""
        files = hashlib.sha256()
        for index, name in enumerate(self.images.names):
            try:
                stat = self.images.path(index).stat()
                files.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
            except OSError:  # a broken link: an unreadable image like any other
                files.update(f"{name}\0\n".encode())
        named = is_architecture(self.checkpoint)
        described: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "checkpoint": f"{self.checkpoint} {version('atmviz')}"
            if named
            else sha256_of_file(find_checkpoint(self.checkpoint)),
            "weights": self.weights,
            "preprocessing": asdict(self.preprocessing),
            "query": self.query,
            "batch_size": self.batch_size,
            "root": str(self.images.root),
            "sampling": self.images.sampling,
            "files": files.hexdigest(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]


def cache_folder() -> Path:
    """`$ATMVIZ_CACHE`, or the user's cache folder; deleting it loses nothing but time."""
    return Path(os.environ.get("ATMVIZ_CACHE") or platformdirs.user_cache_path("atmviz"))


def cached_recording(request: RecordingRequest, record: Callable[[Path], Recording]) -> Recording:
    """The finished recording of a request, from the cache or made there by `record(folder)`."""
    folder = cache_folder() / "recordings" / f"{request.images.name}-{request.key()}"
    if is_recording(folder):
        try:
            recording = open_recording(folder)
            if recording.complete:
                return recording
        except RecordingFormatError as error:
            raise RecordingFormatError(f"{error} (a cached recording)") from None
    return record(folder)
