"""Files of torch.save: zip archives, and the pickles that torch wrote before 1.6."""

import io
import mmap
import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from atmviz.checkpoints.pickles import STORAGES, Storage, interpret, require_text
from atmviz.checkpoints.stored import dtype_of
from atmviz.errors import CheckpointError

_OLD_MAGIC = (0x1950A86A20F9469CFC6C, 1001)  # magic number and protocol


class FileContent:
    """Reads the bytes of an open file. They are readable after the file is deleted; a truncated file is an error."""

    def __init__(self, file: BinaryIO) -> None:
        self.raw = io.FileIO(os.dup(file.fileno()), closefd=False)

    def __del__(self) -> None:
        os.close(self.raw.fileno())

    def fill(self, buffer: Any, start: int) -> None:
        """Fill a buffer with the bytes from `start` on.

        Raises:
            ValueError: the file ends before the buffer is full.
        """
        self.raw.seek(start)
        view = memoryview(buffer).cast("B")
        while len(view):
            count = self.raw.readinto(view)
            if not count:
                raise ValueError("it ends early")
            view = view[count:]

    def read(self, start: int, length: int) -> bytearray:
        """Return `length` bytes from `start` on.

        Raises:
            ValueError: the file ends before.
        """
        if start + length > os.fstat(self.raw.fileno()).st_size:
            raise ValueError("it ends early")
        data = bytearray(length)
        self.fill(data, start)
        return data


def read_archive(file: BinaryIO, path: Path) -> Any:
    """Read a zip archive of torch.save: one pickle and one uncompressed record per storage.

    Raises:
        CheckpointError: it is an archive of something else, or a TorchScript program.
        ValueError, KeyError, struct.error, zipfile.BadZipFile: it is damaged.
    """
    archive, content = zipfile.ZipFile(file), FileContent(file)
    records = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if not pickles:
        raise CheckpointError(
            f"{path} is a zip archive without a PyTorch checkpoint: unpack it, and give the file of weights"
        )
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in records:
        raise CheckpointError(f"{path} is a program (TorchScript), expected a state dict: save it from the network")

    def locate(name: str) -> tuple[int, int]:
        """Return start and length of a record. zipfile itself refuses archives saved without checksums."""
        info = records[root + name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        lengths = struct.unpack("<HH", content.read(info.header_offset + 26, 4))
        return info.header_offset + 30 + sum(lengths), info.file_size

    order = bytes(content.read(*locate("byteorder"))) if f"{root}byteorder" in records else b"little"
    storages: dict[str, Storage] = {}

    def open_storage(saved: Any) -> Storage:
        _, name, key = saved[:3]
        if require_text(key) not in storages:
            start, length = locate(f"data/{key}")
            storages[key] = Storage(STORAGES[name.text], content, start, length, order.decode() != sys.byteorder)
        return storages[key]

    return interpret(content.read(*locate("data.pkl")), open_storage)


def read_old_pickles(file: BinaryIO) -> Any:
    """Read the format before torch 1.6: five pickles, then the length and the values of each storage.

    Raises:
        ValueError, KeyError, TypeError, struct.error: it is damaged, or another kind of file.
    """
    storages: dict[str, Storage] = {}
    content = FileContent(file)

    def open_storage(saved: Any) -> Storage:
        _, name, key, _, _, view = saved
        if view is not None:
            raise ValueError("a view of a storage")
        return storages.setdefault(require_text(key), Storage(STORAGES[name.text], content))

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, protocol, _system = (interpret(data, open_storage) for _ in range(3))
        if (magic, protocol) != _OLD_MAGIC:
            raise ValueError("no file of torch.save")
        value, keys = interpret(data, open_storage), interpret(data, open_storage)
        for key in keys:
            storage = storages[require_text(key)]
            (length,) = struct.unpack("<q", data.read(8))
            storage.start, storage.nbytes = data.tell(), length * dtype_of(storage.kind).itemsize
            data.seek(storage.start + storage.nbytes)
    return value
