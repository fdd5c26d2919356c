"""Settings of the figures. Torch-free, without matplotlib: commands read their options from here."""

from dataclasses import dataclass

from atmviz.choices import FitChoice
from atmviz.errors import SettingsError
from atmviz.geometry import Anchor
from atmviz.paper import FIGURES, FigurePreset
from atmviz.settings import as_tuple, setting
from atmviz.statistics import TokenSelection

NOT_RECORDED = ("layers", "query", "shard")
"""Fields of `RecordingSettings` that a recording for a histogram leaves as they are: it holds all layers."""


@dataclass(frozen=True)
class OverlaySettings(FitChoice):
    """What an overlay shows (Fig. 5); images are kept whole without another `fit`."""

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
    strict: bool = setting(False, "Stop at the first unreadable image.", "Data")

    def __post_init__(self) -> None:
        for name in ("layers", "queries"):
            object.__setattr__(self, name, as_tuple(getattr(self, name)))
            if not getattr(self, name):
                raise SettingsError(f"got no {name}, expected at least one")
        self.input_size  # noqa: B018  raises for a size of another form


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
            raise SettingsError(f"got figure {self.figure!r}, expected 3, 6 or 7 (Fig. 5 is an overlay)")

    @property
    def preset(self) -> FigurePreset | None:
        """The figure of the paper that is asked for."""
        return None if self.figure is None else FIGURES[self.figure]
