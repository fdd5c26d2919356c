"""What decides a recording besides images and network. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from atmviz.geometry import Preprocessing, parse_size
from atmviz.settings import require_ranges, setting
from atmviz.sources.datasets import DATASETS, preprocessing_for


@dataclass(frozen=True)
class RecordingSettings:
    """How images are recorded.

    Attributes:
        layers: Layers, by name or pattern; all without it. See `atmviz.layers.select_layers`.
        query: The token whose offsets are kept: "center", fractions of the input ("0.3,0.6") or "ROW:COL".
        size: Input size in px: 224, (600, 800) or "600x800"; without it the size of the paper's figures for a dataset,
            224 x 224 for files.
        fit: "crop" covers the size and cuts the center; "squash" stretches.
        batch_size: Images per forward pass; batches do not reach across the chunks of 64 images.
        workers: Processes that decode images; chosen from the number of images and cores without it.
        shard: "K/N" records the K-th of N parts; N machines with one folder fill one recording.
        strict: Fail at the first unreadable image instead of leaving it out.

    Raises:
        ValueError: a value outside its range.
    """

    layers: tuple[str, ...] = setting((), "Layers: 3_18, 3_*, 3_last, all; repeatable.", "Model", flags=("--layer",))
    query: str = setting("center", "center, fractions X,Y of the input, or ROW:COL in tokens.", "Model")
    size: str | int | tuple[int, int] | None = setting(
        None, "Input size in px: 224, or HEIGHTxWIDTH as in 600x800.", "Data"
    )
    fit: Literal["crop", "squash"] = setting(
        "crop",
        "crop: cover the size (with a margin of an eighth up to 384 px), cut the center. squash: stretch.",
        "Data",
    )
    batch_size: int = setting(8, "Images per forward pass.", "Model", 1, flags=("--batch-size", "-b"))
    workers: int | None = setting(None, "Processes that decode images.", "Model", 0, flags=("--workers", "-j"))
    shard: str = setting("1/1", "K/N: record the K-th of N parts; all may share one folder.", "Data")
    strict: bool = setting(False, "Fail at the first unreadable image instead of leaving it out.", "Data")

    def __post_init__(self) -> None:
        require_ranges(self)
        if self.fit not in ("crop", "squash"):
            raise ValueError(f"got fit {self.fit!r}, expected crop or squash: a recording needs one map size")
        self.part  # noqa: B018  raises for a shard of another form
        self.input_size  # noqa: B018

    @property
    def part(self) -> tuple[int, int]:
        """The shard as (K, N), from 1."""
        try:
            part, parts = (int(number) for number in self.shard.split("/"))
        except ValueError:
            part = parts = 0
        if not 1 <= part <= parts:
            raise ValueError(f"got shard {self.shard!r}, expected K/N with K from 1 to N, as in 2/4")
        return part, parts

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Input height and width, px; None for the default."""
        return None if self.size is None else parse_size(self.size)

    def preprocessing(self, title: str) -> Preprocessing:
        """How the images of a source of that title are fitted."""
        return preprocessing_for(title if title in DATASETS else None, self.input_size, self.fit)
