"""What decides a recording besides images and network. Torch-free."""

from dataclasses import dataclass

from atmviz.choices import FitChoice
from atmviz.errors import SettingsError
from atmviz.geometry import Preprocessing
from atmviz.settings import as_tuple, require_ranges, setting


@dataclass(frozen=True)
class RecordingSettings(FitChoice):
    """How images are recorded, besides `size` and `fit`.

    Attributes:
        layers: Layers, by name or pattern; all without it. See `atmviz.layers.select_layers`.
        query: The token whose offsets are kept: "center", fractions of the input ("0.3,0.6") or "ROW:COL".
        batch_size: Images per forward pass; batches do not reach across the chunks of 64 images.
        workers: Processes that decode images; chosen from the number of images and cores without it.
        shard: "K/N" records the K-th of N parts; N machines with one folder fill one recording.
        strict: Fail at the first unreadable image instead of leaving it out.

    Raises:
        SettingsError: a value outside its range.
    """

    layers: tuple[str, ...] = setting((), "Layers: 3_18, 3_*, 3_last, all; repeatable.", "Model", flags=("--layer",))
    query: str = setting("center", "center, fractions X,Y of the input, or ROW:COL in tokens.", "Model")
    batch_size: int = setting(8, "Images per forward pass.", "Model", 1, flags=("--batch-size", "-b"))
    workers: int | None = setting(None, "Processes that decode images.", "Model", 0, flags=("--workers", "-j"))
    shard: str = setting("1/1", "K/N: record the K-th of N parts; all may share one folder.", "Data")
    strict: bool = setting(False, "Stop at the first unreadable image.", "Data")

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_tuple(self.layers))
        require_ranges(self, SettingsError)
        self.for_recording()  # raises for a size or fit that no recording has
        self.part  # noqa: B018  raises for a shard of another form

    @property
    def part(self) -> tuple[int, int]:
        """The shard as (K, N), from 1."""
        try:
            part, parts = (int(number) for number in str(self.shard).split("/"))
        except ValueError:
            part = parts = 0
        if not 1 <= part <= parts:
            raise SettingsError(f"got shard {self.shard!r}, expected K/N with K from 1 to N, as in 2/4")
        return part, parts

    def preprocessing_of(self, title: str) -> Preprocessing:
        """Return how the images of a source of that title are fitted."""
        from atmviz.sources import DATASETS

        return self.for_recording(title if title in DATASETS else None)
