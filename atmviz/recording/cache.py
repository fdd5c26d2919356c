"""Recordings made on the way to a figure, kept so that the next figure needs no model. Torch-free until it records."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atmviz.architecture import is_architecture
from atmviz.data.images import ImageSet, load_image
from atmviz.errors import DatasetError, RecordingFormatError
from atmviz.files import cache_folder, file_name, find_checkpoint, sha256_of_file
from atmviz.geometry import Preprocessing
from atmviz.recording.store import SCHEMA_VERSION, Recording, is_recording, open_recording


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
        """A fingerprint of atmviz, checkpoint, images (names, sizes, times) and settings."""
        files = hashlib.sha256()
        for index, name in enumerate(self.images.names):
            try:
                stat = self.images.path(index).stat()
                about = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\n"
            except OSError:  # a broken link: an unreadable image like any other
                about = f"{name}\0\n"
            files.update(about.encode("utf-8", "surrogatepass"))
        named = is_architecture(self.checkpoint)
        described: dict[str, Any] = {
            "atmviz": version("atmviz"),  # how images are read and fitted
            "schema": SCHEMA_VERSION,
            "checkpoint": self.checkpoint if named else sha256_of_file(find_checkpoint(self.checkpoint)),
            "weights": self.weights,
            "preprocessing": asdict(self.preprocessing),
            "query": self.query,
            "batch_size": self.batch_size,
            "root": str(self.images.root),
            "sampling": self.images.sampling,
            "files": files.hexdigest(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]


def cached_recording(request: RecordingRequest, record: Callable[[Path], Recording]) -> Recording:
    """The finished recording of a request, from the cache or made there by `record(folder)`.

    One with images that could not be read then, and can be now, is given to `record` again.

    Raises:
        RecordingFormatError: what is cached is damaged, or another process is at work on it.
    """
    folder = cache_folder() / "recordings" / file_name(f"{request.images.name}-{request.key()}")
    try:
        if is_recording(folder):
            recording = open_recording(folder)
            if recording.complete and not any(_can_be_read(request.images.root / name) for name in recording.skipped):
                return recording
        recording = record(folder)
    except RecordingFormatError as error:
        raise RecordingFormatError(f"{error} (a cached recording)") from None
    if not recording.complete:
        raise RecordingFormatError(f"another process writes the cached recording {folder}: try again when it is done")
    return recording


def _can_be_read(image: Path) -> bool:
    try:
        load_image(image)
    except DatasetError:
        return False
    return True
