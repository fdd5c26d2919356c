"""Which network, which images and which input size: settings that recordings and figures share. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atmviz.errors import DatasetError, SettingsError
from atmviz.events import QUIET, Events
from atmviz.geometry import Fit, Preprocessing, parse_size
from atmviz.settings import setting

if TYPE_CHECKING:
    from torch import nn

    from atmviz.sources import Source

DEFAULT_MODEL = "atmnet_nano.shapes"
"""The demonstration model, which comes with atmviz."""
DatasetName = Literal["ade20k", "coco", "imagenet", "shapes", "digits"]
Size = tuple[int, int] | int | str


@dataclass(frozen=True)
class ModelChoice:
    """Which weights, and the device they run on."""

    checkpoint: str = setting(
        DEFAULT_MODEL,
        "A checkpoint file of any public layout; or a variant's name for random weights.",
        "Model",
        flags=("--checkpoint", "-c"),
    )
    model: str | None = setting(
        None, "Expected variant; stop if the checkpoint holds another.", "Model", flags=("--model", "-m")
    )
    weights: Literal["ema", "model"] | None = setting(
        None, "ema (averaged) or model; by default ema if the file has it.", "Model"
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Model")

    def load(self, network: "nn.Module | str | Path | None" = None, events: Events = QUIET) -> "nn.Module":
        """Return a network as it is, or load it; a path or name replaces `checkpoint`. See `atmviz.load_model`.

        Raises:
            SettingsError: settings of this class for a network that is loaded already.
        """
        if network is not None and not isinstance(network, str | Path):
            if self != ModelChoice():
                raise SettingsError(f"got a network and {self}, expected one of the two")
            return network
        from atmviz.checkpoints import load_model

        checkpoint = self.checkpoint if network is None else network
        return load_model(checkpoint, model=self.model, weights=self.weights, device=self.device, events=events)


@dataclass(frozen=True)
class DataChoice:
    """Which images."""

    dataset: DatasetName | None = setting(  # noqa: RUF009
        None, "A dataset: a public one in its published folders, or shapes or digits, which need no files.", "Data"
    )
    data_dir: Path | str | None = setting(  # noqa: RUF009
        None, "Folder of the dataset; else $ATMVIZ_DATA, else ./data.", "Data", flags=("--data-dir", "--data-path")
    )
    split: Literal["val", "train"] = setting("val", "Part of the dataset.", "Data")
    limit: int | None = setting(None, "This many images: a random sample; of shapes, the first ones.", "Data", 1)
    seed: int = setting(0, "Seed of random samples and of random queries.", "Data", 0)

    def open(
        self,
        source: "Source | str | Path | Sequence[str | Path] | None" = None,
        size: tuple[int, int] | None = None,
        events: Events = QUIET,
    ) -> "Source":
        """Return the images.

        Args:
            source: An opened source, or paths: files, folders, globs. A text alone may also name a dataset. Without it
                and without `dataset`, the bundled photographs.
            size: Input size (height, width) px of the network, at which scenes are drawn.
            events: Receives what was left out, and whether fewer images than `limit` exist.

        Raises:
            SettingsError: both paths and a dataset, a data folder without a dataset, or an array as source.
            DatasetError: no such dataset, path or image.
        """
        from atmviz.sources import DATASETS, open_source

        if isinstance(source, str) and source in DATASETS and not self.dataset:
            return replace(self, dataset=source).open(size=size, events=events)  # type: ignore[arg-type]
        if source is not None and not isinstance(source, str | Path | Sequence):
            if not hasattr(source, "read"):
                raise SettingsError(f"got {type(source).__name__} as source, expected paths or an opened source")
            return source.sample(self.limit, self.seed) if self.limit else source
        paths = [source] if isinstance(source, str | Path) else list(source or [])
        if other := [path for path in paths if not isinstance(path, str | Path)]:
            raise SettingsError(f"got {type(other[0]).__name__} among the images, expected paths")
        if source is not None and not paths:
            raise DatasetError("got an empty list of images, expected files, folders or globs")
        if paths and self.dataset:
            raise SettingsError(f"got {paths[0]} and dataset {self.dataset}, expected one of the two")
        if self.data_dir and not self.dataset:
            raise SettingsError("got a data folder without a dataset, expected both, or the folder in place of images")
        images = open_source(
            self.dataset or paths or None, data_dir=self.data_dir, split=self.split, seed=self.seed, size=size
        )
        if images.note:
            events.message(images.note)
        if self.limit and len(images) < self.limit:
            events.message(f"only {len(images)} images exist: all are taken instead of {self.limit}")
        return images.sample(self.limit, self.seed) if self.limit else images


@dataclass(frozen=True)
class FitChoice:
    """How images are fitted to the network."""

    size: Size | None = setting(  # noqa: RUF009
        None, "Input size in px: 224, or HEIGHTxWIDTH as in 600x800; by default the dataset's, else 224.", "Data"
    )
    fit: Fit | None = setting(  # noqa: RUF009
        None,
        "crop: cover the size (with a margin of an eighth up to 384 px) and cut the center. squash: stretch. "
        "whole: keep all, shorter side = size.",
        "Data",
    )

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Input height and width, px; None for the default."""
        return None if self.size is None else parse_size(self.size)

    def preprocessing(self, dataset: str | None = None, default_fit: Fit = "crop") -> Preprocessing:
        """Return the preprocessing for a dataset, or for image files without it; see `preprocessing_for`.

        Raises:
            SettingsError: the size is no size.
        """
        from atmviz.sources import preprocessing_for

        return preprocessing_for(dataset, self.input_size, self.fit or default_fit)

    def for_recording(self, dataset: str | None = None) -> Preprocessing:
        """Return the preprocessing of a recording, whose images all need one map size.

        Raises:
            SettingsError: the size is no size, or images are to be kept whole.
        """
        if self.fit == "whole":
            raise SettingsError("got fit whole, expected crop or squash: all images of a recording need one map size")
        return self.preprocessing(dataset)
