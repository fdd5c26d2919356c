"""Clips as a source of frames, one after another in constant memory. Torch-free."""

import os
import re
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from atmviz.errors import DatasetError, count
from atmviz.files import CLIP_BOXES, ESTIMATED, MPEG, foreign_content, is_video, read_start, readable_name
from atmviz.sources.decoding import require_large_enough, unreadable
from atmviz.sources.source import Truth

# A playlist would make FFmpeg read other files or ask a server. Its first bytes are those of no clip: see `is_video`.
# From OpenCV 5 on, FFmpeg itself is also told to open local files alone, in the formats of clips
_FFMPEG = "protocol_whitelist;file|format_whitelist;mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,gif"
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # silent; read once, when the first clip is opened or written
_SOUND = re.compile(rb"hdlr.{8}soun|auds|A_(?:AAC|AC3|FLAC|MPEG|OPUS|PCM|VORBIS)", re.DOTALL)
_SOUND_OF_MPEG = re.compile(rb"\0\0\x01[\xc0-\xdf\xbd]")
_MOST_PIXELS = 90_000_000  # of a frame
_MAX_INDEX_BYTES = 2**25
_RATES = 0.01, 1000.0  # frames per second
_MENDING = "convert it to MP4 (H.264), or copy it again"


@dataclass
class Clip:
    """The frames of a clip, a `Source`. They are upright, and read fastest in order.

    Attributes:
        path: The file.
        frames: How many can be read.
        rate: Frames per second; the mean where it varies.
        note: One line for people on what is not kept.
        sampling: {"limit": N, "of": M} for the first N of M frames; else empty.
    """

    path: Path
    frames: int
    rate: float
    note: str = ""
    sampling: Mapping[str, int] = field(default_factory=dict)
    _capture: Any = field(default=None, repr=False, compare=False)
    _next: int = field(default=0, repr=False, compare=False)
    _shape: tuple[int, ...] = field(default=(), repr=False, compare=False)

    @property
    def title(self) -> str:
        """The file's name without suffix."""
        return self.path.stem

    @property
    def root(self) -> str:
        """The file's folder."""
        return str(self.path.parent)

    def __len__(self) -> int:
        return self.frames

    def name(self, index: int) -> str:
        """Return the file's name with the number of a frame, from 0."""
        return f"{self.path.name}, frame {index}"

    def read(self, index: int) -> np.ndarray:
        """Return a frame as RGB, uint8, [H, W, 3], upright; raise DatasetError where it cannot be read."""
        if self._capture is None or index < self._next:
            self._capture, self._next = _open(self.path), 0
        while self._next < index and self._capture.grab():
            self._next += 1
        is_read, pixels = self._capture.read()
        self._next += 1
        if not is_read or (self._shape and pixels.shape != self._shape):
            what = f"changes its size at frame {index}" if is_read else f"frame {index} cannot be decoded"
            raise _unreadable(self.path, what)
        self._shape = pixels.shape
        return cv2.cvtColor(require_large_enough(pixels, self.path), cv2.COLOR_BGR2RGB)

    def truth(self, index: int) -> Truth | None:
        """Return None: nothing is known of a frame."""
        return None

    def require_truth(self) -> str:
        """Raise DatasetError: a clip has no annotations."""
        raise DatasetError(f"{self.path} has no annotations, expected images that have: choose a dataset")

    def fingerprint(self, index: int) -> str:
        """Return size and time of the file."""
        stat = self.path.stat()
        return f"{stat.st_size}\0{stat.st_mtime_ns}"

    def sample(self, limit: int, seed: int) -> Self:
        """Return the first `limit` frames."""
        if limit >= self.frames:
            return self
        return replace(self, frames=limit, sampling={"limit": limit, "of": self.frames}, _capture=None)


def open_clip(path: str | Path) -> Clip:
    """Open a clip: MP4, QuickTime, Matroska, WebM, AVI, MPEG or an animated GIF. Its frames are counted, not kept.

    Raises:
        DatasetError: no such file, no clip, one of an unknown codec, or one without frames.
    """
    path = Path(path)
    times, capture = array("d"), _open(path)
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    if not times:
        raise _unreadable(path, "it holds no frame that can be decoded")
    said, announced = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate, is_even = _rate(np.frombuffer(times), said)
    if not _RATES[0] <= rate <= _RATES[1]:
        raise _unreadable(path, f"it has {rate:g} frames per second")
    notes = [] if is_even else [f"its frames are not evenly spaced: they are shown at their mean rate, {rate:.4g}/s"]
    head = read_start(path, 12)
    # estimated from the length in time, which is that of the sound where it is longer
    slack = min(rate, announced / 4) if head.startswith(ESTIMATED) else 0
    if len(times) < announced - slack:
        notes.append(f"only {count(len(times), 'frame')} of {announced:,} can be read: it is cut off or damaged")
    if (_SOUND_OF_MPEG if head.startswith(MPEG) else _SOUND).search(_index_of(path)):
        notes.append("its sound is left out")
    return Clip(path, len(times), rate, f"{path.name}: {'; '.join(notes)}" if notes else "")


def _rate(times: np.ndarray, said: float) -> tuple[float, bool]:
    """Return frames per second, and whether frames are evenly spaced, from their times, s, and what the file says."""
    length = times[-1] - times[0]
    if len(times) < 2 or not length > 0:
        return said, True
    mean = (len(times) - 1) / length
    drift = np.abs(times - times[0] - np.arange(len(times)) / mean).max() * mean
    is_even = bool(drift < 0.5)  # of a frame: containers round times
    return (said if is_even and abs(said / mean - 1) < 0.02 else mean), is_even


def _open(path: Path) -> Any:
    """Return an opened capture of a file that is a clip by its first bytes."""
    try:
        head = read_start(path, 512)
    except (OSError, ValueError) as error:  # the latter: a zero byte in the name
        raise unreadable("clip", path, error) from None
    if not is_video(head) and not head.startswith(b"GIF8"):
        foreign = (foreign_content(head) or "").partition(":")[0]  # without its remedy
        raise _unreadable(path, foreign or "no clip of a known kind: MP4, MOV, MKV, WebM, AVI, MPEG, GIF")
    with _only_local(), readable_name(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise _unreadable(path, "it is cut off or damaged, or its codec is unknown")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    if (pixels := capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) > _MOST_PIXELS:
        raise _unreadable(path, f"frames of {pixels:,.0f} pixels, expected {_MOST_PIXELS:,} or fewer")
    return capture


def _unreadable(path: Path, what: str) -> DatasetError:
    return DatasetError(f"cannot read clip {path} ({what}): {_MENDING}")


@contextmanager
def _only_local() -> Iterator[None]:
    """Let FFmpeg read files alone, and only as clips; OpenCV prints nothing."""
    set_level: Any = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4 and 5
    name, level = "OPENCV_FFMPEG_CAPTURE_OPTIONS", set_level(0)
    before = os.environ.get(name)
    os.environ[name] = _FFMPEG
    try:
        yield
    finally:
        set_level(level)
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _index_of(path: Path) -> bytes:
    """Return the part of a clip that lists its tracks: `moov` of an MP4, the start of others."""
    with path.open("rb") as file:
        at, end = 0, os.fstat(file.fileno()).st_size
        while at + 8 <= end:
            file.seek(at)
            size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if kind == b"moov":
                return file.read(min(size, _MAX_INDEX_BYTES))
            size = int.from_bytes(file.read(8), "big") if size == 1 else size
            if size < 8 or (at == 0 and kind not in CLIP_BOXES):
                break
            at += size
        file.seek(0)
        return file.read(2**16)
