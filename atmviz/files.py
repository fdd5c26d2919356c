"""Files that appear whole or not at all, and their fingerprints."""

import codecs
import csv
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atmviz.errors import AtmvizError, CheckpointError
from atmviz.variants import VARIANTS

SOFTWARE = f"atmviz {version('atmviz')}"  # what a figure's own metadata says made it
BUNDLED_CHECKPOINTS = ("atmnet_nano.shapes",)  # in assets/models, each with its model card


def file_name(text: str, limit: int = 180) -> str:
    """A name of at most `limit` bytes, without suffix, for a file about `text`.

    Letters, marks and digits of any script stay, and spaces and -_.,+=@ within; anything else becomes "-". A name that
    does not say all of the text ends in a fingerprint of it, so that two texts never share a file.
    """
    kept = (c if unicodedata.category(c)[0] in "LMN" or c in " -_.,+=@" else "-" for c in text)
    name = unicodedata.normalize("NFC", "".join(kept)).strip(" .-")
    if name and name == text and len(name.encode()) <= limit:
        return name
    end = "-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    start = name.encode()[: limit - len(end)].decode("utf-8", "ignore").rstrip(" .-")
    return (start + end).lstrip("-")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block succeeds and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    _temporaries.add(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _temporaries.discard(temporary)


_temporaries: set[Path] = set()


def remove_temporaries() -> None:
    """Remove the temporary files of all `atomic_path` blocks, before the process ends without leaving them."""
    for temporary in list(_temporaries):
        temporary.unlink(missing_ok=True)


def require_place(path: Path) -> None:
    """See, before long work, that a file could be written at `path`.

    Raises:
        AtmvizError: no, and why.
    """
    folder = next(one for one in path.absolute().parents if one.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "is write-protected" if folder.is_dir() else "is no folder"
        raise AtmvizError(f"cannot write {path} ({folder} {reason}): choose another place")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of one set of columns as CSV, whole or not at all; nothing where there are none."""
    if not rows:
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def find_checkpoint(path_or_name: str | Path) -> Path:
    """The file of a checkpoint: a path, or the name of one that travels with atmviz.

    Raises:
        CheckpointError: there is no such file.
    """
    if str(path_or_name) in BUNDLED_CHECKPOINTS:
        return Path(str(resources.files("atmviz_assets") / "models" / f"{path_or_name}.safetensors"))
    path = Path(path_or_name)
    if path.is_dir():
        best = path / "best.safetensors"
        wanted = f"a file of it: {best}" if best.is_file() else "a checkpoint file"
        raise CheckpointError(f"{path} is a folder, expected {wanted}")
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint file {path}: expected a path, {', '.join(BUNDLED_CHECKPOINTS)}, "
            f"or one of {', '.join(VARIANTS)} for untrained weights, also as mask_rcnn(atmnet_tiny)"
        )
    return path


_SIGNS = (  # first bytes of what is found in the place of data
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
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


def foreign_content(head: bytes) -> str | None:
    """What a file is that is no data of its kind, by its first 512 bytes, and what to do; None where they do not tell.

    >>> foreign_content(b"<!DOCTYPE html>")
    'a web page, not the file itself: log in where it came from, or download it again by its own link'
    """
    if not head:
        return "empty: copy or download it again"
    for sign, what in _SIGNS:
        if head.startswith(sign):
            return what
    if head.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(_PAGES):
        return "a web page, not the file itself: log in where it came from, or download it again by its own link"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if head[:1] == b"\x08" and head[2:3] == b"\x12" and (b"pytorch" in head or b"onnx" in head):
        return "an ONNX file, which holds a program: get the weights it was made from"
    return None


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
