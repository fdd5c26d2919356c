"""Images within tar files. Torch-free."""

import os
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atmviz.errors import DatasetError, summarize
from atmviz.sources.decoding import MAX_IMAGE_BYTES, unreadable
from atmviz.sources.files import ImageFiles
from atmviz.sources.listing import HIDDEN, is_hidden_folder, why_left_out


@dataclass(frozen=True)
class TarImages(ImageFiles):
    """Images of class folders within a tar file, or within tar files in it, one per class, as ImageNet is published.

    `folder` is the tar file.

    Attributes:
        ranges: First byte and number of bytes of each image's content in the file, by name.
    """

    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path) -> "TarImages":
        """List the images by the rule for folders, without the folders that all of them share.

        Raises:
            DatasetError: the file is damaged or no plain tar file (compressed ones are not).
        """
        ranges: dict[str, tuple[int, int]] = {}
        left_out: dict[str, list[str]] = defaultdict(list)

        def search(tar: tarfile.TarFile, prefix: str, start: int) -> None:
            for member in tar:
                name = os.path.normpath(prefix + member.name).lstrip("/")
                *folders, last = name.split("/")
                if not member.isreg() or member.issparse():
                    continue
                if last.endswith(".tar") and not prefix:
                    with tarfile.open(fileobj=tar.extractfile(member), mode="r:") as inner:
                        search(inner, f"{name.removesuffix('.tar')}/", member.offset_data)
                elif reason := HIDDEN if any(map(is_hidden_folder, folders)) else why_left_out(last):
                    left_out[reason].append(name)
                else:
                    ranges[name] = (start + member.offset_data, member.size)

        try:
            with tarfile.open(file, "r:") as tar:
                search(tar, "", 0)
        except (OSError, ValueError, OverflowError, tarfile.TarError) as error:
            raise DatasetError(f"cannot read {file} ({summarize(error)}): pack it again as plain tar") from None
        names = sorted(ranges)
        above = os.path.commonpath([os.path.dirname(os.path.dirname(name)) for name in names]) if names else ""
        shown = {os.path.relpath(name, above or "."): ranges[name] for name in names}
        return cls(str(file), file, tuple(shown), left_out, ranges=shown)

    def content(self, index: int) -> bytes:
        """Return the bytes of an image; raise DatasetError for an absurd size."""
        first, length = self.ranges[self.names[index]]
        if length > MAX_IMAGE_BYTES:
            too_large = ValueError(f"{length:,} bytes, larger than {MAX_IMAGE_BYTES:,}")
            raise unreadable("image", self.path(index), too_large)
        with open(self.folder, "rb") as file:
            file.seek(first)
            return file.read(length)
