"""Which files are images: one rule for folders, globs and tar files, in training and recording. Torch-free."""

import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

from PIL import Image

from atmviz.errors import DatasetError, join_limited
from atmviz.files import SOFTWARE

# Raster formats only: Pillow passes some others to interpreters
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000")

# Why a file is left out
UNREADABLE = "without permission"
HIDDEN = "hidden or of a tool"
ATMVIZ_FIGURE = "figures of atmviz"
MASK = "masks of the full ADE20K"
SEEN = "folders already seen under another name"
OTHER = "files of other kinds"

_TOOL_FOLDERS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "lost+found"),
    *("__macosx", "system volume information", "thumbnails", "__pycache__"),
}
_FIGURE_MARK = f"Software\0{SOFTWARE.split()[0]} ".encode()  # of any version
_ADE20K_MASK = re.compile(r"(ADE_\w+_\d{8}_(seg|parts_\d+)|instance_\d+_ADE_\w+_\d{8})\.png", re.IGNORECASE)

LeftOut = Mapping[str, Sequence[str]]  # reason -> names


class Listing(NamedTuple):
    """Image files, as paths with "/" between parts, sorted as text; and what was left out, by reason."""

    names: tuple[str, ...]
    left_out: LeftOut

    def require_images(self, source: object) -> Self:
        """Return it; raise DatasetError, which names the `source` that was listed, where there are no images."""
        if not self.names:
            left_out = f"; left out: {describe_left_out(self.left_out)}" if self.left_out else ""
            suffixes = ", ".join(sorted(image_suffixes()))
            raise DatasetError(f"no images in {source}: expected files ending in {suffixes}{left_out}")
        return self


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that this Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the lower-case suffixes of the formats that are read."""
    known = {*readable_formats(), "MPO"}  # which JPEG's reader opens
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def list_images(folder: Path, pattern: Sequence[str] = ()) -> Listing:
    """List the images below a folder. Links are followed; each real folder is visited once, links last.

    Args:
        folder: The folder.
        pattern: Parts of a glob, "**" among them, that files or folders above them must match; all without it. Names
            that it spells out count even if they are hidden.

    Raises:
        DatasetError: the folder may not be read.
    """
    left_out: dict[str, list[str]] = defaultdict(list)
    names = tuple(sorted(_walk(folder, pattern, left_out)))
    return Listing(names, {reason: sorted(paths) for reason, paths in sorted(left_out.items())})


def holds_images(folder: Path, pattern: Sequence[str] = ()) -> bool:
    """Return whether `list_images` would list an image; the search ends at the first."""
    return next(_walk(folder, pattern, defaultdict(list)), None) is not None


def _walk(folder: Path, pattern: Sequence[str], left_out: dict[str, list[str]]) -> Iterator[str]:
    """Yield the images of `list_images`, unsorted, and add to `left_out` what is none."""
    seen: set[tuple[int, int]] = set()
    links: deque[tuple[str, ...]] = deque([()])
    while links:
        inside = [links.popleft()]
        while inside:
            parts = inside.pop()
            for entry in _entries(folder, parts, seen, left_out):
                below = (*parts, entry.name)
                if not _may_lead_to(below, pattern):
                    continue
                is_link = entry.is_symlink()
                if entry.is_dir(follow_symlinks=False) or (is_link and os.path.isdir(entry.path)):
                    if is_hidden_folder(entry.name) and entry.name not in pattern:
                        left_out[HIDDEN].append("/".join(below) + "/")
                    else:
                        (links if is_link else inside).append(below)
                elif any(_matches(below[:k], pattern) for k in range(len(below) + 1)):
                    reason = why_left_out(entry.name, entry.name in pattern)
                    if not reason and is_atmviz_figure(entry.path):
                        reason = ATMVIZ_FIGURE
                    if reason:
                        left_out[reason].append("/".join(below))
                    else:
                        yield "/".join(below)


def _entries(
    folder: Path, parts: tuple[str, ...], seen: set[tuple[int, int]], left_out: dict[str, list[str]]
) -> list[os.DirEntry[str]]:
    """Return the entries of a folder below `folder`; none where it was seen before or may not be read."""
    path = folder.joinpath(*parts)
    try:
        stat = os.stat(path)
        entries = list(os.scandir(path))
    except OSError as error:
        if not parts:
            raise DatasetError(f"cannot read folder {folder} ({error.strerror}): allow it, or choose another") from None
        left_out[UNREADABLE].append("/".join(parts))
        return []
    identity = stat.st_dev, stat.st_ino
    if identity in seen:
        left_out[SEEN].append("/".join(parts))
        return []
    seen.add(identity)
    return entries


def why_left_out(name: str, named: bool = False) -> str | None:
    """Return why a file of this name does not count as an image, else None. `named`: the caller spelled it out."""
    if Path(name).suffix.lower() not in image_suffixes():
        return OTHER
    if name.startswith(".") and not named:
        return HIDDEN
    return MASK if _ADE20K_MASK.fullmatch(name) else None


def is_hidden_folder(name: str) -> bool:
    """Return whether a folder of this name is hidden or belongs to a tool, so that its files do not count."""
    return name.startswith(".") or name.lower() in _TOOL_FOLDERS


def is_atmviz_figure(path: str | Path) -> bool:
    """Return whether a file is a PNG or a GIF that atmviz wrote as a figure."""
    if not str(path).lower().endswith((".png", ".gif")) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return _FIGURE_MARK in file.read(4096)
    except OSError:
        return False


def describe_left_out(left_out: LeftOut) -> str:
    """Return `figures of atmviz: 2 (a.png, b.png); hidden or of a tool: 1 (@eaDir/)`, or "" where nothing is."""
    return "; ".join(f"{reason}: {len(names)} ({join_limited(names, 3)})" for reason, names in left_out.items())


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path matches a glob."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[k:], pattern[1:]) for k in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _may_lead_to(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a glob may match this path, a path below it or one above it."""
    for part, wanted in zip(parts, pattern, strict=False):
        if wanted == "**":
            return True
        if not fnmatchcase(part, wanted):
            return False
    return True
