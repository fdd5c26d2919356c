"""Image files: folders, globs and single files as one source. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from glob import has_magic
from importlib import resources
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from atmviz.errors import DatasetError
from atmviz.files import is_video, near_path, read_start
from atmviz.geometry import MIN_SIZE_PX
from atmviz.sources.decoding import decode_image, orientation_of, read_file, require_large_enough
from atmviz.sources.listing import (
    ATMVIZ_FIGURE,
    LeftOut,
    Listing,
    describe_left_out,
    holds_images,
    is_atmviz_figure,
    list_images,
)
from atmviz.sources.source import Truth, draw_sample, turn_truth


class Labels(Protocol):
    """What is known of image files: read from their folders' names or from annotation files, when first asked for."""

    def truth(self, images: "ImageFiles", index: int) -> Truth | None:
        """Return what is known of an image, in the pixels as they lie in its file."""

    def require(self, images: "ImageFiles") -> str:
        """Raise DatasetError where annotations are missing; return a line for people on where they are, or ""."""


@dataclass(frozen=True)
class ImageFiles:
    """An ordered list of image files, a `Source`.

    Attributes:
        title: Short name for titles and file names, e.g. "ade20k".
        folder: Folder that `names` are relative to.
        names: Paths below `folder`, with "/" between parts.
        left_out: Files and folders that do not count, by reason.
        sampling: How the images were drawn from more, e.g. {"limit": 5000, "seed": 0, "of": 50000}; else empty.
        labels: What is known of the images.
        upright: Whether `read` applies the rotation that EXIF asks for; False keeps pixels as they lie in the file.
        min_side_px: Shorter sides are refused; by default those under one token of the last stage.
    """

    title: str
    folder: Path
    names: tuple[str, ...]
    left_out: LeftOut = field(default_factory=dict, compare=False)
    sampling: Mapping[str, int] = field(default_factory=dict)
    labels: Labels | None = field(default=None, compare=False)
    upright: bool = True
    min_side_px: int = MIN_SIZE_PX

    @property
    def root(self) -> str:
        """The folder as text."""
        return str(self.folder)

    @property
    def note(self) -> str:
        """One line for people on what was left out; empty where nothing was."""
        return f"left out of {self.title}: {describe_left_out(self.left_out)}" if self.left_out else ""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the path of an image below `folder`."""
        return self.names[index]

    def path(self, index: int) -> Path:
        """Return the path of an image's file."""
        return self.folder / self.names[index]

    def content(self, index: int) -> bytes:
        """Return the bytes of an image's file; raise DatasetError."""
        return read_file(self.path(index))

    def read(self, index: int) -> np.ndarray:
        """Return an image as RGB, uint8, [H, W, 3]; raise DatasetError, see `load_image`."""
        path = self.path(index)
        return require_large_enough(decode_image(self.content(index), path, self.upright), path, self.min_side_px)

    def truth(self, index: int) -> Truth | None:
        """Return what is known of an image, turned as `read` turns its pixels."""
        truth = self.labels.truth(self, index) if self.labels else None
        if truth is None or (truth.segments is None and truth.instances is None) or not self.upright:
            return truth
        return turn_truth(truth, orientation_of(self.content(index)))

    def require_truth(self) -> str:
        """Raise DatasetError where annotations are missing; return a line for people on where they are, or ""."""
        return self.labels.require(self) if self.labels else ""

    def fingerprint(self, index: int) -> str:
        """Return size and times of an image's file; empty for a broken link."""
        return file_fingerprint(self.path(index))

    def only(self, name: str) -> Self:
        """Return the source of one of the images."""
        return replace(self, title=Path(name).stem, names=(name,), sampling={}, left_out={})

    def sample(self, limit: int, seed: int) -> Self:
        """Return a random sample of `limit` images, in the order of the whole list."""
        if limit >= len(self):
            return self
        chosen, sampling = draw_sample(len(self), limit, seed)
        return replace(self, names=tuple(self.names[i] for i in chosen), sampling=sampling)


def file_fingerprint(path: Path) -> str:
    """Return size and times of a file; empty where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"


def find_images(sources: Sequence[str | Path] | str | Path) -> ImageFiles:
    """Return the images of files, folders (searched through) and globs, in this order; folders and globs are sorted.

    Each image keeps the path it was named by: links are not replaced by their targets.

    Raises:
        DatasetError: a path does not exist, may not be read or holds no image.
    """
    sources = [sources] if isinstance(sources, str | Path) else sources
    if not sources or "" in sources:  # which pathlib takes for the working folder
        raise DatasetError("no images named: expected files, folders or globs")
    if len(sources) == 1 and os.path.isdir(sources[0]):
        root = called(sources[0])
        return ImageFiles(root.name, root, *list_images(root).require_images(sources[0]))
    paths: dict[Path, None] = {}
    left_out: dict[str, list[str]] = {}
    for source in sources:
        root, listing = _search(source)
        paths.update(dict.fromkeys(root / name for name in listing.names))
        for reason, names in listing.left_out.items():
            left_out.setdefault(reason, []).extend(os.path.relpath(root / name) for name in names)
    if not paths:
        raise DatasetError(f"no images left of those named; left out: {describe_left_out(left_out)}")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    name = Path(names[0]).stem if len(names) == 1 else root.name or "images"
    return ImageFiles(name, root, names, left_out)


def require_images(sources: Sequence[str | Path] | str | Path) -> None:
    """Raise DatasetError as `find_images` does, but list no folder further than to its first image."""
    if not sources or not all(map(_leads_to_image, [sources] if isinstance(sources, str | Path) else sources)):
        find_images(sources)


def _leads_to_image(source: str | Path) -> bool:
    path = called(source)
    if source == "":  # which pathlib takes for the working folder
        return False
    if os.path.isdir(path):
        return holds_images(path)
    if os.path.exists(path):
        return not is_atmviz_figure(path) and not _is_video(path)
    root, pattern = _split_glob(source)
    return os.path.isdir(root) and holds_images(root, pattern)


def _is_video(path: Path) -> bool:
    with suppress(OSError, ValueError):  # which reading the image reports
        return is_video(read_start(path, 12))
    return False


def _split_glob(source: str | Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder that a glob searches, and the parts of the glob below it; the path itself without a glob."""
    parts = Path(source).parts
    magic = next((k for k, part in enumerate(parts) if has_magic(part)), len(parts))
    return called(Path(*parts[:magic])), parts[magic:]


def _search(source: str | Path) -> tuple[Path, Listing]:
    """Return a folder, and the images in it that a file name, a folder or a glob means."""
    path = called(source)
    if os.path.isdir(path):
        return path, list_images(path).require_images(source)
    if os.path.exists(path):
        if _is_video(path):
            raise DatasetError(f"got the clip {source}, expected images: only an overlay takes clips; save its frames")
        names = (path.name,)
        return path.parent, Listing((), {ATMVIZ_FIGURE: names}) if is_atmviz_figure(path) else Listing(names, {})
    root, pattern = _split_glob(source)
    if os.path.isdir(root):  # not without a glob: then it is the path
        listing = list_images(root, pattern)
        if listing.names or listing.left_out:
            return root, listing.require_images(source)
    for folder in reversed((path, *path.parents)):
        require_readable(folder)
    raise DatasetError(f"no image, folder or match for {str(source)!r}: check the path{near_path(source)}")


def called(path: str | Path) -> Path:
    """Return the absolute path as it was named: only links before a ".." are followed."""
    parts = Path(path).absolute().parts
    after = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    return Path(*parts[:after]).resolve().joinpath(*parts[after:]) if after else Path(*parts)


def require_readable(folder: Path) -> None:
    """Raise DatasetError if a folder is there and may not be searched."""
    if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
        raise DatasetError(f"cannot read folder {folder} (permission denied): allow it, or choose another")


def bundled_photos() -> ImageFiles:
    """Return the photographs that come with atmviz; assets/photos/ORIGINS.md tells their origin and license."""
    root = Path(str(resources.files("atmviz_assets") / "photos"))
    return ImageFiles("photos", root, list_images(root).names)
