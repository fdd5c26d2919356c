"""Write files atomically, find checkpoints and the cache folder, tell the kinds of files apart."""

import codecs
import csv
import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

from atmviz.errors import AtmvizError, CheckpointError, SettingsError, nearest, printable, require_type
from atmviz.hub import HubAddress, is_hub_address
from atmviz.variants import VARIANTS

try:
    VERSION = version("atmviz")
except PackageNotFoundError:  # run from a checkout that was not installed
    VERSION = "from a checkout"
SOFTWARE = f"atmviz {VERSION}"  # named as the producer in the metadata of figures
_LOCK = ".lock"
_MAX_HEADER_BYTES = 2**25  # of a safetensors file
_MOST_COMPARED = 10_000  # names of a folder with which a misspelled one is compared
_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".safetensors")
BUNDLED_CHECKPOINTS: tuple[str, ...] = ("atmnet_nano.shapes",)  # in assets/models, each with its model card


def file_name(text: str, limit: int = 180) -> str:
    """Return a file name without suffix, of at most `limit` bytes, for a file about `text`.

    Letters, marks and digits of any script are kept, and so are spaces and -_.,+=@ inside the name; anything else
    becomes "-". A name that differs from the text, or that ends like a fingerprint, gets a fingerprint of the text as
    its end, so that two texts never share a file.
    """
    kept = (c if unicodedata.category(c)[0] in "LMN" or c in " -_.,+=@" else "-" for c in text)
    name = unicodedata.normalize("NFC", "".join(kept)).strip(" .-")
    if name and name == text and len(name.encode()) <= limit and not re.search("(^|-)[0-9a-f]{10}$", name):
        return name
    end = "-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    start = name.encode()[: limit - len(end)].decode("utf-8", "ignore").rstrip(" .-")
    return (start + end).lstrip("-")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path, moved onto `path` when the block succeeds and removed when it fails."""
    with temporary_folder(path.parent) as folder:
        yield folder / path.name
        os.replace(folder / path.name, path)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in `parent` with a random name, closed to other users, and remove it at the end.

    When the block succeeds, the temporary folders that killed processes left in `parent` are removed too.
    """
    from filelock import FileLock  # as slow to import as this package

    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(".partial", ".atmviz-", parent))
        lock = FileLock(folder / _LOCK)
        with suppress(OSError, NotImplementedError):  # without locks in the file system, leftovers stay
            lock.acquire()
        if folder.exists():  # else another process removed it as a leftover before it was locked
            break
    _temporaries.add(folder)
    try:
        yield folder
        clear_leftovers(parent)
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        _temporaries.discard(folder)


_temporaries: set[Path] = set()


def remove_temporaries() -> None:
    """Remove all temporary folders in use; for a process that ends without leaving their blocks."""
    for folder in list(_temporaries):
        shutil.rmtree(folder, ignore_errors=True)


@cache
def clear_leftovers(parent: Path) -> None:
    """Remove the temporary folders in `parent` that killed processes of this user left; once per process."""
    from filelock import FileLock, Timeout

    user = os.geteuid() if hasattr(os, "geteuid") else 0  # the owner of all files on Windows
    for folder in parent.glob(".atmviz-*.partial"):
        with suppress(Timeout, NotImplementedError, OSError):
            if folder.lstat().st_uid != user or folder.is_symlink():
                continue  # another user's
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """Return `$ATMVIZ_CACHE` or else the user's cache folder, and make it. Deleting it loses nothing but time."""
    if named := os.environ.get("ATMVIZ_CACHE"):
        folder = Path(named)
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("atmviz")
    folder.mkdir(0o700, parents=True, exist_ok=True)  # closed to other users, as the XDG specification asks
    return folder


def read_limited(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. A pipe is refused at once, without waiting for its writer.

    Raises:
        OSError: the path is not a regular file, cannot be read, or holds more than `limit` bytes.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes, larger than {limit:,}", str(path))
        return file.read(size)


def read_start(path: Path, size: int) -> bytes:
    """Read the first `size` bytes of a regular file; raise OSError as `read_limited` does."""
    with _opened(path) as file:
        return file.read(size)


def _opened(path: Path) -> BinaryIO:
    """Return an opened regular file; raise OSError for anything else."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return file


@contextmanager
def readable_name(path: Path) -> Iterator[str]:
    """Give a name of a file to libraries that take UTF-8 alone: its own, or of a link to it while the block runs."""
    name = str(path.absolute())
    if printable(name) == name:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, f"file{path.suffix}")
        link.symlink_to(name)
        yield str(link)


def check_writable(path: Path) -> None:
    """Check before long work that a file can be written at `path`.

    Raises:
        AtmvizError: its folder is write-protected, or is a file.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "is write-protected" if folder.is_dir() else "is no folder"
        raise AtmvizError(f"cannot write {path} ({folder} {reason}): choose another path")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same columns as a CSV file, atomically; without rows, write no file."""
    if not rows:
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def find_checkpoint(path_or_name: str | Path, random: bool = True) -> Path:
    """Return the path of a checkpoint file, given as a path, a bundled one's name or an address on the Hub.

    Args:
        path_or_name: The path or name, or an address like hf://user/repo, from which the file is fetched.
        random: Whether the name of a variant, for random weights, would do too: the error says so.

    Raises:
        SettingsError: something else than a path or a name, or there is no such name.
        CheckpointError: there is no such file, or it cannot be fetched.
    """
    require_type(path_or_name, str | Path, "a checkpoint", "a file, or the name of a bundled one or of a variant")
    if str(path_or_name) in BUNDLED_CHECKPOINTS:
        return Path(str(resources.files("atmviz_assets") / "models" / f"{path_or_name}.safetensors"))
    path = HubAddress.parse(path_or_name).fetch() if is_hub_address(path_or_name) else Path(path_or_name)
    if path.is_dir():
        best = path / "best.safetensors"
        expected = f"a file in it: {best}" if best.is_file() else "a checkpoint file"
        raise CheckpointError(f"{path} is a folder, expected {expected}")
    if not path.is_file():
        expected, names = f"a path, or {', '.join(BUNDLED_CHECKPOINTS)}", BUNDLED_CHECKPOINTS
        if random:
            names += tuple(VARIANTS)
            expected += f", or one of {', '.join(VARIANTS)} for random weights, also as mask_rcnn(atmnet_tiny)"
        kind = CheckpointError if path.suffix in _CHECKPOINT_SUFFIXES or path.name != str(path) else SettingsError
        raise kind(f"no checkpoint file {path}: expected {expected}{_nearest_to(path, names)}")
    with suppress(PermissionError), path.open("rb") as file:
        head = file.read(512)
        if head.removeprefix(codecs.BOM_UTF8)[:1] != b"{":  # else it may be an index of weights
            require_tensors(head, path)
        _require_whole(file, head, path)
    return path


def require_tensors(head: bytes, path: Path) -> None:
    """Raise CheckpointError if the first 512 bytes of a file are those of another kind than a checkpoint."""
    if problem := foreign_content(head):
        remedy = "" if ":" in problem else ", expected a checkpoint: choose another file"
        raise CheckpointError(f"{path} is {problem}{remedy}")
    if head[:1] not in b"P\x80" and head.isascii() and b"\0" not in head:
        raise CheckpointError(f"{path} is a text file, expected a checkpoint: copy or download it again")


def _require_whole(file: BinaryIO, head: bytes, path: Path) -> None:
    """Raise CheckpointError if a file of torch.save or safetensors was cut off."""
    size, header_bytes, needed = path.stat().st_size, int.from_bytes(head[:8], "little"), 0
    if head[8:9] == b"{" and header_bytes < _MAX_HEADER_BYTES:
        with suppress(ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):  # else said later
            file.seek(8)
            header = json.loads(file.read(header_bytes))
            needed = (
                8
                + header_bytes
                + max(int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__")
            )
    if needed > size or (head[:2] == b"PK" and not zipfile.is_zipfile(file)):
        kind = "safetensors file" if needed else "zip archive"
        raise CheckpointError(f"{path} is not a whole {kind}: copy or download it again")


def near_path(path: str | Path, suffixes: tuple[str, ...] = ("",)) -> str:
    """Return "; did you mean X?" for the name nearest to the first part of a path that is not there, or nothing."""
    missing = Path(path)
    while missing != missing.parent and not missing.parent.exists():
        missing = missing.parent
    try:
        names = [name for name in os.listdir(missing.parent) if name.endswith(suffixes)]
    except OSError:
        return ""
    near = difflib.get_close_matches(missing.name, names, 1, 0.7) if len(names) <= _MOST_COMPARED else []
    if not near:
        return ""
    found = missing.with_name(near[0])
    whole = found / Path(path).relative_to(missing)
    return f"; did you mean {printable(str(whole if whole.exists() else found))}?"


def _nearest_to(path: Path, known: Sequence[str]) -> str:
    """Return "; did you mean X?" for a name, or for a checkpoint in the folder of the path."""
    if near := near_path(path, _CHECKPOINT_SUFFIXES):
        return near
    if path.suffix in _CHECKPOINT_SUFFIXES:
        return ""
    return nearest(str(path).lower().replace("-", "_"), known)


_SIGNATURES = (  # first bytes of files that people give by mistake, and what to do
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull where it came from"),
    (b"PAR1", "a Parquet table"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them: get the weights for PyTorch"),
    (b"GGUF", "a GGUF file: get the weights for PyTorch"),
    (b"\x93NUMPY", "one numpy array, not named tensors"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"%PDF", "a PDF document"),
)
CLIP_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # the first one of MP4 and QuickTime
ESTIMATED = (MATROSKA := b"\x1a\x45\xdf\xa3", MPEG := b"\0\0\1\xba")
"""First bytes of clips that do not say how many frames they have."""
_STILLS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # whose first box is that of an MP4
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


def is_video(head: bytes) -> bool:
    """Return whether a file is an MP4, QuickTime, Matroska, WebM, AVI or MPEG clip, from its first 12 bytes."""
    is_mp4 = head[4:8] in CLIP_BOXES and head[8:12] not in _STILLS
    return is_mp4 or (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or head.startswith(ESTIMATED)


def foreign_content(head: bytes) -> str | None:
    """Say what a file of a foreign kind is and what to do, from its first 512 bytes; None where they do not tell.

    >>> foreign_content(b"<!DOCTYPE html>")
    'a web page, not the file itself: log in where it came from, or download it again by its own link'
    """
    if not head:
        return "empty: copy or download it again"
    for signature, description in _SIGNATURES:
        if head.startswith(signature):
            return description
    if head.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(_PAGES):
        return "a web page, not the file itself: log in where it came from, or download it again by its own link"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if head[:1] == b"\x08" and head[2:3] == b"\x12" and (b"pytorch" in head or b"onnx" in head):
        return "an ONNX file, which holds a program: get the weights it was made from"
    if is_video(head):
        return "a clip, which only an overlay takes: take its frames out as images"
    return None


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
