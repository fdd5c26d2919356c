"""ADE20K's masks: the class of every pixel. Torch-free."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from atmviz.architecture import IGNORE_INDEX
from atmviz.errors import DatasetError, join_limited
from atmviz.sources.decoding import load_mask
from atmviz.sources.files import ImageFiles, file_fingerprint
from atmviz.sources.source import Truth


class Ade20kMasks:
    """The class of every pixel, 0 to 149, of the images of a folder; 255 for label 0 of the files, "other"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def masks(self) -> tuple[Path, str]:
        """Folder of the masks, and a line for people where it is beside the target of a link."""
        folders = [root.parents[1] / "annotations" / root.name for root in (self.folder, self.folder.resolve())]
        if os.path.isdir(folders[1]) and not os.path.isdir(folders[0]):
            return folders[1], f"{self.folder} is a link: taking the annotations {folders[1]} beside its target"
        return folders[0], ""

    def mask(self, name: str) -> Path:
        """Return the path of an image's mask."""
        return (self.masks[0] / name).with_suffix(".png")

    def truth(self, images: ImageFiles, index: int) -> Truth:
        """Return the class of every pixel; raise DatasetError for a damaged mask or labels over 150."""
        file = self.mask(images.names[index])
        mask = load_mask(file)
        if mask.max(initial=0) > 150:
            raise DatasetError(
                f"mask {file} has labels up to {int(mask.max())}, expected 0 to 150: "
                "take ADEChallengeData2016, not the full ADE20K"
            )
        return Truth(segments=np.where(mask == 0, IGNORE_INDEX, mask - 1).astype(np.uint8))

    def require(self, images: ImageFiles) -> str:
        """Raise DatasetError if images have no mask; return a line for people on where masks are."""
        if missing := [name for name in images.names if not self.mask(name).is_file()]:
            raise DatasetError(
                f"{len(missing)} of {len(images)} images have no mask in {self.masks[0]} ({join_limited(missing, 3)}): "
                "expected annotations/{training,validation}/*.png beside images; unpack them too"
            )
        return self.masks[1]

    def fingerprint(self, images: ImageFiles, index: int) -> str:
        """Return size and time of an image's mask."""
        return file_fingerprint(self.mask(images.names[index]))
