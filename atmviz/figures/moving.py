"""Moving pictures: figures as frames of an MP4 or a GIF, written one by one."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from PIL import GifImagePlugin, Image, ImageChops

from atmviz.errors import AtmvizError
from atmviz.figures.saving import MOVING_BOX, MovingFormat
from atmviz.figures.style import Look
from atmviz.files import readable_name

MOST_GIF_RATE = 50.0  # frames per second: viewers show shorter ones for a tenth of a second
_CODEC = "mp4v"
_LARGEST = 8191  # side of a frame of MPEG-4, px
_DIFFERENT = 96  # colors of a GIF's frame, of 256


def pixels_of(figure: Figure, look: Look, dpi: float) -> np.ndarray:
    """Return a figure as a PNG of it has it: RGB, uint8, [height, width, 3]."""
    buffer = io.BytesIO()
    with look.applied():
        figure.savefig(buffer, format="rgba", dpi=dpi)
    width, height = (int(side) for side in figure.get_size_inches() * dpi)
    image = Image.frombuffer("RGBA", (width, height), buffer.getvalue())
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


@contextmanager
def moving_file(path: Path, rate: float, about: bytes) -> Iterator["_Mp4 | _Gif"]:
    """Open a file for frames; its `write` takes them one by one, RGB, uint8, [height, width, 3], of one size.

    Args:
        path: It ends in .mp4 or .gif, and is replaced.
        rate: Frames per second.
        about: What the file says of itself; see `saving.moving_about`.

    Raises:
        AtmvizError: it cannot be written.
    """
    kind: MovingFormat = path.suffix.lower()[1:]  # type: ignore[assignment]
    file = (_Gif if kind == "gif" else _Mp4)(path, rate, about)
    try:
        yield file
        file.finish()
    finally:
        file.close()


class _Mp4:
    """MPEG-4, by OpenCV, with what it shows in a box at the end. The codec takes even sides: a white line is added."""

    def __init__(self, path: Path, rate: float, about: bytes) -> None:
        self._path, self._rate, self._about = path, rate, about
        self._writer: Any = None
        self._frames = 0

    def write(self, frame: np.ndarray) -> None:
        height, width, _ = frame.shape
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)
        self._writer = self._writer or self._opened(frame.shape[1], frame.shape[0])
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def _opened(self, width: int, height: int) -> Any:
        if max(width, height) > _LARGEST:
            raise AtmvizError(f"got frames of {width}x{height} px, expected {_LARGEST} px at most: lower the dpi")
        code = cv2.VideoWriter.fourcc(*_CODEC)
        with readable_name(self._path) as name:
            writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, code, self._rate, (width, height))
        if not writer.isOpened():
            raise AtmvizError(f"cannot write {self._path.name} ({_CODEC}, {self._rate:g} frames/s): write a GIF")
        return writer

    def finish(self) -> None:
        """Complete the file."""
        self.close()
        with readable_name(self._path) as name:
            written = cv2.VideoCapture(name, cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT)
        if written != self._frames:  # OpenCV says nothing of a full disk
            raise AtmvizError(f"cannot write {self._path.name} ({self._frames} frames): make room on the disk")
        with self._path.open("ab") as file:
            file.write((8 + len(MOVING_BOX) + len(self._about)).to_bytes(4, "big") + b"uuid" + MOVING_BOX + self._about)

    def close(self) -> None:
        """End the codec."""
        if self._writer is not None:
            self._writer.release()


class _Gif:
    """A GIF that repeats; each frame holds the part that changed, with 256 colors of its own."""

    def __init__(self, path: Path, rate: float, about: bytes) -> None:
        self._file, self._rate, self._about = path.open("wb"), rate, about
        self._before: Image.Image | None = None
        self._frames = 0

    def write(self, frame: np.ndarray) -> None:
        image = Image.fromarray(frame)
        box = (0, 0, *image.size)
        if self._before is None:
            self._file.write(_gif_header(image.size, self._about))
        else:
            box = ImageChops.difference(image, self._before).getbbox() or (0, 0, 1, 1)
        start, end = (round(100 * number / self._rate) for number in (self._frames, self._frames + 1))
        part = _in_256_colors(image.crop(box), paper=image.getpixel((0, 0)))
        options: dict[str, Any] = {"duration": 10 * (end - start), "include_color_table": True, "disposal": 1}
        self._file.writelines(GifImagePlugin.getdata(part, box[:2], **options))
        self._before, self._frames = image, self._frames + 1

    def finish(self) -> None:
        """Complete the file."""
        self._file.write(b";")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _in_256_colors(image: Image.Image, paper: Any) -> Image.Image:
    """Return an image in the colors of most pixels, in the most different ones, which keep small marks, and in paper.

    Parts of frames are drawn over each other: the color of the paper, (R, G, B), must be the same in all.
    """
    frequent = image.quantize(255 - _DIFFERENT, Image.Quantize.MEDIANCUT).getpalette() or []
    different = image.quantize(_DIFFERENT, Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*frequent, *different, *paper])
    indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    indices[(np.asarray(image) == paper).all(-1)] = (len(frequent) + len(different)) // 3
    part = Image.fromarray(indices)
    part.putpalette(palette.getpalette() or [])
    return part


def _gif_header(size: tuple[int, int], about: bytes) -> bytes:
    """Return the start of a GIF: its size, without common colors, what it says of itself, and that it repeats."""
    screen = b"".join(side.to_bytes(2, "little") for side in size) + b"\0\0\0"
    blocks = (about[at : at + 255] for at in range(0, len(about), 255))
    comment = b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return b"GIF89a" + screen + comment + b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
