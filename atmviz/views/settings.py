"""Settings of the figures. Torch-free, without matplotlib: commands read their options from here."""

from collections.abc import Sequence
from dataclasses import dataclass

from atmviz.errors import SettingsError
from atmviz.geometry import Anchor, Fit, Preprocessing, parse_size
from atmviz.paper import FIGURES, FigurePreset
from atmviz.settings import setting
from atmviz.sources.datasets import preprocessing_for
from atmviz.statistics import TokenSelection

NOT_RECORDED = ("layers", "query", "shard")
"""Fields of `RecordingSettings` that a recording for a histogram leaves as they are: it holds all layers."""


def as_tuple(values: Sequence[str] | str) -> tuple[str, ...]:
    """Return several texts as they are, and a single one as the only one of several."""
    return (values,) if isinstance(values, str) else tuple(values)


@dataclass(frozen=True)
class OverlaySettings:
    """What an overlay shows (Fig. 5)."""

    layers: tuple[str, ...] = setting(
        ("3_last",),
        "Layers, one panel each: 3_18, 2_1,3_7, 3_*, 3_last, all; repeatable.",
        "Figure",
        flags=("--layer",),
    )
    queries: tuple[str, ...] = setting(
        ("center",),
        "center, X,Y in px, fractions 0.3,0.6, ROW:COL in tokens, grid:4x4, random:8; repeatable.",
        "Figure",
        flags=("--query", "-q"),
    )
    anchor: Anchor = setting(  # noqa: RUF009
        "cell", "Where a token is drawn: at the center of its cell, or of its receptive field (rf).", "Figure"
    )
    size: str | int | tuple[int, int] | None = setting(
        None, "Input size in px: 224, or HEIGHTxWIDTH as in 600x800.", "Data"
    )
    fit: Fit = setting(  # noqa: RUF009
        "whole",
        "crop: cover the size (with a margin of an eighth up to 384 px), cut the center. squash: stretch. "
        "whole: keep all, shorter side = size.",
        "Data",
    )
    strict: bool = setting(False, "Fail at the first unreadable image instead of leaving it out.", "Data")

    def __post_init__(self) -> None:
        for name in ("layers", "queries"):
            object.__setattr__(self, name, as_tuple(getattr(self, name)))
        self.preprocessing()  # raises ValueError for a size or fit of another form

    def preprocessing(self, dataset: str | None = None) -> Preprocessing:
        """Return how images of a dataset, or image files, are fitted."""
        return preprocessing_for(dataset, None if self.size is None else parse_size(self.size), self.fit)


@dataclass(frozen=True)
class HistogramSettings:
    """What a histogram shows (Figs. 3, 6, 7)."""

    layers: tuple[str, ...] = setting(
        (),
        "Layers: 3_18, 2_1,3_7, 3_*, 3_last, all; repeatable; by default 2_1,3_1,3_last.",
        "Figure",
        flags=("--layer",),
    )
    tokens: TokenSelection = setting(  # noqa: RUF009
        "center", "Offsets of the center token, or of all tokens.", "Figure"
    )
    figure: int | None = setting(
        None, "3, 6 or 7: dataset, size, layers and number of images of that figure of the paper.", "Figure"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_tuple(self.layers))
        if self.figure not in (None, *FIGURES):
            raise SettingsError(f"got figure {self.figure}, expected 3, 6 or 7 (Fig. 5 is an overlay)")

    @property
    def preset(self) -> FigurePreset | None:
        """The figure of the paper that is asked for."""
        return None if self.figure is None else FIGURES[self.figure]
