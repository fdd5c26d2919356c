"""Which network, which images and which input size: settings that recordings and figures share. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atmviz.architecture import INITIAL, is_architecture, require_named
from atmviz.errors import DatasetError, SettingsError, count, describe, require_type
from atmviz.events import QUIET, Events
from atmviz.files import BUNDLED_CHECKPOINTS, find_checkpoint
from atmviz.geometry import Fit, Preprocessing, parse_size
from atmviz.hub import HubAddress, is_hub_address
from atmviz.layers import Layers, offset_sources, select_layers
from atmviz.settings import Settings, read_device, setting
from atmviz.variants import VARIANTS

if TYPE_CHECKING:
    from torch import nn

    from atmviz.sources import Source

DEFAULT_MODEL = "atmnet_nano.shapes"
"""The demonstration model, which comes with atmviz."""
DatasetName = Literal["ade20k", "coco", "imagenet", "shapes", "digits"]
CROP_OR_SQUASH = "crop: cover the size (with a margin of an eighth up to 384 px) and cut the center. squash: stretch."
"""The ways to fit images that give all of them one size."""


@dataclass(frozen=True)
class ModelChoice(Settings):
    """Which weights, and the device they run on."""

    checkpoint: str | Path = setting(  # noqa: RUF009
        DEFAULT_MODEL,
        "A checkpoint file of any public layout; hf://user/repo on the Hugging Face Hub; or a variant's name for "
        "random weights; init: before any gives the network as training begins.",
        "Model",
        flags=("--checkpoint", "-c"),
    )
    model: str | None = setting(
        None,
        "Expected variant; stop if the checkpoint holds another. By default any.",
        "Model",
        flags=("--model", "-m"),
    )
    weights: Literal["ema", "model"] | None = setting(
        None, "ema (averaged) or model; by default ema if the file has it.", "Model"
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Model", read=read_device)

    def load(
        self, network: "nn.Module | str | Path | None" = None, events: Events = QUIET, seed: int = 0
    ) -> "nn.Module":
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
        return load_model(
            checkpoint, model=self.model, weights=self.weights, device=self.device, seed=seed, events=events
        )

    def pinned(self) -> "ModelChoice":
        """Return the choice with the address of a commit in place of a branch, which may move between two readings."""
        path = str(self.checkpoint).removeprefix(INITIAL)
        if not is_hub_address(path):
            return self
        address = HubAddress.parse(path)
        initial = INITIAL * str(self.checkpoint).startswith(INITIAL)
        return replace(self, checkpoint=initial + address.at_commit(find_checkpoint(path)))

    def require(self, layers: Layers = ()) -> None:
        """Check what can be known of the checkpoint before torch is loaded and the file is read.

        Args:
            layers: Layers or patterns that a known variant must have.

        Raises:
            CheckpointError: there is no such file.
            SettingsError: there is no such variant.
            LayerNotFoundError: the variant has no such layer.
        """
        checkpoint = str(self.checkpoint).removeprefix(INITIAL)
        path, is_named = Path(checkpoint), is_architecture(checkpoint)
        if not is_named and not (path.is_dir() and (path / "best.safetensors").is_file()):
            find_checkpoint(checkpoint)
        if self.model:
            require_named(self.model)
        if is_named or checkpoint in BUNDLED_CHECKPOINTS:
            architecture = require_named(checkpoint)
            variant = VARIANTS.get(architecture.backbone.split(".")[0])
            if layers and variant and architecture.neck == "fpn":  # an ATMFpn has layers too
                sources = offset_sources(variant.depths, variant.offset_interval)
                select_layers(layers, [*map(str, sources)], [*map(str, dict.fromkeys(sources.values()))])


@dataclass(frozen=True)
class DataChoice(Settings):
    """Which images."""

    dataset: DatasetName | None = setting(  # noqa: RUF009
        None,
        "A public dataset in its published folders; or shapes or digits, which need no files. By default none.",
        "Data",
    )
    data_dir: Path | str | None = setting(  # noqa: RUF009
        None,
        "Folder of the dataset; by default $ATMVIZ_DATA, else ./data.",
        "Data",
        flags=("--data-dir", "--data-path"),
    )
    split: Literal["val", "train"] = setting("val", "Part of the dataset.", "Data")
    limit: int | None = setting(
        None, "Number of images, drawn at random; of shapes, the first ones. By default all.", "Data", 1
    )
    seed: int = setting(0, "Seed of random samples, of random queries and of random weights.", "Data", 0)

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
            SettingsError: both paths and a dataset, a data folder without a dataset, or a source of another kind.
            DatasetError: no such dataset, path or image.
        """
        from atmviz.sources import DATASETS, open_source

        if isinstance(source, str) and source in DATASETS and not self.dataset:
            return replace(self, dataset=source).open(size=size, events=events)  # type: ignore[arg-type]
        if source is not None and not isinstance(source, str | Path | Sequence):
            if not hasattr(source, "name"):
                raise SettingsError(f"got {describe(source)} as source, expected paths or an opened source")
            return source.sample(self.limit, self.seed) if self.limit else source
        images = open_source(
            self._name_or_paths(source), data_dir=self.data_dir, split=self.split, seed=self.seed, size=size
        )
        if images.note:
            events.message(images.note)
        if self.limit and len(images) < self.limit:
            events.message(f"got limit {self.limit}, but there are {count(len(images), 'image')}: all are taken")
        return images.sample(self.limit, self.seed) if self.limit else images

    def require(self, source: str | Path | Sequence[str | Path] | None = None) -> None:
        """Raise what `open` raises for images that are missing, without a list of all images."""
        from atmviz.sources.opening import require_source

        require_source(self._name_or_paths(source), self.data_dir, self.split)

    def _name_or_paths(self, source: Any) -> str | list[str | Path] | None:
        """Return the name of the dataset, or the paths, None for the bundled photographs."""
        paths = [source] if isinstance(source, str | Path) else list(source or [])
        for path in paths:
            require_type(path, str | Path, "an image", "a path: a file, a folder or a glob")
        if source is not None and not paths:
            raise DatasetError("got an empty list of images, expected files, folders or globs")
        if paths and self.dataset:
            raise SettingsError(f"got {paths[0]} and dataset {self.dataset}, expected one of the two")
        if self.data_dir and not self.dataset:
            raise SettingsError("got a data folder without a dataset, expected both, or the folder in place of images")
        return self.dataset or paths or None


@dataclass(frozen=True)
class FitChoice(Settings):
    """How images are fitted to the network.

    Attributes:
        size: Input height and width, px; made of 224, "224", "600x800" or (600, 800). None for the default.
        fit: See `Preprocessing`; None for the default.
    """

    size: tuple[int, int] | None = setting(
        None,
        "Input size in px: 224, or HEIGHTxWIDTH as in 600x800; by default the dataset's, else 224.",
        "Data",
        read=parse_size,
    )
    fit: Fit | None = setting(  # noqa: RUF009
        None, f"{CROP_OR_SQUASH} whole: keep all, shorter side = size. By default whole.", "Data"
    )

    def preprocessing(self, dataset: str | None = None, default_fit: Fit = "crop") -> Preprocessing:
        """Return the preprocessing for a dataset, or for image files without it; see `preprocessing_for`."""
        from atmviz.sources import preprocessing_for

        return preprocessing_for(dataset, self.size, self.fit or default_fit)
