"""The checkpoints that people may have: which are public, and where. Torch-free.

Source: the authors' page; results are those that it prints, of averaged weights for the classifiers.
"""

from dataclasses import dataclass

AUTHORS_PAGE = "https://github.com/microsoft/ActiveMLP"
_LINKED, _NOT_PUBLIC = "authors' page", "not public"


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """A checkpoint of the paper's networks, or the bundled one.

    Attributes:
        model: What `load_model` calls the network in it.
        trained_on: Dataset.
        result: What its authors measured.
        where: Where the file is.
        is_public: Whether anyone can get it.
    """

    model: str
    trained_on: str
    result: str
    where: str
    is_public: bool = True


RELEASED = (
    ReleasedCheckpoint("atmnet_xtiny", "ImageNet-1K", "79.7 % top-1", _LINKED),
    ReleasedCheckpoint("atmnet_tiny", "ImageNet-1K", "82.0 % top-1", _LINKED),
    ReleasedCheckpoint("atmnet_small", "ImageNet-1K", "83.1 % top-1", _NOT_PUBLIC, is_public=False),
    ReleasedCheckpoint("atmnet_base", "ImageNet-1K", "83.5 % top-1", _NOT_PUBLIC, is_public=False),
    ReleasedCheckpoint("atmnet_large", "ImageNet-1K", "83.8 % top-1", _LINKED),
    ReleasedCheckpoint("upernet(atmnet_large)", "ADE20K", "51.1 % mIoU, multi-scale", _LINKED),
    ReleasedCheckpoint("atmnet_nano.shapes", "synthetic scenes", "97.0 % top-1", "bundled"),
)
